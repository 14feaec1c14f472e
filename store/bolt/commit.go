package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/belayd/belay/store"
)

// commit makes the transaction durable. It returns ErrFull if nothing of it was
// written; any other failure breaks the store, because bbolt and the kernel no
// longer agree on what is on disk: after an fdatasync that failed, a second one
// may succeed without having written anything.
func (s *Store) commit(tx *bbolt.Tx) error {
	id := tx.ID()
	commit := (*bbolt.Tx).Commit
	if s.opts.hooks.commit != nil {
		commit = s.opts.hooks.commit
	}
	s.durable.begin()
	defer s.durable.end() // Also when commit panics.
	err := commit(tx)
	if err == nil {
		s.durable.set(id)
		return nil
	}
	if noSpace(err) && s.uncommitted(id) {
		return fmt.Errorf("%w: %w; make room on the disk of %s", store.ErrFull, err, s.path)
	}
	return fmt.Errorf("%w: %w", store.ErrUnknown, s.breakDown(fmt.Errorf("commit: %w", err)))
}

// noSpace reports whether a commit failed for want of space, in a write or in
// growing the file. A sync that says so does not count: it has lost data that
// was taken.
func noSpace(err error) bool {
	if errors.Is(err, bolterrors.ErrMaxSizeReached) {
		return true
	}
	// bbolt returns the error of a write as it is, and that of fdatasync as a
	// bare errno; of a truncate only the text remains.
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return errors.Is(path.Err, syscall.ENOSPC) || errors.Is(path.Err, syscall.EFBIG) || errors.Is(path.Err,
			syscall.EDQUOT)
	}
	return strings.HasPrefix(err.Error(), "file resize error: ")
}

// uncommitted reports whether the file certainly has nothing of the transaction:
// both meta pages are whole and older.
func (s *Store) uncommitted(id int) bool {
	metas, err := readMetas(s.file)
	if err != nil {
		return false
	}
	return metas[0].txid < uint64(id) && metas[1].txid < uint64(id)
}

// durable is the last transaction that is on disk. bbolt shows a transaction to
// readers before its last fdatasync; nobody may act on what a power cut could
// still take back, so readers wait here.
type durable struct {
	mu   sync.Mutex
	id   int
	busy chan struct{} // closed when the commit under way has ended; nil: none
}

func (d *durable) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = make(chan struct{})
}

func (d *durable) set(id int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.id = id
}

func (d *durable) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.busy)
	d.busy = nil
}

// wait returns nil if the transaction is on disk, else what to wait for before
// looking again: the commit that may bring it there, or nothing if that one has
// failed meanwhile.
func (d *durable) wait(id int) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case id <= d.id:
		return nil
	case d.busy != nil:
		return d.busy
	default:
		over := make(chan struct{})
		close(over)
		return over
	}
}

// view calls fn with what is on disk.
func (s *Store) view(ctx context.Context, fn func(l layout) error) error {
	return s.transaction(ctx, func(_ *bbolt.Tx, l layout) error { return fn(l) })
}

// transaction calls fn with a read transaction on what is on disk. The error of
// fn is returned as it is, unless it says that the file is damaged: then the
// store is broken.
func (s *Store) transaction(ctx context.Context, fn func(tx *bbolt.Tx, l layout) error) error {
	for {
		if err := s.ready(ctx); err != nil {
			return err
		}
		busy, err := s.transactOnce(fn)
		if busy == nil {
			return err
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// transactOnce is transaction, or the commit to wait for before the next try.
func (s *Store) transactOnce(fn func(tx *bbolt.Tx, l layout) error) (busy <-chan struct{}, err error) {
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			if busy = s.durable.wait(tx.ID()); busy != nil && !s.opts.hooks.readSoon {
				return nil
			}
			busy = nil
			l, err := newLayout(tx)
			if err != nil {
				return err
			}
			return fn(tx, l)
		})
	})
	switch {
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return nil, store.ErrClosed
	case errors.Is(err, errRecord), errors.Is(err, errFault), errors.Is(err, ErrForeign),
		errors.Is(err, bolterrors.ErrInvalidMapping):
		return nil, s.breakDown(err)
	}
	return busy, err
}

// errFault: bbolt panicked, or a page of the file could not be read.
var errFault = errors.New("fault")

// guard calls fn and returns its panics and memory faults as errors: bbolt
// trusts its file and answers damage with either.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = asError(p)
		}
	}()
	return fn()
}

func asError(p any) error {
	if err, ok := p.(error); ok {
		return fmt.Errorf("%w: %w", errFault, err)
	}
	return fmt.Errorf("%w: %v", errFault, p)
}
