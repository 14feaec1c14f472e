// Package bolt is a store.Store in one bbolt file, for a Belay that runs as one
// process.
//
// The rules of the package:
//   - Appends that wait at the same time share one transaction, two fdatasync.
//     A lone append waits for nobody.
//   - An append that returned nil is on disk, and nothing is read that is not.
//   - No space (ErrFull) is survived; a reserve file gives the first shortage
//     room to be handled. Any other failed commit breaks the store: those under
//     way get ErrUnknown, everybody after them ErrBroken, and the process must
//     exit with 75 and start again.
//   - Open reads the whole file and refuses a damaged one untouched, with the
//     commands that help.
//   - One process at a time: the file is locked. Network file systems, whose
//     locks do not hold, are refused.
//   - The store and its reserve are regular files in a folder where nobody else
//     puts any: links to them and folders that everybody may write are refused.
//
// It does not replicate (store/jetstream does), encrypt or compress. The locks,
// the free space and the kind of file system are known on Linux only; elsewhere
// bbolt's own lock is all there is.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belayd/belay/store"
)

// Options say how to open a store. The zero value is right for a daemon.
type Options struct {
	// ReadOnly opens a file that no daemon has open, to look at it: nothing is
	// written, created, compacted or reserved.
	ReadOnly bool
	// Timeout is how long Open waits for another process to let go of the file;
	// 0 is three seconds.
	Timeout time.Duration
	// Reserve is the size in bytes of the file kept beside the store, given up
	// when the disk is full; 0 is 16 MiB, less than 0 is none.
	Reserve int64
	// Logger hears what no call returns: a compaction, the reserve given up or
	// taken back. Nil is silence.
	Logger *slog.Logger

	hooks hooks
}

// hooks are the switches of this package's own tests: faults that no test can
// make the system do, and protections removed, to prove that the tests miss
// them. The zero value is the store as it is.
type hooks struct {
	commit   func(*bbolt.Tx) error               // instead of (*bbolt.Tx).Commit
	next     func(*bbolt.Bucket) (uint64, error) // instead of (*bbolt.Bucket).NextSequence
	noCAS    bool                                // a write does not look at the head
	ackEarly bool                                // a write is answered before its commit
	keepLog  bool                                // a delete leaves the history behind
	readSoon bool                                // a read sees what is not on disk yet
}

// The errors of this store beside those of package store.
var (
	// ErrInUse: another process has the file.
	ErrInUse = errors.New("bolt: in use by another process")
	// ErrCorrupt: the file is damaged; it was not changed.
	ErrCorrupt = errors.New("bolt: damaged file")
	// ErrForeign: the file is no store of this version of Belay; it was not
	// changed.
	ErrForeign = errors.New("bolt: not a store of this version")
	// ErrNetwork: the file would lie on a network file system.
	ErrNetwork = errors.New("bolt: network file system")
	// ErrUnsafe: others may put files where the store is, or have done so.
	ErrUnsafe = errors.New("bolt: unsafe place")
	// ErrReadOnly: the store was opened to be read only.
	ErrReadOnly = errors.New("bolt: read-only")
)

const (
	lockTimeout = 3 * time.Second
	reserveSize = 16 << 20
	// queueLen bounds the writes that wait for the writer; a caller beyond it
	// waits in Append, with its context.
	queueLen = 1024
	// mapSize is address space, not memory: while the file is smaller, a reader
	// that takes its time (a backup) never makes the writer wait for a remap.
	mapSize = 1 << 30
	// growth is the step in which the file grows. Each costs one more fsync.
	growth = 1 << 20
)

// A Store keeps its records in a bbolt file. Open makes one. It is safe for
// concurrent use and grants every lease, because the process owns the file.
type Store struct {
	store.Always

	path  string
	opts  Options
	log   *slog.Logger
	watch store.Watchers

	db   *bbolt.DB
	file *os.File // the one that db has; db closes it

	queue   chan *write
	closing chan struct{} // closed by Close
	stopped chan struct{} // closed by the writer when it has ended
	close   sync.Once
	closed  error // of the first Close

	broken     chan struct{} // closed when the store is broken
	brokenOnce sync.Once
	brokenErr  error // valid once broken is closed
	stuck      atomic.Bool

	durable durable
	reserve reserve // the writer's alone, but for left
	company bool    // the writer's alone: its last transaction had several writes
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Leaser = (*Store)(nil)
)

// Open opens the store in the file at path, which it creates if it is missing.
// It reads the whole file to see that it is sound, compacts it if more than
// half of it is free, and starts the one goroutine that writes; Close ends it.
// The errors are ErrInUse, ErrCorrupt, ErrForeign, ErrNetwork, ErrUnsafe or the
// system's, each with the remedy.
func Open(path string, o Options) (*Store, error) {
	s, err := open(path, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return s, nil
}

func open(path string, o Options) (*Store, error) {
	if o.Timeout <= 0 {
		o.Timeout = lockTimeout
	}
	if o.Reserve == 0 {
		o.Reserve = reserveSize
	}
	path, err := resolve(path, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	s := &Store{
		path:    path,
		opts:    o,
		log:     o.Logger,
		queue:   make(chan *write, queueLen),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
		broken:  make(chan struct{}),
		reserve: reserve{path: path + ".reserve", size: o.Reserve},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.openFile(); err != nil {
		return nil, err
	}
	if o.ReadOnly {
		close(s.stopped)
		return s, nil
	}
	if err := s.compactIfSparse(); err != nil {
		return nil, errors.Join(err, s.closeFile())
	}
	s.keepReserve()
	go s.run()
	return s, nil
}

// resolve returns the file that the path names, wherever the links of its folder
// lead. To be read, the file may be a link itself.
func resolve(path string, readOnly bool) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil && readOnly {
		return target, nil
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path)), nil
	}
	return path, nil // There is no file yet, or opening it says what is wrong.
}

// openFile locks, checks and maps the file, in this order.
func (s *Store) openFile() error {
	if !s.opts.ReadOnly {
		if err := prepare(filepath.Dir(s.path)); err != nil {
			return err
		}
		if err := errors.Join(refuseIrregular(s.path), refuseIrregular(s.reserve.path)); err != nil {
			return err
		}
		if err := create(s.path); err != nil {
			return err
		}
	}
	f, err := openLocked(s.path, s.opts.ReadOnly, s.opts.Timeout)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = checkFile(f, info.Size())
	}
	if err != nil {
		return errors.Join(explain(s.path, err), f.Close())
	}
	return s.attach(f)
}

// attach maps a file that is locked and sound; it owns f.
func (s *Store) attach(f *os.File) error {
	db, err := openDB(f, s.opts.ReadOnly, s.opts.Timeout)
	if err != nil {
		return err
	}
	s.db, s.file = db, f
	err = guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			s.durable.set(tx.ID())
			return checkHeads(tx)
		})
	})
	if err != nil {
		return errors.Join(explain(s.path, err), s.closeFile())
	}
	return nil
}

// openDB hands f to bbolt, which closes it with the database, or here if that
// fails.
func openDB(f *os.File, readOnly bool, timeout time.Duration) (*bbolt.DB, error) {
	var db *bbolt.DB
	err := guard(func() (err error) {
		db, err = bbolt.Open(f.Name(), 0o600, &bbolt.Options{
			Timeout:         timeout,
			ReadOnly:        readOnly,
			FreelistType:    bbolt.FreelistMapType,
			PreLoadFreelist: true,
			InitialMmapSize: mapSize,
			OpenFile:        func(string, int, fs.FileMode) (*os.File, error) { return f, nil },
		})
		return err
	})
	if err != nil {
		_ = f.Close() // bbolt has closed it, unless it panicked.
		return nil, fmt.Errorf("map the file: %w", err)
	}
	db.AllocSize = growth
	return db, nil
}

// Append adds a record after the key's head. It returns when the record is on
// disk. When ctx ends first, the error is that of ctx if the append was still
// waiting and is now withdrawn, and ErrUnknown if the writer had begun with it.
func (s *Store) Append(
	ctx context.Context, key string, entry, state []byte, after store.Revision,
) (store.Revision, error) {
	if err := store.CheckAppend(key, entry, state); err != nil {
		return 0, fmt.Errorf("append: %w", err)
	}
	revision, err := s.submit(ctx, newAppend(key, entry, state, after))
	if err != nil {
		return 0, fmt.Errorf("append %s: %w", key, err)
	}
	return revision, nil
}

// Delete removes the key and its history, with the same promises as Append.
func (s *Store) Delete(ctx context.Context, key string, after store.Revision) error {
	if err := store.CheckKey(key); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if _, err := s.submit(ctx, newDelete(key, after)); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// Watch yields heads as they change.
func (s *Store) Watch(ctx context.Context, prefix string) iter.Seq[store.Record] {
	return s.watch.Watch(ctx, prefix, s.Head)
}

// Broken is closed when the store cannot be trusted any more; Err says why. The
// process must then exit with 75, so that a new one reads what is on disk.
func (s *Store) Broken() <-chan struct{} { return s.broken }

// Err is what broke the store, wrapping store.ErrBroken, or nil.
func (s *Store) Err() error {
	select {
	case <-s.broken:
		return s.brokenErr
	default:
		return nil
	}
}

// Close ends the store: writes that the writer has begun with finish, those
// that wait get ErrClosed. It waits for the writer and for readers.
func (s *Store) Close() error {
	s.close.Do(func() {
		close(s.closing)
		s.watch.Close()
		<-s.stopped
		if err := s.closeFile(); err != nil {
			s.closed = fmt.Errorf("close store %s: %w", s.path, err)
		}
	})
	return s.closed
}

// closeFile lets go of the file. If a fault left a transaction open, bbolt
// would wait for it for ever: then only the lock goes, with the process soon to
// follow.
func (s *Store) closeFile() error {
	if s.stuck.Load() {
		return s.file.Close()
	}
	return s.db.Close()
}

// ready is the error of a call that must not even begin.
func (s *Store) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.closing:
		return store.ErrClosed
	default:
		return s.Err()
	}
}

// breakDown breaks the store for good and returns what every call gets from
// now on.
func (s *Store) breakDown(why error) error {
	s.brokenOnce.Do(func() {
		s.brokenErr = fmt.Errorf("%w: %w; the process must exit and start again", store.ErrBroken, why)
		close(s.broken)
	})
	return s.brokenErr
}
