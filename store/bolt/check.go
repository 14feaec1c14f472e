package bolt

import (
	"bytes"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
)

// A summary is what checkFile found.
type summary struct {
	pages, free uint64
	log, heads  int // the number of elements
	sequence    uint64
}

// checkFile reads every page that is in use and returns what is wrong with the
// file, if anything: errPage, errMeta, errFreelist, errShort, errRecord,
// ErrForeign or an error of r.
// It proves of every page that it is used once or free, of every tree that its
// keys are in order, and of every record that it has its checksum. It never
// faults, loops or allocates beyond the size of the file, whatever is in it.
func checkFile(r io.ReaderAt, size int64) (summary, error) {
	if size < 4*pageSizeMin {
		return summary{}, fmt.Errorf("%w: it has %d bytes", errShort, size)
	}
	metas, err := readMetas(r)
	if err != nil {
		return summary{}, err
	}
	m, err := newestMeta(metas, size)
	if err != nil {
		return summary{}, err
	}
	c := &checker{r: r, meta: m, use: make([]use, m.pages)}
	c.use[0], c.use[1] = used, used
	c.sum.pages = m.pages
	if err := c.freelist(); err != nil {
		return c.sum, fmt.Errorf("%w: %w", errFreelist, err)
	}
	if err := c.tree(m.root, nil, bounds{}, 0); err != nil {
		return c.sum, err
	}
	if !c.format {
		return c.sum, fmt.Errorf("%w: it has no format", ErrForeign)
	}
	return c.sum, c.leaks()
}

// use is what a page was found to be.
type use uint8

const (
	unknown use = iota
	used
	free
)

type checker struct {
	r      io.ReaderAt
	meta   meta
	use    []use
	pages  []page // by depth, used again for the next page of the same depth
	format bool
	sum    summary
}

// bounds are the keys that a page may have: from low on, and below high if that
// is not nil.
type bounds struct {
	low, high []byte
}

// treeDepth is far beyond that of any file that fits a disk.
const treeDepth = 64

// read reads the page and marks it and its overflow pages as used.
func (c *checker) read(id uint64, depth int) (page, error) {
	for len(c.pages) <= depth {
		c.pages = append(c.pages, nil)
	}
	p, err := readPage(c.r, c.meta, id, c.pages[depth])
	if err != nil {
		return nil, err
	}
	for i := id; i <= id+p.overflow(); i++ {
		if c.use[i] != unknown {
			return nil, fmt.Errorf("page %d: %w: page %d is used twice, or free", id, errPage, i)
		}
		c.use[i] = used
	}
	c.pages[depth] = p
	return p, nil
}

// freelist marks the free pages. A file without a list is sound: the list is
// made when it is opened.
func (c *checker) freelist() error {
	if c.meta.freelist == noFreelist {
		return nil
	}
	p, err := c.read(c.meta.freelist, 0)
	if err != nil {
		return err
	}
	if p.flags() != flagFreelist {
		return fmt.Errorf("page %d: %w: it has the flags %#x", p.id(), errPage, p.flags())
	}
	n, at := uint64(p.count()), uint64(pageHeaderLen)
	if n == 0xFFFF { // Too many for the header: the number is the first element.
		n, at = native.Uint64(p[at:]), at+8
	}
	if n > uint64(len(p))/8 {
		return fmt.Errorf("page %d: %w: it lists %d pages", p.id(), errPage, n)
	}
	ids, err := p.slice(at, 8*n)
	if err != nil {
		return fmt.Errorf("page %d: %w", p.id(), err)
	}
	for ; len(ids) > 0; ids = ids[8:] {
		id := native.Uint64(ids)
		if id < 2 || id >= c.meta.pages || c.use[id] != unknown {
			return fmt.Errorf("page %d: %w: it lists page %d, which is outside of the file, in use or listed twice",
				p.id(), errPage, id)
		}
		c.use[id] = free
	}
	c.sum.free = n
	return nil
}

// leaks finds pages that are neither in use nor free.
func (c *checker) leaks() error {
	if c.meta.freelist == noFreelist {
		return nil
	}
	for id, u := range c.use {
		if u == unknown {
			return fmt.Errorf("%w: page %d is neither in use nor free", errFreelist, id)
		}
	}
	return nil
}

// tree checks the page and everything below it. bucket is nil for the root.
func (c *checker) tree(id uint64, bucket []byte, b bounds, depth int) error {
	if depth > treeDepth {
		return fmt.Errorf("page %d: %w: the tree is more than %d pages deep", id, errPage, treeDepth)
	}
	p, err := c.read(id, depth)
	if err != nil {
		return err
	}
	switch p.flags() {
	case flagLeaf:
		err = c.leaves(p, bucket, b, depth)
	case flagBranch:
		err = c.branches(p, bucket, b, depth)
	default:
		err = fmt.Errorf("%w: it has the flags %#x", errPage, p.flags())
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (c *checker) branches(p page, bucket []byte, b bounds, depth int) error {
	n := p.count()
	if n == 0 {
		return fmt.Errorf("%w: a branch with no leaf", errPage)
	}
	if err := p.packed(); err != nil {
		return err
	}
	e, err := p.branch(0)
	for i := range n {
		if err != nil {
			return err
		}
		if err := b.check(e.key, i == 0); err != nil {
			return err
		}
		child := bounds{low: e.key, high: b.high}
		var next branch
		if i+1 < n {
			if next, err = p.branch(i + 1); err != nil {
				return err
			}
			child.high = next.key
		}
		if err := c.tree(e.child, bucket, child, depth+1); err != nil {
			return err
		}
		b.low, e = e.key, next
	}
	return nil
}

func (c *checker) leaves(p page, bucket []byte, b bounds, depth int) error {
	if err := p.packed(); err != nil {
		return err
	}
	for i := range p.count() {
		e, err := p.leaf(i)
		if err != nil {
			return err
		}
		if err := b.check(e.key, i == 0); err != nil {
			return err
		}
		b.low = e.key
		switch {
		case e.bucket:
			err = c.bucket(e, bucket, depth)
		case bucket == nil:
			err = fmt.Errorf("%w: a value outside of the buckets", ErrForeign)
		default:
			err = c.value(bucket, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// check reports a key out of order. The first of a page may equal the low bound.
func (b bounds) check(key []byte, first bool) error {
	if n := bytes.Compare(key, b.low); n < 0 || n == 0 && !first {
		return fmt.Errorf("%w: the key %q comes after %q", errPage, key, b.low)
	}
	if b.high != nil && bytes.Compare(key, b.high) >= 0 {
		return fmt.Errorf("%w: the key %q comes before %q", errPage, key, b.high)
	}
	return nil
}

// bucket checks a bucket, which stands in pages of its own or, if it is small,
// in its element.
func (c *checker) bucket(e leaf, parent []byte, depth int) error {
	if parent != nil {
		return fmt.Errorf("%w: a bucket %q in the bucket %q", ErrForeign, e.key, parent)
	}
	if len(e.value) < bucketLen {
		return fmt.Errorf("%w: the bucket %q has %d bytes", errPage, e.key, len(e.value))
	}
	root := native.Uint64(e.value)
	if bytes.Equal(e.key, bucketLog) {
		c.sum.sequence = native.Uint64(e.value[8:])
	}
	if root != 0 {
		return c.tree(root, e.key, bounds{}, depth+1)
	}
	inline := page(e.value[bucketLen:])
	if len(inline) < pageHeaderLen || inline.flags() != flagLeaf {
		return fmt.Errorf("%w: the bucket %q is not a leaf", errPage, e.key)
	}
	return c.leaves(inline, e.key, bounds{}, depth)
}

// value checks what stands in a bucket.
func (c *checker) value(bucket []byte, e leaf) error {
	switch {
	case bytes.Equal(bucket, bucketLog):
		c.sum.log++
		r, err := decodeLog(e.key, e.value)
		if err == nil && uint64(r.revision) > c.sum.sequence {
			err = fmt.Errorf("revision %d: %w: the last one given is %d", r.revision, errRecord, c.sum.sequence)
		}
		return err
	case bytes.Equal(bucket, bucketHeads):
		c.sum.heads++
		_, err := decodeHead(e.key, e.value)
		return err
	case bytes.Equal(bucket, bucketBelay) && bytes.Equal(e.key, keyFormat):
		c.format = true
		if string(e.value) != formatVersion {
			return fmt.Errorf("%w: its format is %.20q, this Belay knows %q", ErrForeign, e.value, formatVersion)
		}
	}
	return nil
}

// checkHeads checks that every head names its records. The pages are sound.
func checkHeads(tx *bbolt.Tx) error {
	l, err := newLayout(tx)
	if err != nil {
		return err
	}
	for key, value := range from(l.heads, nil) {
		h, err := decodeHead(key, value)
		if err != nil {
			return err
		}
		if _, err := l.own(key, h); err != nil {
			return err
		}
	}
	return nil
}

// own returns the record of a head that names the key's own records.
func (l layout) own(key []byte, h headRecord) (logRecord, error) {
	last, err := l.linked(h.revision)
	first := last
	if err == nil && h.first != h.revision {
		first, err = l.linked(h.first)
	}
	if err != nil {
		return logRecord{}, fmt.Errorf("head of %q: %w", key, err)
	}
	if last.first != h.first || !bytes.Equal(first.key, key) {
		return logRecord{}, fmt.Errorf("head of %q: %w: its records %d and %d are not its own", key, errRecord, h.first,
			h.revision)
	}
	return last, nil
}
