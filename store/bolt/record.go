package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"

	"go.etcd.io/bbolt"

	"github.com/belayd/belay/store"
)

// The file has three buckets:
//
//	belay  format → "1"
//	log    revision, 8 bytes big-endian → record
//	heads  key → head
//
// The log is only ever appended to, so its pages fill up and stay. A record
// names its key through the key's first record, and the one before it by
// distance: an entry costs some ten bytes beside its own, and no index. The
// history of a key is found by walking back from its head. Only a head has a
// state; the one before goes in the same transaction.
//
// record  checksum, 4 bytes | 1 | distance to the key's record before, 0 if none | distance
// to its first | [length, key: the first only] | entry
//
//	head    checksum, 4 bytes | 1 | revision | distance to the key's first record | state
//
// Numbers are unsigned varints. The checksum (CRC-32C, little-endian) covers
// the bucket's key and everything behind it: bbolt itself has none for data.
var (
	bucketBelay = []byte("belay")
	bucketLog   = []byte("log")
	bucketHeads = []byte("heads")
	keyFormat   = []byte("format")
)

const (
	formatVersion = "1"
	recordVersion = 1
	checksumLen   = 4
)

// errRecord: a record's bytes are not what was written.
var errRecord = errors.New("damaged record")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A logRecord is one value of the log, decoded. Its slices are the bucket's.
type logRecord struct {
	revision store.Revision
	previous store.Revision // 0: none
	first    store.Revision // the key's first record; its own if it is that
	key      []byte         // of a first record
	entry    []byte
}

// A headRecord is one value of heads, decoded. Its slices are the bucket's.
type headRecord struct {
	revision store.Revision
	first    store.Revision
	state    []byte
}

func revisionKey(r store.Revision) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(r))
}

func (r logRecord) encode() (key, value []byte) {
	var previous uint64
	if r.previous != 0 {
		previous = uint64(r.revision - r.previous)
	}
	b := make([]byte, checksumLen, checksumLen+1+3*binary.MaxVarintLen64+len(r.key)+len(r.entry))
	b = append(b, recordVersion)
	b = binary.AppendUvarint(b, previous)
	b = binary.AppendUvarint(b, uint64(r.revision-r.first))
	if r.first == r.revision {
		b = binary.AppendUvarint(b, uint64(len(r.key)))
		b = append(b, r.key...)
	}
	b = append(b, r.entry...)
	key = revisionKey(r.revision)
	return key, seal(key, b)
}

func decodeLog(key, value []byte) (logRecord, error) {
	if len(key) != 8 {
		return logRecord{}, fmt.Errorf("%w: a revision of %d bytes", errRecord, len(key))
	}
	r := logRecord{revision: store.Revision(binary.BigEndian.Uint64(key))}
	d, err := unseal(key, value)
	if err != nil {
		return logRecord{}, fmt.Errorf("revision %d: %w", r.revision, err)
	}
	previous, first := store.Revision(d.uvarint()), store.Revision(d.uvarint())
	if first >= r.revision || previous > first || (previous == 0) != (first == 0) {
		return logRecord{}, fmt.Errorf("revision %d: %w: it follows %d and %d", r.revision, errRecord, previous, first)
	}
	if previous != 0 {
		r.previous = r.revision - previous
	}
	r.first = r.revision - first
	if first == 0 {
		r.key = d.bytes(d.uvarint())
	}
	if d.failed {
		return logRecord{}, fmt.Errorf("revision %d: %w: it ends early", r.revision, errRecord)
	}
	r.entry = d.rest
	return r, nil
}

func (h headRecord) encode(key []byte) []byte {
	b := make([]byte, checksumLen, checksumLen+1+2*binary.MaxVarintLen64+len(h.state))
	b = append(b, recordVersion)
	b = binary.AppendUvarint(b, uint64(h.revision))
	b = binary.AppendUvarint(b, uint64(h.revision-h.first))
	b = append(b, h.state...)
	return seal(key, b)
}

func decodeHead(key, value []byte) (headRecord, error) {
	d, err := unseal(key, value)
	if err != nil {
		return headRecord{}, fmt.Errorf("head of %q: %w", key, err)
	}
	revision, first := store.Revision(d.uvarint()), store.Revision(d.uvarint())
	if d.failed || first >= revision {
		return headRecord{}, fmt.Errorf("head of %q: %w: revision %d, first %d before it", key, errRecord,
			revision, first)
	}
	return headRecord{revision: revision, first: revision - first, state: d.rest}, nil
}

// seal writes the checksum into the first bytes of value.
func seal(key, value []byte) []byte {
	binary.LittleEndian.PutUint32(value, checksum(key, value[checksumLen:]))
	return value
}

func checksum(key, rest []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, rest)
}

// A decoder reads the numbers in front of a value.
type decoder struct {
	rest   []byte
	failed bool
}

// unseal checks the checksum and the version.
func unseal(key, value []byte) (*decoder, error) {
	if len(value) <= checksumLen {
		return nil, fmt.Errorf("%w: %d bytes", errRecord, len(value))
	}
	if got, want := binary.LittleEndian.Uint32(value), checksum(key, value[checksumLen:]); got != want {
		return nil, fmt.Errorf("%w: checksum %08x, want %08x", errRecord, got, want)
	}
	if v := value[checksumLen]; v != recordVersion {
		return nil, fmt.Errorf("%w: version %d, this Belay knows %d", ErrForeign, v, recordVersion)
	}
	return &decoder{rest: value[checksumLen+1:]}, nil
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.failed = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

// A layout is the buckets of one transaction.
type layout struct{ log, heads *bbolt.Bucket }

// errNoBuckets: the file is of bbolt but not of this package.
var errNoBuckets = fmt.Errorf("%w: it has no log or no heads", ErrForeign)

func newLayout(tx *bbolt.Tx) (layout, error) {
	log, heads := tx.Bucket(bucketLog), tx.Bucket(bucketHeads)
	if log == nil || heads == nil {
		return layout{}, errNoBuckets
	}
	return layout{log, heads}, nil
}

// from yields what has a key from this one on, in order. The slices are good until the
// next one is yielded.
func from(b *bbolt.Bucket, key []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		c := b.Cursor()
		for key, value := c.Seek(key); key != nil && yield(key, value); key, value = c.Next() {
		}
	}
}

// head returns the head of the key, and false if there is none.
func (l layout) head(key []byte) (headRecord, bool, error) {
	value := l.heads.Get(key)
	if value == nil {
		return headRecord{}, false, nil
	}
	h, err := decodeHead(key, value)
	return h, err == nil, err
}

// record returns the record of the revision, and false if there is none.
func (l layout) record(revision store.Revision) (logRecord, bool, error) {
	key := revisionKey(revision)
	value := l.log.Get(key)
	if value == nil {
		return logRecord{}, false, nil
	}
	r, err := decodeLog(key, value)
	return r, err == nil, err
}

// linked is record for a revision that another record names, so it must exist.
func (l layout) linked(revision store.Revision) (logRecord, error) {
	r, ok, err := l.record(revision)
	if err == nil && !ok {
		err = fmt.Errorf("revision %d: %w: it is missing", revision, errRecord)
	}
	return r, err
}
