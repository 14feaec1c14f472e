package bolt

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
)

// A reserve is a file of no use but its size. When the disk is full it goes, so
// that what is under way can still be written down and ended. It comes back
// when there is room for twice as much.
type reserve struct {
	path string
	size int64 // not positive: there is none
	held atomic.Bool
}

// release gives the space back and reports whether there was any.
func (r *reserve) release() bool {
	if !r.held.Swap(false) {
		return false
	}
	return os.Remove(r.path) == nil
}

// take makes the file, or finds the one of an earlier process. It reports
// whether the reserve is there.
func (r *reserve) take() (bool, error) {
	if info, err := os.Lstat(r.path); err == nil && info.Mode().IsRegular() && info.Size() == r.size {
		r.held.Store(true)
		return true, nil
	}
	room, ok := freeBytes(filepath.Dir(r.path))
	if ok && room < 2*uint64(r.size) { //nolint:gosec // It is positive here.
		return false, nil
	}
	if err := r.fill(); err != nil {
		return false, errors.Join(fmt.Errorf("write the reserve: %w", err), os.Remove(r.path))
	}
	r.held.Store(true)
	return true, nil
}

// fill writes noise, which a file system that compresses cannot make smaller.
func (r *reserve) fill() error {
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{})
	_, err = io.CopyN(f, noise, r.size)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// keepReserve sees to it that there is a reserve if there is room for one. It
// belongs to the writer.
func (s *Store) keepReserve() {
	if s.reserve.size <= 0 || s.reserve.held.Load() {
		return
	}
	switch ok, err := s.reserve.take(); {
	case ok:
		s.log.Info("store reserve taken", "store", s.path, "reserve", s.reserve.size)
	case err != nil:
		s.log.Warn("store reserve missing", "store", s.path, "reserve", s.reserve.size, "cause", err.Error())
	}
}

// Space is the room a store has.
type Space struct {
	// File is the size of the store's file in bytes.
	File int64
	// Free is what may still be written on its disk, in bytes; 0 with FreeKnown
	// false where the system does not say.
	Free      uint64
	FreeKnown bool
	// Reserved says that the reserve is there. Without it, or with Free below
	// Options.Reserve, nothing new should be started.
	Reserved bool
}

// Space returns the room the store has now.
func (s *Store) Space() (Space, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return Space{}, fmt.Errorf("space of store: %w", err)
	}
	space := Space{File: info.Size(), Reserved: s.reserve.held.Load()}
	space.Free, space.FreeKnown = freeBytes(filepath.Dir(s.path))
	return space, nil
}
