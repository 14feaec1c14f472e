package config

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/cmd/internal/secret"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/traffic"
)

// The lists of adapters are sources, routers and notifiers, each in the file of
// its name. Adding an adapter is a package, its conformance test, an example and
// one row with its configuration.

// An adapter is one row: what its kind is called, whether a configuration is of
// it, and how it is built. field is where the configuration stands.
type adapter[C, A any] struct {
	kind  string
	is    func(C) bool
	build func(b *Builder, field string, c C) (A, error)
}

// A Builder makes adapters of a configuration and hands them what they share.
type Builder struct {
	config *Config
	log    *slog.Logger

	// Origins say what each adapter was made of, by section and name; files are what
	// the files that were read for good looked like before.
	Origins map[string]Origin
	Files   map[string]string
	// read are the secrets and files of the adapter that is being made, by field.
	read map[string]string
}

func NewBuilder(c *Config, log *slog.Logger) *Builder {
	return &Builder{config: c, log: log, Origins: map[string]Origin{}, Files: map[string]string{c.File: c.look}}
}

func (b *Builder) client(field string, raw document.Raw) (*http.Client, error) {
	return b.config.client(field, raw)
}

// secret reads a secret for good: what is made of it is made anew when it changes.
func (b *Builder) secret(field, ref string) (secret.Value, error) {
	if ref != "" && !secret.IsEnv(ref) {
		b.look(ref)
	}
	s, err := b.config.secret(field, ref)
	if err == nil {
		b.read[field] = fmt.Sprintf("%x", sha256.Sum256([]byte(s.Reveal())))
	}
	return s, err
}

// roots reads certificates for good.
func (b *Builder) roots(field, file string) (*x509.CertPool, error) {
	b.read[field] = b.look(file)
	return b.config.roots(field, file)
}

// look notes what a file looks like, before it is read.
func (b *Builder) look(file string) string {
	name := b.config.Path(file)
	b.Files[name] = Fingerprint(name)
	return b.Files[name]
}

// optional is a secret that may be missing.
func (b *Builder) optional(field, ref string) (secret.Value, error) {
	if ref == "" {
		return "", nil
	}
	return b.secret(field, ref)
}

// prober builds what sends sample requests: with the credentials that may ask
// for predictions, and without any.
func (b *Builder) prober(field string, c ProbeConfig, loopback bool) (traffic.Prober, error) {
	anonymous, err := b.config.guarded(field, "", loopback)
	if err != nil {
		return traffic.Prober{}, err
	}
	authorized, err := b.config.guarded(field+".http", c.HTTP, loopback)
	if err != nil {
		return traffic.Prober{}, err
	}
	if c.KeyFile != "" {
		key, err := b.secret(field+".keyFile", c.KeyFile)
		if err != nil {
			return traffic.Prober{}, err
		}
		authorized.Transport = &bearer{next: authorized.Transport, token: key}
	}
	return traffic.Prober{Authorized: authorized, Anonymous: anonymous, Header: c.Header}, nil
}

// A bearer adds a token to every request.
type bearer struct {
	next  http.RoundTripper
	token secret.Value
}

// RoundTrip sends the request with the token.
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token.Reveal())
	return b.next.RoundTrip(r)
}

// A Source is a source with what its kind can tell besides; each is nil where it cannot.
type Source struct {
	analysis.Source
	// ScrapeInterval is how far apart a metric's samples are.
	ScrapeInterval func(analysis.Metric) time.Duration
	// Behind is how old the end of the metric's data was, at most, in the last minutes.
	Behind func(analysis.Metric) time.Duration
}

// A Notifier is a notifier with what its kind can besides; each is nil where it cannot.
type Notifier struct {
	notifier.Notifier
	Inbox notifier.Inbox
	// Hook hears people over HTTP, at the path that the configuration's Hook names.
	Hook http.Handler
	// Refresh repeats the pages that are open, until ctx ends.
	Refresh func(ctx context.Context, open func(context.Context) ([]notifier.Notice, error)) error
}

// onlySource builds a source that is no more than one.
func onlySource[S analysis.Source](
	build func(*Builder, string, SourceConfig) (S, error),
) func(*Builder, string, SourceConfig) (Source, error) {
	return func(b *Builder, field string, c SourceConfig) (Source, error) {
		s, err := build(b, field, c)
		return Source{Source: s}, err
	}
}

// onlyNotifier builds a notifier that is no more than one.
func onlyNotifier[N notifier.Notifier](
	build func(*Builder, string, NotifierConfig) (N, error),
) func(*Builder, string, NotifierConfig) (Notifier, error) {
	return func(b *Builder, field string, c NotifierConfig) (Notifier, error) {
		n, err := build(b, field, c)
		return Notifier{Notifier: n}, err
	}
}

// build makes the adapters of one kind by their rows; all that fails is said.
func build[C, A any](b *Builder, section string, table []adapter[C, A], configs map[string]C) (map[string]A, error) {
	out := map[string]A{}
	var errs []error
	for _, name := range sortedKeys(configs) {
		c := configs[name]
		i := slices.IndexFunc(table, func(a adapter[C, A]) bool { return a.is(c) })
		if i < 0 {
			errs = append(errs, fmt.Errorf("%s.%s: no kind is given", section, name))
			continue
		}
		field := fmt.Sprintf("%s.%s.%s", section, name, table[i].kind)
		b.read = map[string]string{}
		a, err := table[i].build(b, field, c)
		if err != nil {
			if !strings.HasPrefix(err.Error(), field) {
				err = fmt.Errorf("%s: %w", field, err)
			}
			errs = append(errs, err)
			continue
		}
		out[name] = a
		b.Origins[section+"."+name] = Origin{Kind: table[i].kind, config: c, read: b.read}
	}
	return out, errors.Join(errs...)
}

// kinds names the kind of each configured adapter, for the policy checker.
func kinds[C, A any](table []adapter[C, A], configs map[string]C) map[string]string {
	out := map[string]string{}
	for name, c := range configs {
		for _, a := range table {
			if a.is(c) {
				out[name] = a.kind
			}
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// An Origin is what an adapter was made of: two of equal origin are the same, so
// that the older one can stay, with its connections and what it remembers. read is
// what was read for good, by field; of secrets only the SHA-256 is kept.
type Origin struct {
	Kind   string
	config any
	read   map[string]string
}

// Fingerprint tells one content of a file from another, and a readable file from
// one that is not. Nothing of the content can be told from it.
func Fingerprint(name string) string {
	f, err := folder.Open(name)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%04o %x", info.Mode().Perm(), h.Sum(nil))
}

// Names are the names of the adapters of a section, in order.
func (c *Config) Names(section string) []string {
	switch section {
	case "sources":
		return sortedKeys(c.Sources)
	case "routers":
		return sortedKeys(c.Routers)
	case "notifiers":
		return sortedKeys(c.Notifiers)
	}
	return nil
}
