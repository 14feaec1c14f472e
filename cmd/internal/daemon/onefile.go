package daemon

import (
	"bytes"
	"io"
	"io/fs"
	"time"
)

// oneFile is a file system with a single file: a policy that came with a
// request can name no other.
type oneFile struct {
	name string
	data []byte
}

// Open opens the file.
func (o oneFile) Open(name string) (fs.File, error) {
	if name != o.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &openFile{oneFile: o, Reader: bytes.NewReader(o.data)}, nil
}

type openFile struct {
	oneFile
	*bytes.Reader
}

var _ io.Reader = (*openFile)(nil)

// Stat describes the file; it is its own description.
func (f *openFile) Stat() (fs.FileInfo, error) { return fileInfo{f.oneFile}, nil }

// Close does nothing.
func (f *openFile) Close() error { return nil }

type fileInfo struct{ oneFile }

func (i fileInfo) Name() string     { return i.name }
func (i fileInfo) Size() int64      { return int64(len(i.data)) }
func (fileInfo) Mode() fs.FileMode  { return 0o400 }
func (fileInfo) ModTime() time.Time { return time.Time{} }
func (fileInfo) IsDir() bool        { return false }
func (fileInfo) Sys() any           { return nil }
