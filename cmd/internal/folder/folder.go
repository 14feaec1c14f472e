// Package folder reads files that somebody else may have put there.
//
// The rules of the package:
//   - Only regular files are read. A named pipe, a socket or a device is refused
//     at once: nothing waits for who writes to it.
//   - Of a Folder no name and no link leads out, and files that it is told to keep
//     back are not read under any name: who may write a policy reads no secret.
//   - What is read is bounded.
//
// It knows nothing of what the files say.
package folder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// The reasons of this package, within an *fs.PathError.
var (
	// ErrIrregular: the name leads to a folder, a named pipe, a socket or a device.
	ErrIrregular = errors.New("it is no regular file")
	// ErrOutside: a link leads out of the folder.
	ErrOutside = errors.New("a link leads out of the folder; put the file itself there")
	// ErrKept: the file is one that the folder keeps back.
	ErrKept = errors.New("it is the config or one of its secrets; those are not read as part of something else")
)

// A Folder is the files of one folder and below it, read-only. It is safe for
// concurrent use, and holds nothing open.
type Folder struct {
	name string
	kept []fs.FileInfo
}

var _ fs.FS = (*Folder)(nil)

// At is the folder of that name, without the files that keep names: those that do
// not exist are ignored.
func At(name string, keep ...string) *Folder {
	f := &Folder{name: name}
	for _, k := range keep {
		if info, err := os.Stat(k); err == nil {
			f.kept = append(f.kept, info)
		}
	}
	return f
}

// Open opens a regular file. Links are followed as long as they stay within the
// folder, as those of a mounted ConfigMap do.
func (f *Folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	root, err := os.OpenRoot(f.name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // it was only read
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, outside(name, err)
	}
	info, err := regular(name, file)
	if err == nil && slices.ContainsFunc(f.kept, func(k fs.FileInfo) bool { return os.SameFile(k, info) }) {
		err = &fs.PathError{Op: "open", Path: name, Err: ErrKept}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// outside puts a clear reason in the place of the library's own, which it does not
// export.
func outside(name string, err error) error {
	bad, ok := errors.AsType[*fs.PathError](err)
	if ok && strings.Contains(bad.Err.Error(), "escapes") {
		return &fs.PathError{Op: "open", Path: name, Err: ErrOutside}
	}
	return err
}

// Open opens a regular file that the operator names, wherever links lead.
func Open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	if _, err := regular(name, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// regular describes an open file, or says that it is no regular one.
func regular(name string, f *os.File) (fs.FileInfo, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: ErrIrregular}
	}
	return info, nil
}

// ReadFile reads a regular file that the operator names, and describes it. One of
// more than most bytes is refused.
func ReadFile(name string, most int64) ([]byte, fs.FileInfo, error) {
	f, err := Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, nil, err
	case int64(len(b)) > most:
		return nil, nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it is larger than %d bytes", most)}
	}
	return b, info, nil
}
