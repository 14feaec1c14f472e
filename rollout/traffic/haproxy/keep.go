package haproxy

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/belayd/belay/rollout/traffic"
)

// replaceFile replaces a file in one act, so that a reload finds the old or the
// new one; an existing file's permissions stay.
func replaceFile(name string, data []byte) (err error) {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".belay-*")
	if err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("replace %s: %w", name, err)
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// told adds to a description what the configuration tells, and names what
// nobody does.
func (r *Router) told(endpoint string, d *traffic.Description) {
	e := r.endpoints[endpoint]
	d.Tags, d.ScoringURI, d.AuthMode = maps.Clone(e.Tags), e.ScoringURI, e.AuthMode
	d.Unknown = append(d.Unknown, "publicNetwork")
	if e.Tags == nil {
		d.Unknown = append(d.Unknown, "tags")
	}
	if e.ScoringURI == "" {
		d.Unknown = append(d.Unknown, "scoringURI")
	}
	if e.AuthMode == "" {
		d.Unknown = append(d.Unknown, "authMode")
	}
	slices.Sort(d.Unknown)
}
