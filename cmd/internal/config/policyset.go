package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
)

// A PolicySet is the policies of one moment, by name.
type PolicySet struct {
	ByName map[string]*policies.Policy
	Files  map[string]string
	Sum    [sha256.Size]byte
}

// Environment is what policies may name.
func (c *Config) Environment() *policies.Environment {
	e := &policies.Environment{
		Routers: kinds(routers, c.Routers), Sources: kinds(sources, c.Sources), Notifiers: kinds(notifiers, c.Notifiers),
		Dialects: map[string]string{}, Lags: map[string]time.Duration{}, Metrics: c.Metrics, Now: time.Now(),
	}
	e.Groups, e.Anonymous = map[string]int{}, c.Auth.open()
	for _, p := range c.People {
		for _, g := range p.Groups {
			e.Groups[g]++
		}
	}
	for _, n := range c.Notifiers {
		if n.Slack != nil {
			e.Groups, e.Anonymous = nil, false
		}
	}
	if c.Auth.OIDC != nil {
		e.Groups = nil
	}
	for name, s := range c.Sources {
		e.Lags[name] = s.lag()
		if s.Prometheus != nil {
			e.Dialects[name] = s.Prometheus.Dialect
		}
	}
	return e
}

// ReadPolicies parses every policy file. The set has those that are sound; the
// problems of all are returned, and what is wrong besides.
func (c *Config) ReadPolicies(env *policies.Environment) (*PolicySet, document.Problems, error) {
	files, err := c.PolicyFiles()
	set := &PolicySet{ByName: map[string]*policies.Policy{}, Files: map[string]string{}}
	var all document.Problems
	errs := []error{err}
	own := c.own()
	for _, f := range files {
		p, ps := policies.Parse(folder.At(filepath.Dir(f), own...), filepath.Base(f), env)
		for i := range ps {
			ps[i].File = filepath.Join(filepath.Dir(f), filepath.Base(ps[i].File))
		}
		all = append(all, ps...)
		if p == nil || p.Base || ps.HasErrors() {
			continue
		}
		name := p.Document.Metadata.Name
		if other, twice := set.Files[name]; twice {
			errs = append(errs, fmt.Errorf("policies: %q stands in %s and in %s; names must differ", name, other, f))
			delete(set.ByName, name) // which of them is meant is not known
			continue
		}
		set.ByName[name], set.Files[name] = p, f
	}
	h := sha256.New()
	for _, name := range sortedKeys(set.ByName) {
		fmt.Fprintf(h, "%s %s\n", name, set.ByName[name].Hash())
	}
	set.Sum = [sha256.Size]byte(h.Sum(nil))
	return set, all, errors.Join(errs...)
}

// SoundPolicies are the policies where none has an error.
func (c *Config) SoundPolicies(env *policies.Environment) (*PolicySet, document.Problems, error) {
	read, ps, err := c.ReadPolicies(env)
	if err == nil && ps.HasErrors() {
		err = &ProblemsError{Problems: ps.Errors()}
	}
	return read, ps, err
}

// PolicyFiles expands the policies' patterns. One without a match is an error, so
// that a typing mistake does not empty the set; the files of the others are
// returned.
func (c *Config) PolicyFiles() ([]string, error) {
	var files []string
	var errs []error
	for _, pattern := range c.Policies {
		found, err := filepath.Glob(c.Path(pattern))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("policies: %q: %w", pattern, err))
		case len(found) == 0:
			errs = append(errs, fmt.Errorf("policies: %q matches no file: %w", pattern, fs.ErrNotExist))
		}
		for _, f := range found {
			if !strings.HasSuffix(f, ".test.yaml") && !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	slices.Sort(files)
	return files, errors.Join(errs...)
}
