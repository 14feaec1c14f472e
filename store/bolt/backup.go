package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"go.etcd.io/bbolt"
)

// Backup writes a copy of the store as it is now to path, while the store is in
// use. The copy is checked and on disk when Backup returns, and a store like any
// other: Open takes it. A file at path is not replaced: that is an error.
// Appends go on meanwhile; the space of what is deleted is not used again
// before it ends.
func (s *Store) Backup(ctx context.Context, path string) error {
	if err := s.backup(ctx, path); err != nil {
		return fmt.Errorf("back up store %s to %s: %w", s.path, path, err)
	}
	return nil
}

func (s *Store) backup(ctx context.Context, path string) (err error) {
	if err := absent(path); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tmp.Close(), ignoreMissing(os.Remove(tmp.Name()))) }()
	if err := s.copyTo(ctx, tmp); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	info, err := tmp.Stat()
	if err != nil {
		return err
	}
	if _, err := checkFile(tmp, info.Size()); err != nil {
		return fmt.Errorf("check the copy: %w", err)
	}
	return publish(tmp.Name(), path)
}

// copyTo writes the store as it is now to w, until ctx ends or the store is
// closed.
func (s *Store) copyTo(ctx context.Context, w io.Writer) error {
	check := func() error { return s.ready(ctx) }
	return s.transaction(ctx, func(tx *bbolt.Tx, _ layout) error {
		_, err := tx.WriteTo(checkedWriter{w, check})
		if over := check(); over != nil {
			return over // bbolt keeps only the text of some errors.
		}
		return err
	})
}

// publish gives a finished file its name, which must be free.
func publish(tmp, path string) error {
	err := os.Link(tmp, path)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) {
		// The file system has no hard links. The gap between the two is harmless:
		// it would replace a backup made in the same instant under the same name.
		if err := absent(path); err != nil {
			return err
		}
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return err
	}
	return syncDir(path)
}

func absent(path string) error {
	switch _, err := os.Lstat(path); { //nolint:gosec // The path is the operator's.
	case err == nil:
		return fmt.Errorf("%w; choose another name or move it away", fs.ErrExist)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

// A checkedWriter stops writing when the caller has gone or the store is closed.
type checkedWriter struct {
	w     io.Writer
	check func() error
}

func (w checkedWriter) Write(p []byte) (int, error) {
	if err := w.check(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}
