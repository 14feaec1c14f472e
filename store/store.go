// Package store says what it is to keep Belay's records: one append-only log a
// key, whose last record is the current state.
//
// The rules of the package:
//   - An append is a compare-and-swap on its key's head. Whoever lost the race
//     gets ErrConflict and must read again.
//   - An append that returned nil survives kill -9 and a power cut.
//   - An append whose outcome is unknown says so (ErrUnknown); it is never
//     reported as failed.
//   - Entries are kept until Delete; state is kept for the head only (a store
//     may keep more).
//
// storetest is the meaning of these rules in code; every store passes it.
package store

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Revision is a position in the store. Revisions are store-wide and increase
// with every append; 0 is before the first.
type Revision uint64

// The errors of a store.
var (
	// ErrConflict: the key's head is not the revision given; nothing was written.
	ErrConflict = errors.New("store: conflict")
	// ErrNotFound: the key has no record.
	ErrNotFound = errors.New("store: not found")
	// ErrUnknown: the append may or may not have happened; read the head back.
	ErrUnknown = errors.New("store: outcome unknown")
	// ErrFull: no space; nothing was written, and it may work again later.
	ErrFull = errors.New("store: full")
	// ErrBroken: the store can no longer be trusted by this process: stop it.
	ErrBroken = errors.New("store: broken")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store: closed")
)

// A Record is one append. Its slices belong to the receiver.
type Record struct {
	Key      string
	Revision Revision
	// Entry is what happened, State what is true after it. State is nil for
	// records that are not their key's head, and only for them: an empty state
	// is not nil.
	Entry []byte
	State []byte
}

// A Store keeps append-only logs. Implementations are safe for concurrent use.
// Keys are paths of printable characters without control characters (CheckKey
// has the rule); they are ordered by their bytes, and a prefix is any leading
// part of a key. A call whose ctx had ended before does nothing and returns the
// error of ctx. An iterator that fails yields its error once, as its last pair.
type Store interface {
	// Append adds a record after the revision that is the key's head (0: the key
	// must not exist) and returns its revision. The slices are not kept. If ctx
	// ends while the append is under way the answer is ErrUnknown, unless it is
	// certain that nothing was written.
	Append(ctx context.Context, key string, entry, state []byte, after Revision) (Revision, error)
	// Head returns the key's last record, or ErrNotFound.
	Head(ctx context.Context, key string) (Record, error)
	// Heads yields the last record of every key with the prefix, by key.
	Heads(ctx context.Context, prefix string) iter.Seq2[Record, error]
	// History yields the key's records in order; ErrNotFound when there are none.
	History(ctx context.Context, key string) iter.Seq2[Record, error]
	// Since yields the records of all keys with the prefix after a revision, in
	// commit order.
	Since(ctx context.Context, prefix string, after Revision) iter.Seq2[Record, error]
	// Delete removes the key and its history if its head is the revision given.
	Delete(ctx context.Context, key string, after Revision) error
	// Watch yields heads as they change until ctx ends. It is a hint: it may miss
	// changes and may be late; its silence proves nothing.
	Watch(ctx context.Context, prefix string) iter.Seq[Record]
	// Close ends the store; calls under way finish or return ErrClosed.
	Close() error
}

// A Leaser grants the right to act for a name to one holder at a time.
type Leaser interface {
	// Acquire returns the lease, or ErrConflict when another holder has it.
	Acquire(ctx context.Context, name, holder string) (Lease, error)
}

// A Lease is the right to act. It is renewed until it is released or lost.
type Lease interface {
	// Trusted is the instant after which the holder must not act; it moves on as
	// the lease is renewed. A lease that never ends returns a time far away.
	Trusted() time.Time
	// Lost is closed when the lease is known to be lost.
	Lost() <-chan struct{}
	// Release gives the lease back.
	Release(ctx context.Context) error
}
