package bolt

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"sort"
	"sync"
)

// sheets are the pages of a file at one commit, read one by one as they are
// needed, without bbolt. Each is checked when it is read as the whole file is
// when a store is opened: a lookup proves what it rests on, and no more. What
// only a look at all pages can tell (one that is used twice, a list of free
// pages that is wrong) is left to that.
type sheets struct {
	r    io.ReaderAt
	meta meta

	mu sync.Mutex
	// branches are those that were read and checked, by number: few beside the
	// leaves, and every lookup needs some.
	branches map[uint64]page
	spare    []page // to read leaves into
}

// sparesMax bounds the pages that are kept to read into.
const sparesMax = 16

// take returns a page to read into, nil if none is kept.
func (s *sheets) take() page {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.spare) == 0 {
		return nil
	}
	last := len(s.spare) - 1
	p := s.spare[last]
	s.spare = s.spare[:last]
	return p
}

// give keeps a page that nobody reads any more.
func (s *sheets) give(p page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p != nil && len(s.spare) < sparesMax {
		s.spare = append(s.spare, p)
	}
}

// branchesMax bounds the branches that are kept.
const branchesMax = 1 << 14

// root returns the tree of the bucket, and false if there is none.
func (s *sheets) root(name []byte, prove func(leaf) error) (sheetTree, bool, error) {
	top := sheetTree{sheets: s, root: s.meta.root}
	e, err := top.first(name, true)
	if err != nil || !bytes.Equal(e.key, name) || !e.bucket {
		return sheetTree{}, false, err
	}
	if len(e.value) < bucketLen {
		return sheetTree{}, false, fmt.Errorf("%w: the bucket %q has %d bytes", errPage, name, len(e.value))
	}
	t := sheetTree{sheets: s, root: native.Uint64(e.value), prove: prove}
	if t.root != 0 {
		return t, true, nil
	}
	t.inline = page(e.value[bucketLen:])
	if len(t.inline) < pageHeaderLen || t.inline.flags() != flagLeaf {
		return sheetTree{}, false, fmt.Errorf("%w: the bucket %q is not a leaf", errPage, name)
	}
	return t, true, nil
}

// A sheetTree is a bucket whose pages are read one by one. A small one stands in
// its element and has no page of its own.
type sheetTree struct {
	sheets *sheets
	root   uint64
	inline page
	// prove says what is wrong with an element, nil is nothing.
	prove func(leaf) error
}

func (t sheetTree) get(key []byte) ([]byte, error) {
	e, err := t.first(key, false)
	if err == nil && !bytes.Equal(e.key, key) {
		e, err = t.first(key, true)
	}
	switch {
	case err != nil || !bytes.Equal(e.key, key):
		return nil, err
	case e.bucket:
		return nil, fmt.Errorf("%w: a bucket %q in a bucket", ErrForeign, key)
	}
	return e.value, nil
}

// first returns the first element from the key on, the zero leaf if there is
// none. Its slices are the receiver's.
func (t sheetTree) first(key []byte, wide bool) (found leaf, err error) {
	t.leaves(key, wide)(func(e leaf, failed error) bool {
		found, err = leaf{bucket: e.bucket, key: bytes.Clone(e.key), value: bytes.Clone(e.value)}, failed
		return false
	})
	return found, err
}

func (t sheetTree) from(key []byte) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		for e, err := range t.leaves(key, true) {
			if err == nil && e.bucket {
				err = fmt.Errorf("%w: a bucket %q in a bucket", ErrForeign, e.key)
			}
			if !yield(pair{e.key, e.value}, err) || err != nil {
				return
			}
		}
	}
}

// leaves yields the elements from the key on, in order; an error ends them. What
// is yielded is sound; that nothing is missing at the beginning is certain if the
// walk is wide.
func (t sheetTree) leaves(key []byte, wide bool) iter.Seq2[leaf, error] {
	return func(yield func(leaf, error) bool) {
		w := walk{sheets: t.sheets, key: key, wide: wide, prove: t.prove, yield: yield}
		w.leaf = t.sheets.take()
		defer func() { t.sheets.give(w.leaf) }()
		if t.inline != nil {
			w.leaves(t.inline, bounds{})
			return
		}
		w.page(t.root, bounds{}, 0)
	}
}

// A walk goes through a tree from a key on.
type walk struct {
	sheets *sheets
	key    []byte
	// wide: it begins one page early and proves what it passes by. A damaged branch
	// can lead past the page that has the key, and that page or the one between is
	// then seen to have keys that it may not have; on the other side the walk comes
	// to such a page by itself. A damaged key stands beside where it should.
	wide  bool
	prove func(leaf) error
	yield func(leaf, error) bool
	leaf  page // used again for every leaf
}

// fail yields the error, as the last.
func (w *walk) fail(id uint64, err error) bool {
	w.yield(leaf{}, fmt.Errorf("page %d: %w", id, err))
	return false
}

// page walks through the page and what is below, and reports whether to go on.
func (w *walk) page(id uint64, b bounds, depth int) bool {
	if depth > treeDepth {
		return w.fail(id, fmt.Errorf("%w: the tree is more than %d pages deep", errPage, treeDepth))
	}
	p, err := w.read(id, b)
	switch {
	case err != nil:
		return w.fail(id, err)
	case p.flags() == flagLeaf && p.count() == 0 && depth > 0:
		return w.fail(id, fmt.Errorf("%w: a leaf with nothing in it", errPage)) // bbolt takes it out of the tree
	case p.flags() == flagLeaf:
		return w.leaves(p, b)
	}
	// The first child that may have the key is the last whose own is not above it.
	n := p.count()
	at := sort.Search(n, func(i int) bool {
		e, err := p.branch(i)
		return err == nil && bytes.Compare(e.key, w.key) > 0 // none fails: read has seen them all
	})
	if w.wide {
		at--
	}
	for i := max(at-1, 0); i < n; i++ {
		e, _ := p.branch(i)
		child := bounds{low: e.key, high: b.high}
		if i+1 < n {
			next, _ := p.branch(i + 1)
			child.high = next.key
		}
		if !w.page(e.child, child, depth+1) {
			return false
		}
	}
	return true
}

// leaves yields the elements of a leaf from the key on, and reports whether to
// go on. All are checked before the first is yielded.
func (w *walk) leaves(p page, b bounds) bool {
	n := p.count()
	first := n
	if err := p.packed(); err != nil {
		return w.fail(p.id(), err)
	}
	for i := range n {
		e, err := p.leaf(i)
		if err == nil {
			err = b.check(e.key, i == 0)
		}
		if err == nil && w.wide && first == n && w.prove != nil {
			err = w.prove(e)
		}
		if err != nil {
			return w.fail(p.id(), err)
		}
		if b.low = e.key; first == n && bytes.Compare(e.key, w.key) >= 0 {
			first = i
		}
	}
	for i := first; i < n; i++ {
		if e, _ := p.leaf(i); !w.yield(e, nil) {
			return false
		}
	}
	return true
}

// read returns the page: a leaf, or a branch that was checked and is kept.
func (w *walk) read(id uint64, b bounds) (page, error) {
	s := w.sheets
	s.mu.Lock()
	p, ok := s.branches[id]
	s.mu.Unlock()
	if ok {
		return p, nil
	}
	p, err := readPage(s.r, s.meta, id, w.leaf)
	if err != nil {
		return nil, err
	}
	switch p.flags() {
	case flagLeaf:
		w.leaf = p
		return p, nil
	case flagBranch:
	default:
		return nil, fmt.Errorf("%w: it has the flags %#x", errPage, p.flags())
	}
	w.leaf = nil // it is the branch now
	if p.count() == 0 {
		return nil, fmt.Errorf("%w: a branch with no leaf", errPage)
	}
	if err := p.packed(); err != nil {
		return nil, err
	}
	for i := range p.count() {
		e, err := p.branch(i)
		if err == nil {
			err = b.check(e.key, i == 0)
		}
		if err != nil {
			return nil, err
		}
		b.low = e.key
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.branches) < branchesMax {
		s.branches[id] = p
	}
	return p, nil
}
