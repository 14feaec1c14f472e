package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

const (
	// compactPages is the number of pages below which a file is left as it is.
	compactPages = 256
	// compactTx bounds a transaction of the compaction in bytes.
	compactTx = 8 << 20
)

// compactIfSparse replaces the file by a smaller copy if more than half of its
// pages are free, because a bbolt file never shrinks by itself. The lock is kept
// all the time: the copy is locked before it gets the name. A compaction that
// fails leaves the file as it was, and the store opens. An error means that the
// store cannot go on.
func (s *Store) compactIfSparse() error {
	free := s.db.Stats().FreePageN
	var size int64
	if err := s.db.View(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return err
	}
	pages := int(size) / s.db.Info().PageSize
	if pages < compactPages || 2*free <= pages {
		return nil
	}
	needed := uint64(pages-free) * uint64(s.db.Info().PageSize)
	if room, ok := freeBytes(filepath.Dir(s.path)); ok && room < 2*needed {
		s.log.Warn("store not compacted", "store", s.path, "pages", pages, "free", free, "cause",
			"no room for the copy")
		return nil
	}
	f, err := s.compactInto(s.path + ".compact")
	if err != nil {
		s.log.Warn("store not compacted", "store", s.path, "pages", pages, "free", free, "cause", err.Error())
		return nil
	}
	if err := errors.Join(s.db.Close(), syncDir(s.path)); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := s.attach(f); err != nil {
		return err
	}
	s.log.Info("store compacted", "store", s.path, "pages", pages, "free", free)
	return nil
}

// compactInto makes the copy, checks it and gives it the store's name. It
// returns the copy locked.
func (s *Store) compactInto(tmp string) (f *os.File, err error) {
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(tmp)))
		}
	}()
	f, err = os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	copyDB, err := openDB(f, false, lockTimeout)
	if err != nil {
		return nil, err
	}
	copyDB.NoSync = true // Synced once, below.
	if err := errors.Join(bbolt.Compact(copyDB, s.db, compactTx), copyDB.Sync(), copyDB.Close()); err != nil {
		return nil, fmt.Errorf("compact: %w", err)
	}
	return lockAndRename(tmp, s.path)
}

// lockAndRename checks the copy, locks it and renames it.
func lockAndRename(tmp, path string) (*os.File, error) {
	f, err := openLocked(tmp, false, lockTimeout)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = checkFile(f, info.Size())
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("replace by the copy: %w", err), f.Close())
	}
	return f, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
