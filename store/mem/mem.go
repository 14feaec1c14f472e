// Package mem is a store.Store in memory, for tests, simulations and demos.
//
// The rules of the package:
//   - It means what store/storetest says, except that nothing outlives the
//     process.
//   - It starts no goroutine and takes no time, so it works inside a
//     testing/synctest bubble.
//   - Fault lets a test break any append or delete: not applied, or applied
//     with the answer lost.
//
// It is not a place for records that matter.
package mem

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/belayd/belay/store"
)

// An Op is a write that is about to happen, as Fault sees it. Its slices are
// the caller's and valid only during the call.
type Op struct {
	Kind         OpKind
	Key          string
	Entry, State []byte // of an append
	After        store.Revision
}

// OpKind says which method writes.
type OpKind int

// The writes of a store.
const (
	Append OpKind = iota
	Delete
)

// String returns the name of the method in lower case.
func (k OpKind) String() string {
	switch k {
	case Append:
		return "append"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("OpKind(%d)", int(k))
}

// A Store keeps its records in memory. New makes one.
type Store struct {
	store.Always // the process owns it, so every lease is granted

	// Fault, if set, is asked before every append and delete, without any lock
	// held: it may call the store, sleep or block. A nil error means: go on
	// (apply must be true). With an error the caller gets that error, and the
	// write is applied first if apply is true: its answer was lost, even the
	// answer that it conflicts. Set it before the store is shared.
	Fault func(op Op) (apply bool, err error)

	watchers store.Watchers

	mu     sync.RWMutex
	closed bool
	last   store.Revision       // the last revision ever given
	keys   map[string][]*record // each in the order of revisions
	log    []*record            // all keys, in the order of revisions
	states map[string][]byte    // of the heads
}

// A record is never changed after it was appended, only marked as gone.
type record struct {
	key      string
	revision store.Revision
	entry    []byte
	deleted  bool // it is still in log until the log is swept
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Leaser = (*Store)(nil)
)

// New returns an empty store.
func New() *Store {
	return &Store{keys: make(map[string][]*record), states: make(map[string][]byte)}
}

// Append adds a record after the key's head.
func (s *Store) Append(
	ctx context.Context, key string, entry, state []byte, after store.Revision,
) (store.Revision, error) {
	if err := store.CheckAppend(key, entry, state); err != nil {
		return 0, fmt.Errorf("append: %w", err)
	}
	revision, err := s.append(ctx, key, entry, state, after)
	if err != nil {
		return 0, fmt.Errorf("append %s: %w", key, err)
	}
	return revision, nil
}

func (s *Store) append(
	ctx context.Context, key string, entry, state []byte, after store.Revision,
) (store.Revision, error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	apply, fault := s.fault(Op{Kind: Append, Key: key, Entry: entry, State: state, After: after})
	if !apply {
		return 0, fault
	}
	revision, err := s.applyAppend(key, entry, state, after)
	if err == nil {
		s.watchers.Changed(key)
	}
	if fault != nil {
		return 0, fault
	}
	return revision, err
}

func (s *Store) applyAppend(key string, entry, state []byte, after store.Revision) (store.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, store.ErrClosed
	}
	if head := s.head(key); head != after {
		return 0, fmt.Errorf("%w: the head is %d, not %d", store.ErrConflict, head, after)
	}
	s.last++
	r := &record{key: key, revision: s.last, entry: copied(entry)}
	s.keys[key] = append(s.keys[key], r)
	s.log = append(s.log, r)
	s.states[key] = copied(state)
	return r.revision, nil
}

// Delete removes the key and its history.
func (s *Store) Delete(ctx context.Context, key string, after store.Revision) error {
	if err := store.CheckKey(key); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if err := s.delete(ctx, key, after); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

func (s *Store) delete(ctx context.Context, key string, after store.Revision) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	apply, fault := s.fault(Op{Kind: Delete, Key: key, After: after})
	if !apply {
		return fault
	}
	if err := s.applyDelete(key, after); fault == nil {
		return err
	}
	return fault
}

func (s *Store) applyDelete(key string, after store.Revision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	head := s.head(key)
	if head == 0 {
		return store.ErrNotFound
	}
	if head != after {
		return fmt.Errorf("%w: the head is %d, not %d", store.ErrConflict, head, after)
	}
	for _, r := range s.keys[key] {
		r.deleted = true
	}
	delete(s.keys, key)
	delete(s.states, key)
	s.log = slices.DeleteFunc(s.log, func(r *record) bool { return r.deleted })
	return nil
}

// Head returns the key's last record.
func (s *Store) Head(ctx context.Context, key string) (store.Record, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Record{}, fmt.Errorf("head: %w", err)
	}
	if err := s.ready(ctx); err != nil {
		return store.Record{}, fmt.Errorf("head of %s: %w", key, err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	rs := s.keys[key]
	if len(rs) == 0 {
		return store.Record{}, fmt.Errorf("head of %s: %w", key, store.ErrNotFound)
	}
	return s.view(rs[len(rs)-1]), nil
}

// Heads yields the last record of every key with the prefix, as they were
// when the iteration began.
func (s *Store) Heads(ctx context.Context, prefix string) iter.Seq2[store.Record, error] {
	return s.records(ctx, fmt.Sprintf("heads of %q", prefix), func() ([]store.Record, error) {
		var out []store.Record
		for key, rs := range s.keys {
			if strings.HasPrefix(key, prefix) {
				out = append(out, s.view(rs[len(rs)-1]))
			}
		}
		slices.SortFunc(out, func(a, b store.Record) int { return strings.Compare(a.Key, b.Key) })
		return out, nil
	})
}

// History yields the key's records in order, as they were when the iteration
// began.
func (s *Store) History(ctx context.Context, key string) iter.Seq2[store.Record, error] {
	if err := store.CheckKey(key); err != nil {
		return func(yield func(store.Record, error) bool) {
			yield(store.Record{}, fmt.Errorf("history: %w", err))
		}
	}
	return s.records(ctx, "history of "+key, func() ([]store.Record, error) {
		rs := s.keys[key]
		if len(rs) == 0 {
			return nil, store.ErrNotFound
		}
		return s.views(rs), nil
	})
}

// Since yields the records after a revision, as they were when the iteration
// began.
func (s *Store) Since(ctx context.Context, prefix string, after store.Revision) iter.Seq2[store.Record, error] {
	return s.records(ctx, fmt.Sprintf("records of %q since %d", prefix, after), func() ([]store.Record, error) {
		first := sort.Search(len(s.log), func(i int) bool { return s.log[i].revision > after })
		var rs []*record
		for _, r := range s.log[first:] {
			if strings.HasPrefix(r.key, prefix) {
				rs = append(rs, r)
			}
		}
		return s.views(rs), nil
	})
}

// Watch yields heads as they change.
func (s *Store) Watch(ctx context.Context, prefix string) iter.Seq[store.Record] {
	return s.watchers.Watch(ctx, prefix, s.Head)
}

// Close ends the store. It may be called again.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.watchers.Close()
	return nil
}

// ready is the error of a call that must not even begin.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	return nil
}

// fault asks the hook; its error is never nil when the write is not applied.
func (s *Store) fault(op Op) (bool, error) {
	if s.Fault == nil {
		return true, nil
	}
	apply, err := s.Fault(op)
	if !apply && err == nil {
		return false, fmt.Errorf("%w: the fault of %s %s gave no error", store.ErrUnknown, op.Kind, op.Key)
	}
	return apply, err
}

// records yields what read returns under the lock, outside the lock.
func (s *Store) records(
	ctx context.Context, what string, read func() ([]store.Record, error),
) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		err := s.ready(ctx)
		var rs []store.Record
		if err == nil {
			s.mu.RLock()
			rs, err = read()
			s.mu.RUnlock()
		}
		if err != nil {
			yield(store.Record{}, fmt.Errorf("%s: %w", what, err))
			return
		}
		for _, r := range rs {
			if err := s.ready(ctx); err != nil {
				yield(store.Record{}, fmt.Errorf("%s: %w", what, err))
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// head returns the key's last revision, 0 if there is none; mu is held.
func (s *Store) head(key string) store.Revision {
	if rs := s.keys[key]; len(rs) > 0 {
		return rs[len(rs)-1].revision
	}
	return 0
}

// view copies a record for its receiver; mu is held.
func (s *Store) view(r *record) store.Record {
	out := store.Record{Key: r.key, Revision: r.revision, Entry: copied(r.entry)}
	if s.head(r.key) == r.revision {
		out.State = copied(s.states[r.key])
	}
	return out
}

func (s *Store) views(rs []*record) []store.Record {
	out := make([]store.Record, len(rs))
	for i, r := range rs {
		out[i] = s.view(r)
	}
	return out
}

// copied returns a copy that is never nil.
func copied(b []byte) []byte {
	return append(make([]byte, 0, len(b)), b...)
}
