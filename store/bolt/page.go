package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a bbolt file, version 2, in the byte order of the machine. It is read
// here without bbolt and without mapping the file, for the check at Open alone, because
// bbolt trusts what it maps: of 696 files with one bit flipped at the head of a page, its
// own check (Tx.Check), with a fault made a panic and the records checked on top, died of
// 105, never ended with 3 and let 4 pass that showed something else (TestBboltTrusts).
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

// packed checks the number of elements of a leaf or branch page: the first one's
// key stands right behind the last of them. (Of a leaf's element the place is the
// second number, of a branch's the first.)
func (p page) packed() error {
	n := p.count()
	if n == 0 {
		return nil
	}
	e, err := p.slice(pageHeaderLen, elementLen)
	if err != nil {
		return err
	}
	at := native.Uint32(e)
	if p.flags() == flagLeaf {
		at = native.Uint32(e[4:])
	}
	if int(at) != n*elementLen {
		return fmt.Errorf("%w: it says it has %d elements, the first is for %d", errPage, n, at/elementLen)
	}
	return nil
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

// newestMeta returns the meta of the last commit, whose pages must all be in a
// file of that size.
func newestMeta(metas [2]meta, size int64) (meta, error) {
	m := metas[0]
	if metas[1].txid > m.txid {
		m = metas[1]
	}
	if m.pages < 4 || m.pages > uint64(size)/m.pageSize {
		return meta{}, fmt.Errorf("%w: it has %d bytes, its %d pages of %d need %d", errShort, size, m.pages,
			m.pageSize, m.pages*m.pageSize)
	}
	return m, nil
}

// readPage reads a page with its overflow pages, into p if it is large enough.
func readPage(r io.ReaderAt, m meta, id uint64, p page) (page, error) {
	if id < 2 || id >= m.pages {
		return nil, fmt.Errorf("%w: page %d is outside of the file", errPage, id)
	}
	offset := int64(id * m.pageSize)
	if uint64(cap(p)) < m.pageSize {
		p = make(page, m.pageSize)
	}
	p = p[:m.pageSize]
	if _, err := r.ReadAt(p, offset); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	if p.id() != id {
		return nil, fmt.Errorf("page %d: %w: it calls itself page %d", id, errPage, p.id())
	}
	n := p.overflow() + 1
	if n > m.pages-id {
		return nil, fmt.Errorf("page %d: %w: its %d overflow pages are outside of the file", id, errPage, n-1)
	}
	if n == 1 {
		return p, nil
	}
	if uint64(cap(p)) < n*m.pageSize {
		p = append(make(page, 0, n*m.pageSize), p...)
	}
	p = p[:n*m.pageSize]
	if _, err := r.ReadAt(p[m.pageSize:], offset+int64(m.pageSize)); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return p, nil
}
