package draft

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts the files into a folder, which is made when missing, and returns
// their paths. A file that is there already is an error that wraps fs.ErrExist;
// then, and when a write fails, none of the files is left.
func (d *Draft) Write(dir string) (paths []string, err error) {
	for _, f := range d.Files {
		if _, err := os.Lstat(filepath.Join(dir, f.Name)); err == nil {
			return nil, fmt.Errorf("%s: %w; nothing is overwritten: name another folder", filepath.Join(dir, f.Name),
				fs.ErrExist)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("write draft: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("write draft: %w", err)
	}
	defer func() {
		if err == nil {
			return
		}
		for _, p := range paths {
			err = errors.Join(err, os.Remove(p))
		}
		paths = nil
	}()
	for _, f := range d.Files {
		path := filepath.Join(dir, f.Name)
		if err := create(path, f.Text); err != nil {
			return paths, fmt.Errorf("write draft: %w", err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// create writes a new file; what is there is never touched.
func create(path, text string) error {
	// No secret stands in these files, and others review them.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // see above
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	return f.Close()
}
