package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"sync/atomic"
	"time"

	"github.com/belayd/belay/store"
)

// A Look reads a store's file that no daemon has open, and checks of it what it
// reads: the pages on the way to a record, their order, the checksums, that a
// head's records are its own. It opens at once, however large the file is, where
// Open reads all of it first. What it returns is as sound as what Open lets
// through; it only does not know whether the rest is: that takes Open.
//
// It implements store.Store, to be read: Append and Delete return ErrReadOnly,
// and Watch, whose file does not change, yields nothing. It is safe for
// concurrent use.
type Look struct {
	path string
	file *os.File

	sheets *sheets
	layout layout

	watch  store.Watchers
	closed atomic.Bool
}

var _ store.Store = (*Look)(nil)

// OpenLook opens the file at path to be looked at. It waits up to timeout for
// another process to let go of the file; 0 is three seconds. The errors are
// those of Open.
func OpenLook(path string, timeout time.Duration) (*Look, error) {
	k, err := openLook(path, timeout)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return k, nil
}

func openLook(path string, timeout time.Duration) (*Look, error) {
	if timeout <= 0 {
		timeout = lockTimeout
	}
	path, err := resolve(path, true)
	if err != nil {
		return nil, err
	}
	f, err := openLocked(path, true, timeout)
	if err != nil {
		return nil, err
	}
	k := &Look{path: path, file: f}
	if err := k.attach(); err != nil {
		return nil, errors.Join(explain(path, err), f.Close())
	}
	return k, nil
}

// attach finds the last commit and its buckets.
func (k *Look) attach() error {
	m, err := k.lastMeta()
	if err != nil {
		return err
	}
	k.sheets = &sheets{r: k.file, meta: m, branches: map[uint64]page{}}
	belay, ok, err := k.sheets.root(bucketBelay, nil)
	if err != nil {
		return err
	}
	var format []byte
	if ok {
		if format, err = belay.get(keyFormat); err != nil {
			return err
		}
	}
	if format == nil {
		return fmt.Errorf("%w: it has no format", ErrForeign)
	}
	if string(format) != formatVersion {
		return fmt.Errorf("%w: its format is %.20q, this Belay knows %q", ErrForeign, format, formatVersion)
	}
	log, hasLog, err := k.sheets.root(bucketLog, func(e leaf) error {
		_, err := decodeLog(e.key, e.value)
		return err
	})
	heads, hasHeads, headsErr := k.sheets.root(bucketHeads, func(e leaf) error {
		_, err := decodeHead(e.key, e.value)
		return err
	})
	if err := errors.Join(err, headsErr); err != nil {
		return err
	}
	if !hasLog || !hasHeads {
		return errNoBuckets
	}
	k.layout = layout{log: log, heads: heads}
	return nil
}

// lastMeta reads which commit is the last.
func (k *Look) lastMeta() (meta, error) {
	info, err := k.file.Stat()
	if err != nil {
		return meta{}, err
	}
	if info.Size() < 4*pageSizeMin {
		return meta{}, fmt.Errorf("%w: it has %d bytes", errShort, info.Size())
	}
	metas, err := readMetas(k.file)
	if err != nil {
		return meta{}, err
	}
	return newestMeta(metas, info.Size())
}

// view calls fn with the records of the last commit when the look was opened.
// The pages of a commit stay as they are until the next one; where no lock keeps
// other processes from making one, what was read meanwhile is thrown away.
func (k *Look) view(ctx context.Context, fn func(l layout) error) error {
	if err := k.ready(ctx); err != nil {
		return err
	}
	err := fn(k.layout)
	m, metaErr := k.sheets.meta, error(nil)
	if !lockable {
		m, metaErr = k.lastMeta()
	}
	switch {
	case errors.Is(err, fs.ErrClosed), errors.Is(metaErr, fs.ErrClosed):
		return store.ErrClosed
	case metaErr != nil:
		return explain(k.path, metaErr)
	case m.txid != k.sheets.meta.txid:
		return inUse(k.path, true, 0)
	case err != nil:
		return explain(k.path, err)
	}
	return nil
}

func (k *Look) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if k.closed.Load() {
		return store.ErrClosed
	}
	return nil
}

// Head returns the key's last record.
func (k *Look) Head(ctx context.Context, key string) (store.Record, error) {
	return headIn(ctx, k, key)
}

// Heads yields the last record of every key with the prefix.
func (k *Look) Heads(ctx context.Context, prefix string) iter.Seq2[store.Record, error] {
	return headsIn(ctx, k, prefix)
}

// History yields the key's records.
func (k *Look) History(ctx context.Context, key string) iter.Seq2[store.Record, error] {
	return historyIn(ctx, k, key)
}

// Since yields the records of all keys with the prefix after a revision.
func (k *Look) Since(ctx context.Context, prefix string, after store.Revision) iter.Seq2[store.Record, error] {
	return sinceIn(ctx, k, prefix, after)
}

// States yields the heads of every key with the prefix without their entries,
// by key. That leaves the log alone, where each entry is a page of its own to
// read. The state of a record is good until the next one is yielded.
func (k *Look) States(ctx context.Context, prefix string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		stopped := false
		err := k.view(ctx, func(l layout) error {
			for e, err := range l.heads.from([]byte(prefix)) {
				if err == nil {
					err = ctx.Err()
				}
				if err != nil || !bytes.HasPrefix(e.key, []byte(prefix)) {
					return err
				}
				h, err := decodeHead(e.key, e.value)
				if err != nil {
					return err
				}
				if !yield(store.Record{Key: string(e.key), Revision: h.revision, State: h.state}, nil) {
					stopped = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(store.Record{}, fmt.Errorf("states of %q: %w", prefix, err))
		}
	}
}

// Append returns ErrReadOnly.
func (k *Look) Append(_ context.Context, key string, _, _ []byte, _ store.Revision) (store.Revision, error) {
	return 0, fmt.Errorf("append %s: %w", key, ErrReadOnly)
}

// Delete returns ErrReadOnly.
func (k *Look) Delete(_ context.Context, key string, _ store.Revision) error {
	return fmt.Errorf("delete %s: %w", key, ErrReadOnly)
}

// Watch yields nothing until ctx ends or the look is closed.
func (k *Look) Watch(ctx context.Context, prefix string) iter.Seq[store.Record] {
	return k.watch.Watch(ctx, prefix, k.Head)
}

// Close lets go of the file; what is being read meanwhile gets ErrClosed.
func (k *Look) Close() error {
	if k.closed.Swap(true) {
		return nil
	}
	k.watch.Close()
	if err := k.file.Close(); err != nil {
		return fmt.Errorf("close store %s: %w", k.path, err)
	}
	return nil
}
