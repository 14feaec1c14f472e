package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
)

// lockPoll is how often a lock that another process has is asked for again.
const lockPoll = 50 * time.Millisecond

// prepare makes the last part of the folder if that is missing, for this user alone,
// and refuses one that cannot be trusted.
func prepare(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the folder: %w; all but its last part must exist, and belong to the user of belayd",
			err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode(); mode.Perm()&0o002 != 0 {
		return fmt.Errorf("%w: everybody may put files into %s (mode %04o), in the place of the store's too; run "+
			"chmod o-w %s, or give the store a folder of its own, such as %s, which belayd makes",
			ErrUnsafe, dir, mode.Perm(), quote(dir), filepath.Join(dir, "store"))
	}
	return refuseNetwork(dir)
}

// refuseIrregular returns ErrUnsafe if there is something else than a regular file:
// what is written would go elsewhere.
func refuseIrregular(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() == fs.ModeSymlink:
		return fmt.Errorf("%w: %s is a link; remove it, and name the file itself", ErrUnsafe, path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is no regular file; move it away", ErrUnsafe, path)
	}
	return nil
}

// create makes an empty store at path unless there is a file. The file appears
// whole: it is written and synced under another name and then linked, which
// never replaces what another process has put there meanwhile.
func create(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) { //nolint:gosec // The path is the operator's.
		return err // There is a file, or nobody can tell.
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return fmt.Errorf("create: %w; the folder must belong to the user of belayd", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() //nolint:gosec // The name is the one just made.
	if err := initialize(tmp); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	err = os.Link(tmp.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create: %w; the file system must be a local one with hard links, such as ext4 or xfs", err)
	}
	return syncDir(path)
}

// initialize writes an empty store into the file, syncs it and closes it.
func initialize(f *os.File) error {
	db, err := openDB(f, false, lockTimeout)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketLog, bucketHeads} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		b, err := tx.CreateBucket(bucketBelay)
		if err != nil {
			return err
		}
		return b.Put(keyFormat, []byte(formatVersion))
	})
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, db.Close())
}

// syncDir makes the names in the directory of path durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path)) //nolint:gosec // The path is the operator's.
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// openLocked opens the file and locks it: shared to read, else exclusively. It
// waits up to timeout for other processes to let go.
func openLocked(path string, readOnly bool, timeout time.Duration) (*os.File, error) {
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	deadline := time.Now().Add(timeout)
	for {
		f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, 0) // a named pipe has no lock to wait for
		if err != nil {
			return nil, err
		}
		ok, err := lockIt(f, path, readOnly)
		if ok {
			return f, nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, inUse(path, readOnly, timeout)
		}
		time.Sleep(lockPoll)
	}
}

// lockIt reports whether f is locked and still the file at path: a store that
// was compacted meanwhile has been replaced.
func lockIt(f *os.File, path string, readOnly bool) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%w: it is not a regular file", ErrForeign)
	}
	ok, err := tryLock(f, !readOnly)
	if !ok || err != nil {
		return false, err
	}
	now, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(info, now), nil
}

func inUse(path string, readOnly bool, timeout time.Duration) error {
	if readOnly {
		return fmt.Errorf("%w for %s: ask the belayd that runs instead of reading its file, or stop it; fuser -v %s "+
			"names it", ErrInUse, timeout, quote(path))
	}
	return fmt.Errorf("%w for %s: one belayd at a time; stop the other one, or give this one a file of its own; "+
		"fuser -v %s names it", ErrInUse, timeout, quote(path))
}

// boltCommand is the tool that repairs; its version is the one in go.mod.
const boltCommand = "go run go.etcd.io/bbolt/cmd/bbolt@v1.5.0"

// explain adds to what is wrong with a file what can be done about it.
func explain(path string, err error) error {
	is := func(target error) bool { return errors.Is(err, target) }
	if !is(errPage) && !is(errMeta) && !is(errFreelist) && !is(errShort) && !is(errRecord) && !is(errFault) {
		return err
	}
	file, aside, fixed := quote(path), quote(path+".damaged"), quote(path+".fixed")
	adopt := fmt.Sprintf("%s check %s && mv %s %s && mv %s %s", boltCommand, fixed, file, aside, fixed, file)
	restore := fmt.Sprintf("To restore the last backup (belayd backup):\n  mv %s %s && cp BACKUP %s", file, aside, file)
	abandon := fmt.Sprintf("To make the list of free pages anew, which loses nothing:\n  %s surgery freelist abandon "+
		"%s --output %s && %s", boltCommand, file, fixed, adopt)
	revert := fmt.Sprintf("To go back by the last commit alone, which helps if a power cut tore it:\n  %s surgery "+
		"revert-meta-page %s --output %s && %s", boltCommand, file, fixed, adopt)
	save := fmt.Sprintf("To save what the other meta page has, at most one commit less:\n  %s compact -o %s %s && %s",
		boltCommand, fixed, file, adopt)
	ways := []string{restore, revert}
	switch {
	case is(errMeta):
		ways = []string{save, restore}
	case is(errFreelist):
		ways = []string{abandon, restore, revert}
	}
	return fmt.Errorf("%w: %w\nThe file was not changed.\n%s\nbelayd checks the file again when it starts, and reads "+
		"the endpoints back before it moves traffic",
		ErrCorrupt, err, strings.Join(ways, "\n"))
}

// quote makes the path one word for a shell.
func quote(path string) string {
	plain := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@%", r) {
			return -1
		}
		return r
	}
	if strings.Map(plain, path) == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
