package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/belayd/belay/policies/document"
)

// A Fault is one thing in the config, or in what it names, that cannot be used.
// path is the field that it stands at, as in the config; err says where and why.
type Fault struct {
	Path string
	Err  error
}

// Faults are what is wrong with a config that is used all the same: a belayd that
// did not start because of them would leave the open rollouts, and their way back,
// to themselves. What a fault is about is missing, by name, until it is put right.
type Faults []Fault

// Add takes what is wrong by the fields at which it stands.
func (fs *Faults) Add(c *Config, err error) {
	var bad *ProblemsError
	all, joined := err.(interface{ Unwrap() []error }) //nolint:errorlint // errors.Join's own
	switch {
	case err == nil:
	case joined:
		for _, e := range all.Unwrap() {
			fs.Add(c, e)
		}
	case errors.As(err, &bad):
		for _, p := range bad.Problems.Errors() {
			*fs = append(*fs, Fault{pathOf(p), &ProblemsError{Problems: document.Problems{p}}})
		}
	default:
		path, _, _ := strings.Cut(err.Error(), ": ")
		*fs = append(*fs, Fault{path, c.Located(err)})
	}
}

// pathOf is the field that a problem is about: a key that is misspelt stands for
// the one that it is taken for.
func pathOf(p document.Problem) string {
	if meant, ok := strings.CutPrefix(p.Hint, "did you mean "); ok && p.Code == document.CodeUnknown {
		return p.Path[:strings.LastIndex(p.Path, ".")+1] + strings.TrimSuffix(meant, "?")
	}
	return p.Path
}

// At is what is wrong with a field or with anything below it; nil when nothing is.
func (fs Faults) At(path string) error {
	var errs []error
	for _, f := range fs {
		if rest, ok := strings.CutPrefix(f.Path, path); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			errs = append(errs, f.Err)
		}
	}
	return errors.Join(errs...)
}

// Err is all of it, with every problem of a file in one *ProblemsError; nil when
// nothing is wrong.
func (fs Faults) Err() error {
	var problems document.Problems
	var errs []error
	for _, f := range fs {
		if bad, ok := errors.AsType[*ProblemsError](f.Err); ok {
			problems = append(problems, bad.Problems...)
			continue
		}
		errs = append(errs, f.Err)
	}
	switch {
	case len(problems) == 0:
		return errors.Join(errs...)
	case len(errs) == 0:
		return &ProblemsError{Problems: problems}
	}
	return errors.Join(append(errs, &ProblemsError{Problems: problems})...)
}

// nobodysRight are the sections that decide nothing about who may do what. Any
// other, and what is not known to be one of them, does.
var nobodysRight = []string{"store", "policies", "sources", "routers", "notifiers", "triggers", "events", "tell",
	"metrics", "retention", "queue", "replica", "externalURL"}

// Doors reports whether nobody is let in who does not come over the control socket,
// because who may do what is not known, and whether who is who is not known either,
// so that nobody is heard through notifiers.
func (fs Faults) Doors() (shut, people bool) {
	for _, f := range fs {
		section := f.Path
		if end := strings.IndexAny(section, ".["); end >= 0 {
			section = section[:end]
		}
		if slices.Contains(nobodysRight, section) {
			continue
		}
		shut, people = true, people || section != "auth"
	}
	return shut, people
}
