package bolt

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// A reserve is a file of no use but its size. When the disk is full half of it
// goes, so that what is under way can still be written down and ended. The other
// half goes for a delete: making room takes some. It comes back when the disk
// has room for twice as much.
type reserve struct {
	path string
	size int64        // not positive: there is none
	left atomic.Int64 // what is there of it, in bytes

	// again is when a reserve that could not be written is tried again: a quota shows
	// only in the writing, and that takes longer than all else. why is the reason that
	// was logged last.
	again time.Time
	why   string
}

// reserveAgain is how long after a try in vain the reserve is written again.
const reserveAgain = time.Minute

// reserveLook is how often a writer that has nothing to write looks whether there is
// room for a reserve that is missing.
const reserveLook = 15 * time.Second

// release cuts the file down to a size and reports whether that gave any space
// back.
func (r *reserve) release(to int64) bool {
	if r.left.Load() <= to {
		return false
	}
	err := r.cut(to)
	if err == nil && to == 0 {
		err = os.Remove(r.path)
	}
	r.left.Store(to)
	return err == nil
}

// take makes the file, or finds the one of an earlier process, whole or half.
// The error says why it is not whole.
func (r *reserve) take() error {
	if info, err := os.Lstat(r.path); err == nil && info.Mode().IsRegular() && info.Size() <= r.size {
		r.left.Store(info.Size())
		if info.Size() == r.size {
			return nil
		}
	}
	room, ok := freeBytes(filepath.Dir(r.path))
	if ok && room < 2*uint64(r.size) {
		return fmt.Errorf("the disk has less than %d MiB free", 2*r.size>>20)
	}
	r.left.Store(0)
	if err := r.fill(); err != nil {
		r.again = time.Now().Add(reserveAgain)
		return errors.Join(fmt.Errorf("write the reserve: %w", err), os.Remove(r.path))
	}
	r.left.Store(r.size)
	return nil
}

// cut makes the file that there is smaller.
func (r *reserve) cut(to int64) error {
	f, err := r.open(0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(to), f.Close())
}

// open opens the file to be written, and nothing else that has its name: never what
// a link leads to.
func (r *reserve) open(flag int) (*os.File, error) {
	if err := refuseIrregular(r.path); err != nil {
		return nil, err
	}
	return os.OpenFile(r.path, os.O_WRONLY|noFollow|flag, 0o600)
}

// fill writes noise, which a file system that compresses cannot make smaller.
func (r *reserve) fill() error {
	f, err := r.open(os.O_CREATE | os.O_TRUNC)
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
	r := &s.reserve
	if r.size <= 0 || r.left.Load() == r.size || time.Now().Before(r.again) {
		return
	}
	err := r.take()
	switch {
	case err == nil:
		s.log.Info("store reserve taken", "store", s.path, "reserve", r.size)
		r.why = ""
	case err.Error() != r.why:
		r.why = err.Error()
		s.log.Warn("store reserve missing", "store", s.path, "reserve", r.size, "cause", r.why)
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
	// Reserved says that the whole reserve is there. Without it, or with Free below
	// Options.Reserve, nothing new should be started.
	Reserved bool
	// Reserve is the size of the whole reserve, in bytes, and Path where it stands.
	Reserve int64
	Path    string
}

// Needs says what a person does about a missing reserve, and how much room it takes.
func (s Space) Needs() string {
	have := "an unknown amount"
	if s.FreeKnown {
		have = fmt.Sprintf("%d MiB", s.Free>>20)
	}
	// A file system keeps some blocks of its own beside the reserve's.
	return fmt.Sprintf("free space on the disk of %s until %d MiB are free (now %s); belayd notices by itself",
		s.Path, 2*s.Reserve>>20, have)
}

// Space returns the room the store has now.
func (s *Store) Space() (Space, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return Space{}, fmt.Errorf("space of store: %w", err)
	}
	space := Space{File: info.Size(), Reserve: s.reserve.size, Path: s.path}
	space.Reserved = s.reserve.size > 0 && s.reserve.left.Load() == s.reserve.size
	space.Free, space.FreeKnown = freeBytes(filepath.Dir(s.path))
	return space, nil
}
