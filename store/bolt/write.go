package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belayd/belay/store"
)

// The bounds of one transaction. Beyond them the rest waits for the next.
const (
	groupLen   = 512
	groupBytes = 8 << 20
)

// A write is an append or a delete on its way to the writer.
type write struct {
	key          []byte
	entry, state []byte // copies: the caller may go away
	after        store.Revision
	delete       bool

	phase atomic.Int32
	done  chan result // capacity 1: the writer never waits for a caller
}

// The phases of a write: it goes from waiting to one of the others, once.
const (
	waiting   int32 = iota
	taken           // by the writer, who answers it
	withdrawn       // by its caller, before the writer saw it
)

type result struct {
	revision store.Revision
	err      error
}

func newAppend(key string, entry, state []byte, after store.Revision) *write {
	return &write{key: []byte(key), entry: bytes.Clone(entry), state: bytes.Clone(state), after: after,
		done: make(chan result, 1)}
}

func newDelete(key string, after store.Revision) *write {
	return &write{key: []byte(key), after: after, delete: true, done: make(chan result, 1)}
}

// submit hands the write to the writer and waits for the answer, or for the
// end of ctx.
func (s *Store) submit(ctx context.Context, w *write) (store.Revision, error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	if s.opts.ReadOnly {
		return 0, ErrReadOnly
	}
	select {
	case s.queue <- w:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.closing:
		return 0, store.ErrClosed
	}
	select {
	case r := <-w.done:
		return r.revision, r.err
	case <-ctx.Done():
	case <-s.stopped:
	}
	if w.phase.CompareAndSwap(waiting, withdrawn) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return 0, store.ErrClosed
	}
	select {
	case r := <-w.done:
		return r.revision, r.err
	default:
		// The writer answers whatever it took before it stops, so it is ctx that
		// has ended.
		return 0, fmt.Errorf("%w: %w", store.ErrUnknown, ctx.Err())
	}
}

// run is the writer: it commits what waits until Close. A reserve that is missing
// comes back although nobody writes.
func (s *Store) run() {
	defer close(s.stopped)
	debug.SetPanicOnFault(true)
	missing := time.NewTicker(reserveLook)
	defer missing.Stop()
	for {
		select {
		case w := <-s.queue:
			s.commitGroup(s.gather(w))
		case <-missing.C:
			s.keepReserve()
		case <-s.closing:
			return
		}
	}
}

// gather takes what waits in the queue now. It waits for nobody, but if the last
// transaction had company, those it answered are about to come back: it lets
// them run as long as that brings more, so that they share this transaction
// instead of the next. A lone writer is not made to wait even for that.
func (s *Store) gather(w *write) []*write {
	var group []*write
	size, more := 0, s.company
	for {
		if w.phase.CompareAndSwap(waiting, taken) {
			group = append(group, w)
			size += len(w.entry) + len(w.state)
		}
		if len(group) == groupLen || size >= groupBytes {
			s.company = true
			return group
		}
		for w = nil; w == nil; {
			select {
			case w = <-s.queue:
				more = true
			default:
				if !more {
					s.company = len(group) > 1
					return group
				}
				more = false
				runtime.Gosched()
			}
		}
	}
}

// commitGroup writes the group in one transaction and answers each write.
func (s *Store) commitGroup(group []*write) {
	if len(group) == 0 {
		return
	}
	if err := s.Err(); err != nil {
		answer(group, nil, err)
		return
	}
	results, err := s.transact(group)
	if errors.Is(err, store.ErrFull) && s.reserve.release(s.reserve.size/2) {
		s.log.Warn("store reserve given up", "store", s.path, "left", s.reserve.left.Load(), "cause", err.Error())
		results, err = s.transact(group)
	}
	if errors.Is(err, store.ErrFull) {
		if group = answerAppends(group, err); len(group) == 0 {
			return
		}
		if s.reserve.release(0) {
			s.log.Warn("store reserve given up", "store", s.path, "left", 0, "cause", err.Error())
		}
		// Where it is the size of the file that is limited, the step in which it
		// grows is the reserve.
		s.db.AllocSize = 0
		results, err = s.transact(group)
		s.db.AllocSize = growth
	}
	answer(group, results, err)
	if err != nil {
		return
	}
	for i, w := range group {
		if results[i].err == nil && !w.delete {
			s.watch.Changed(string(w.key))
		}
	}
	s.keepReserve()
}

// answer gives each write its result, or all of them the error.
func answer(group []*write, results []result, err error) {
	for i, w := range group {
		r := result{err: err}
		if err == nil {
			r = results[i]
		}
		select {
		case w.done <- r:
		default: // Only hooks.ackEarly has answered already.
		}
	}
}

// answerAppends answers the appends with the error and returns the deletes,
// which alone may have the last of the reserve.
func answerAppends(group []*write, err error) []*write {
	return slices.DeleteFunc(group, func(w *write) bool {
		if !w.delete {
			answer([]*write{w}, nil, err)
		}
		return !w.delete
	})
}

// transact applies the group in one transaction. An error is the answer to the
// whole group: ErrFull if nothing was written, else ErrUnknown and ErrBroken.
func (s *Store) transact(group []*write) (results []result, err error) {
	tx, err := s.db.Begin(true)
	if err != nil {
		return nil, s.breakDown(fmt.Errorf("begin a transaction: %w", err))
	}
	defer func() {
		if p := recover(); p != nil {
			s.abandon(tx)
			results, err = nil, fmt.Errorf("%w: %w", store.ErrUnknown, s.breakDown(asError(p)))
		}
	}()
	l, err := newLayout(tx)
	if err != nil {
		return nil, errors.Join(s.breakDown(err), tx.Rollback())
	}
	l.log.FillPercent = 1 // Nothing is ever inserted before its end.
	results = make([]result, len(group))
	changed := false
	for i, w := range group {
		results[i].revision, results[i].err = s.apply(l, w)
		switch err := results[i].err; {
		case err == nil:
			changed = true
		case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound):
		default:
			return nil, errors.Join(s.breakDown(err), tx.Rollback())
		}
	}
	if !changed {
		return results, tx.Rollback()
	}
	if s.opts.hooks.ackEarly {
		answer(group, results, nil)
	}
	return results, s.commit(tx)
}

// apply does one write and returns its outcome: the revision, ErrConflict or
// ErrNotFound; any other error is the file's. The sequence of the log keeps the
// last revision given, whatever is deleted later.
func (s *Store) apply(l layout, w *write) (store.Revision, error) {
	head, ok, err := l.head(w.key)
	if err != nil {
		return 0, err
	}
	if !ok && w.delete {
		return 0, store.ErrNotFound
	}
	if head.revision != w.after && !s.opts.hooks.noCAS {
		return 0, fmt.Errorf("%w: the head is %d, not %d", store.ErrConflict, head.revision, w.after)
	}
	if w.delete {
		return 0, l.remove(w.key, head, s.opts.hooks.keepLog)
	}
	next := (*bbolt.Bucket).NextSequence
	if s.opts.hooks.next != nil {
		next = s.opts.hooks.next
	}
	revision, err := next(l.log)
	if err != nil {
		return 0, fmt.Errorf("next revision: %w", err)
	}
	return store.Revision(revision), l.append(w, store.Revision(revision), head)
}

// append writes the record and makes it the head.
func (l layout) append(w *write, revision store.Revision, head headRecord) error {
	r := logRecord{revision: revision, previous: head.revision, first: head.first, entry: w.entry}
	if head.revision == 0 {
		r.first, r.key = revision, w.key
	}
	key, value := r.encode()
	if err := l.log.Put(key, value); err != nil {
		return fmt.Errorf("put revision %d: %w", revision, err)
	}
	h := headRecord{revision: revision, first: r.first, state: w.state}
	if err := l.heads.Put(w.key, h.encode(w.key)); err != nil {
		return fmt.Errorf("put the head: %w", err)
	}
	return nil
}

// remove deletes the key's records from the last to the first, and its head.
func (l layout) remove(key []byte, head headRecord, keepLog bool) error {
	for revision := head.revision; revision != 0 && !keepLog; {
		r, err := l.linked(revision)
		if err != nil {
			return err
		}
		if err := l.log.Delete(revisionKey(revision)); err != nil {
			return fmt.Errorf("delete revision %d: %w", revision, err)
		}
		revision = r.previous
	}
	if err := l.heads.Delete(key); err != nil {
		return fmt.Errorf("delete the head: %w", err)
	}
	return nil
}

// abandon gives up a transaction that panicked.
func (s *Store) abandon(tx *bbolt.Tx) {
	defer func() {
		if p := recover(); p != nil {
			s.stuck.Store(true)
		}
	}()
	_ = tx.Rollback() // It is closed already or closes now; the store is broken anyway.
}
