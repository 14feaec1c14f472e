//go:build !linux

package bolt

import "os"

// refuseNetwork knows no file system here.
func refuseNetwork(string) error { return nil }

// freeBytes cannot tell here.
func freeBytes(string) (n uint64, ok bool) { return 0, false }

// noFollow: the flag is not known here.
const noFollow = 0

// tryLock leaves the lock to bbolt, which takes its own when it opens the file.
func tryLock(*os.File, bool) (bool, error) { return true, nil }
