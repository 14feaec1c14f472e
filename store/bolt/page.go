package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a bbolt file, version 2, in the byte order of the machine. It is
// read here without bbolt and without mapping the file, because bbolt trusts
// what it maps: a wrong page number ends in a fault or an endless loop.
const (
	pageHeaderLen = 16
	elementLen    = 16
	metaLen       = 64
	bucketLen     = 16

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	leafIsBucket = 0x01

	boltMagic   = 0xED0CDAED
	boltVersion = 2

	noFreelist = ^uint64(0)

	pageSizeMin, pageSizeMax = 1 << 10, 1 << 16
)

var native = binary.NativeEndian

// What can be wrong with a file; each needs another repair.
var (
	// errPage: a page is not what bbolt wrote.
	errPage = errors.New("damaged page")
	// errMeta: one of the two pages that name the last commits is damaged.
	errMeta = errors.New("damaged meta page")
	// errFreelist: the list of free pages is damaged, or not the truth.
	errFreelist = errors.New("damaged list of free pages")
	// errShort: the file ends before its last page.
	errShort = errors.New("truncated file")
)

// A page is one page of the file with its overflow pages.
type page []byte

func (p page) id() uint64       { return native.Uint64(p) }
func (p page) flags() uint16    { return native.Uint16(p[8:]) }
func (p page) count() int       { return int(native.Uint16(p[10:])) }
func (p page) overflow() uint64 { return uint64(native.Uint32(p[12:])) }

// slice returns n bytes at offset, or an error if they are not in the page.
func (p page) slice(offset, n uint64) ([]byte, error) {
	if offset > uint64(len(p)) || n > uint64(len(p))-offset {
		return nil, fmt.Errorf("%w: an element of %d bytes at %d is outside", errPage, n, offset)
	}
	return p[offset : offset+n], nil
}

// A leaf is an element of a leaf page.
type leaf struct {
	bucket     bool
	key, value []byte
}

func (p page) leaf(i int) (leaf, error) {
	at := uint64(pageHeaderLen + i*elementLen)
	e, err := p.slice(at, elementLen)
	if err != nil {
		return leaf{}, err
	}
	flags, pos := native.Uint32(e), uint64(native.Uint32(e[4:]))
	keyLen, valueLen := uint64(native.Uint32(e[8:])), uint64(native.Uint32(e[12:]))
	kv, err := p.slice(at+pos, keyLen+valueLen)
	if err != nil {
		return leaf{}, err
	}
	if flags&^leafIsBucket != 0 {
		return leaf{}, fmt.Errorf("%w: an element has the flags %#x", errPage, flags)
	}
	return leaf{bucket: flags == leafIsBucket, key: kv[:keyLen], value: kv[keyLen:]}, nil
}

// A branch is an element of a branch page.
type branch struct {
	child uint64
	key   []byte
}

func (p page) branch(i int) (branch, error) {
	at := uint64(pageHeaderLen + i*elementLen)
	e, err := p.slice(at, elementLen)
	if err != nil {
		return branch{}, err
	}
	key, err := p.slice(at+uint64(native.Uint32(e)), uint64(native.Uint32(e[4:])))
	return branch{child: native.Uint64(e[8:]), key: key}, err
}

// A meta is the content of a meta page.
type meta struct {
	pageSize uint64
	root     uint64
	freelist uint64
	pages    uint64 // the high-water mark: pages beyond it were never used
	txid     uint64
}

func parseMeta(p page) (meta, error) {
	b := p[pageHeaderLen : pageHeaderLen+metaLen]
	h := fnv.New64a()
	_, _ = h.Write(b[:metaLen-8])
	switch {
	case p.flags() != flagMeta:
		return meta{}, fmt.Errorf("it has the flags %#x", p.flags())
	case native.Uint32(b) != boltMagic:
		return meta{}, fmt.Errorf("it has the magic %#x", native.Uint32(b))
	case native.Uint32(b[4:]) != boltVersion:
		return meta{}, fmt.Errorf("it has the version %d", native.Uint32(b[4:]))
	case native.Uint64(b[metaLen-8:]) != h.Sum64():
		return meta{}, fmt.Errorf("its checksum is %#x, want %#x", native.Uint64(b[metaLen-8:]), h.Sum64())
	}
	m := meta{
		pageSize: uint64(native.Uint32(b[8:])),
		root:     native.Uint64(b[16:]),
		freelist: native.Uint64(b[32:]),
		pages:    native.Uint64(b[40:]),
		txid:     native.Uint64(b[48:]),
	}
	if m.pageSize < pageSizeMin || m.pageSize > pageSizeMax || m.pageSize&(m.pageSize-1) != 0 {
		return meta{}, fmt.Errorf("its page size is %d", m.pageSize)
	}
	return m, nil
}

// readMetas reads both meta pages. One that is damaged is an error: the commit
// it stood for was promised, and the one before must not take its place unseen.
func readMetas(r io.ReaderAt) ([2]meta, error) {
	var metas [2]meta
	offset := int64(0)
	for i := range metas {
		b := make(page, pageHeaderLen+metaLen)
		if _, err := r.ReadAt(b, offset); errors.Is(err, io.EOF) {
			return metas, fmt.Errorf("%w: it has no meta page %d", errShort, i)
		} else if err != nil {
			return metas, fmt.Errorf("read meta page %d: %w", i, err)
		}
		m, err := parseMeta(b)
		if err == nil && b.id() != uint64(i) {
			err = fmt.Errorf("it calls itself page %d", b.id())
		}
		if err == nil && i == 1 && m.pageSize != metas[0].pageSize {
			err = fmt.Errorf("its page size is %d, that of page 0 is %d", m.pageSize, metas[0].pageSize)
		}
		if err != nil {
			return metas, fmt.Errorf("%w %d: %w", errMeta, i, err)
		}
		metas[i] = m
		offset = int64(m.pageSize)
	}
	return metas, nil
}
