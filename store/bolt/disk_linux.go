package bolt

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// networks are the file systems whose locks and mappings a store cannot trust,
// by the magic number of statfs(2).
var networks = map[int64]string{
	0x6969:     "nfs",
	0x517B:     "smb",
	0xFE534D42: "smb2",
	0xFF534D42: "cifs",
	0x5346414F: "afs",
	0x01021997: "9p",
}

// refuseNetwork returns ErrNetwork if the directory lies on one of them.
func refuseNetwork(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at the file system of %s: %w; the directory must exist", dir, err)
	}
	return refuseType(dir, int64(fs.Type)&0xFFFFFFFF) //nolint:unconvert // It is not an int64 on every architecture.
}

func refuseType(dir string, magic int64) error {
	if name, ok := networks[magic]; ok {
		return fmt.Errorf("%w: %s is on %s, where locks do not keep a second belayd out; use a local disk, or the "+
			"store jetstream", ErrNetwork, dir, name)
	}
	return nil
}

// freeBytes returns what the user of this process may still write in the
// directory; ok is false if nobody can tell.
func freeBytes(dir string) (n uint64, ok bool) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Bsize <= 0 {
		return 0, false
	}
	return fs.Bavail * uint64(fs.Bsize), true
}

// noFollow makes the opening of a link fail.
const noFollow = syscall.O_NOFOLLOW

// tryLock reports whether the file is locked for this process, without waiting.
func tryLock(f *os.File, exclusive bool) (bool, error) {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	return true, nil
}
