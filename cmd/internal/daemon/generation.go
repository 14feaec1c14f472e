package daemon

import (
	"context"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/cmd/internal/bulkhead"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/trigger"
)

// A generation is everything that one reading of the config file leads to. Once it is
// in force it is never changed: a reload puts another in its place, whole, with an
// engine of its own. Whoever does one thing by it takes it once.
type generation struct {
	config   *config.Config
	env      *policies.Environment
	policies *config.PolicySet

	sources   map[string]config.Source
	routers   map[string]traffic.Router
	notifiers map[string]config.Notifier
	// hooks are what notifiers hear over HTTP, by path.
	hooks    map[string]http.Handler
	triggers []*trigger.Trigger
	// sink publishes lifecycle events; auth tells who asks, nil where nobody has to
	// say it; certs are the server's. Each may be nil.
	sink  *sink
	auth  api.Authenticator
	certs *config.Certificates

	// faults are what is wrong with the config, at a start; a reload takes no set that
	// has any.
	faults config.Faults
	// origins say what each adapter was made of, by section and name.
	origins map[string]config.Origin
	// files are what the config's file and those that were read for good looked like
	// before they were read.
	files map[string]string
}

// assemble builds everything that a config names, and connects to nothing. What
// cannot be built is among its faults, besides those that the config is known
// to have, and missing; problems are those of the policies, warnings too.
func (d *daemon) assemble(c *config.Config, known config.Faults) (*generation, document.Problems) {
	b := config.NewBuilder(c, d.log)
	s := &generation{config: c, env: c.Environment(), hooks: map[string]http.Handler{}, faults: slices.Clone(known)}
	s.faults.Add(c, c.Expand())
	s.faults.Add(c, c.CheckFiles())
	s.sources = assembled(s, b, "sources", b.Sources, func(why error) config.Source {
		return config.Source{Source: bulkhead.MissingSource(why)}
	})
	s.routers = assembled(s, b, "routers", b.Routers, bulkhead.MissingRouter)
	s.notifiers = assembled(s, b, "notifiers", b.Notifiers, func(why error) config.Notifier {
		return config.Notifier{Notifier: bulkhead.MissingNotifier(why)}
	})
	s.addTriggers(d)
	var err error
	if s.sink, err = d.newSink(c); err != nil || s.faults.At("events") != nil {
		s.sink = nil
		s.faults.Add(c, err)
	}
	if s.auth, err = c.Authenticator(); err != nil {
		s.faults.Add(c, err)
	}
	if shut, _ := s.faults.Doors(); shut {
		s.auth = locked{}
	}
	// Certificates that cannot be read lock nobody out for longer than that lasts.
	if s.certs, err = c.NewCertificates(d.log); err != nil {
		s.faults.Add(c, err)
	}
	s.origins, s.files = b.Origins, b.Files
	for name := range c.Metrics {
		if s.faults.At("metrics."+name) != nil {
			delete(c.Metrics, name)
		}
	}
	var ps document.Problems
	s.policies, ps, err = c.ReadPolicies(s.env)
	s.faults.Add(c, err)
	for _, p := range ps.Errors() {
		s.faults = append(s.faults, config.Fault{Path: "policies",
			Err: &config.ProblemsError{Problems: document.Problems{p}}})
	}
	d.points.around(s)
	s.contain(d.bulkhead)
	s.findHooks()
	return s, ps
}

// assembled are the adapters of a section, and what stands in the place of those
// that cannot be made.
func assembled[A any](
	s *generation, b *config.Builder, section string, build func() (map[string]A, error), missing func(error) A,
) map[string]A {
	out, err := build()
	s.faults.Add(s.config, err)
	for _, name := range s.config.Names(section) {
		if why := s.faults.At(section + "." + name); why != nil {
			out[name] = missing(why)
			delete(b.Origins, section+"."+name)
		}
	}
	return out
}

// contain puts the adapters behind the bulkhead.
func (s *generation) contain(b *bulkhead.Bulkhead) {
	for name, a := range s.sources {
		a.Source = b.Source(name, a.Source)
		s.sources[name] = a
	}
	for name, a := range s.routers {
		s.routers[name] = b.Router(name, a)
	}
	for name, a := range s.notifiers {
		a.Notifier = b.Notifier(name, a.Notifier)
		if a.Inbox != nil {
			a.Inbox = b.Inbox(name, a.Inbox)
		}
		s.notifiers[name] = a
	}
}

// plainSources are the sources as the engine takes them.
func (s *generation) plainSources() map[string]analysis.Source {
	out := map[string]analysis.Source{}
	for name, a := range s.sources {
		out[name] = a.Source
	}
	return out
}

// plainNotifiers are the notifiers as the engine takes them.
func (s *generation) plainNotifiers() map[string]notifier.Notifier {
	out := map[string]notifier.Notifier{}
	for name, a := range s.notifiers {
		out[name] = a.Notifier
	}
	return out
}

// findHooks lists who hears over HTTP.
func (s *generation) findHooks() {
	for name, n := range s.notifiers {
		if path := s.config.Notifiers[name].Hook(); path != "" && n.Hook != nil {
			s.hooks[path] = n.Hook
		}
	}
}

// changes says, in words and in order, what is not as it was in the generation before.
func (s *generation) changes(before *generation) []string {
	out := slices.Concat(
		changesOf("sources", s, before, s.sources, before.sources),
		changesOf("routers", s, before, s.routers, before.routers),
		changesOf("notifiers", s, before, s.notifiers, before.notifiers),
	)
	c, old := s.config, before.config
	note := func(changed bool, what string) {
		if changed {
			out = append(out, what+" changed")
		}
	}
	differ := func(a, b any) bool { return !reflect.DeepEqual(a, b) }
	note(differ(c.Auth, old.Auth) || differ(c.People, old.People), "auth or people")
	note(differ(c.Triggers, old.Triggers), "triggers")
	note(differ(c.Events, old.Events), "events")
	note(c.ExternalURL != old.ExternalURL, "externalURL")
	note(c.Retention != old.Retention, "retention")
	note(c.Queue != old.Queue, "queue")
	note(differ(c.Tell, old.Tell), "tell")
	note(differ(c.Metrics, old.Metrics), "metrics")
	note(differ(c.Policies, old.Policies), "the list of policies")
	return out
}

// changesOf says what has changed in the adapters of a section.
func changesOf[A any](section string, s, before *generation, now, old map[string]A) []string {
	var out []string
	names := maps.Clone(now)
	maps.Copy(names, old)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		key := section + "." + name
		_, was := old[name]
		_, is := now[name]
		switch {
		case !was:
			out = append(out, key+" added")
		case !is:
			out = append(out, key+" removed")
		case !reflect.DeepEqual(s.origins[key], before.origins[key]):
			out = append(out, key+" changed")
		}
	}
	return out
}

// with is the generation with the policies of another one of the same config, read from
// the files as they are now.
func (s *generation) with(other *generation) *generation {
	out := *s
	out.config, out.env, out.policies, out.files = other.config, other.env, other.policies, other.files
	return &out
}

// leaving are the adapters of the generation before that are gone, or that keep their
// name and become another kind: what a rollout wants of the one, the other does not
// understand.
func (s *generation) leaving(before *generation) []engine.AdapterName {
	return slices.Concat(
		leavingOf("sources", engine.KindSource, s, before, s.sources, before.sources),
		leavingOf("routers", engine.KindRouter, s, before, s.routers, before.routers),
		leavingOf("notifiers", engine.KindNotifier, s, before, s.notifiers, before.notifiers),
	)
}

// leavingOf are those of a section.
func leavingOf[A any](
	section string, kind engine.AdapterKind, s, before *generation, now, old map[string]A,
) []engine.AdapterName {
	var out []engine.AdapterName
	for _, name := range slices.Sorted(maps.Keys(old)) {
		_, is := now[name]
		was, known := before.origins[section+"."+name]
		if !is || known && was.Kind != s.origins[section+"."+name].Kind {
			out = append(out, engine.AdapterName{Kind: kind, Name: name})
		}
	}
	return out
}

// inboxes are those by which people are heard.
func (s *generation) inboxes() map[string]notifier.Inbox {
	out := map[string]notifier.Inbox{}
	if _, unknown := s.faults.Doors(); unknown {
		return out
	}
	for name, n := range s.notifiers {
		if n.Inbox != nil {
			out[name] = n.Inbox
		}
	}
	return out
}

// looks are what the generation's files look like now.
func (s *generation) looks() map[string]string {
	now := map[string]string{}
	for name := range s.files {
		now[name] = config.Fingerprint(name)
	}
	return now
}

// tasks are what runs beside the engine.
func (s *generation) tasks(d *daemon) []task {
	var out []task
	for _, name := range slices.Sorted(maps.Keys(s.notifiers)) {
		if refresh := s.notifiers[name].Refresh; refresh != nil {
			open := func(ctx context.Context) ([]notifier.Notice, error) { return d.engines.Now().OpenPages(ctx, name) }
			out = append(out, task{name: "notifier " + name, run: func(ctx context.Context) error { return refresh(ctx, open) }})
		}
	}
	if s.certs != nil {
		out = append(out, task{name: "certificates", run: s.certs.Run})
	}
	for _, t := range s.triggers {
		out = append(out, task{name: "trigger " + t.Name(), run: t.Run})
	}
	if s.sink != nil {
		out = append(out, task{name: "events " + s.sink.kind, run: s.sink.Run})
	}
	for i := range out {
		kind, name, _ := strings.Cut(out[i].name, " ")
		out[i].run = d.bulkhead.Contain(kind, name, out[i].run)
	}
	return out
}

// shareKeys lets an issuer that stays be asked for its keys no more than before.
func (s *generation) shareKeys(before *generation) {
	now, old := s.config.Auth.OIDC, before.config.Auth.OIDC
	if now == nil || old == nil || now.HTTP != old.HTTP {
		return
	}
	if a, b := issuerOf(s.auth), issuerOf(before.auth); a != nil && b != nil {
		a.ShareKeys(b)
	}
}

// issuerOf is the authenticator of an issuer's tokens among others; nil when there
// is none.
func issuerOf(a api.Authenticator) *api.OIDC {
	all, _ := a.(api.Any)
	for _, one := range all {
		if o, ok := one.(*api.OIDC); ok {
			return o
		}
	}
	return nil
}
