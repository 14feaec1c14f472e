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

// A set is everything that one reading of the config file leads to. Once it is in
// force it is never changed: a reload puts another in its place, whole. Whoever
// does one thing by it takes it once.
type set struct {
	config   *config.Config
	env      *policies.Environment
	policies *config.PolicySet

	sources   map[string]analysis.Source
	routers   map[string]traffic.Router
	notifiers map[string]notifier.Notifier
	// hooks are what notifiers hear over HTTP, by path; elders those whose place they
	// took, which the engine still hears for a while.
	hooks    map[string]http.Handler
	elders   map[string]http.Handler
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
// cannot be built is among the set's faults, besides those that the config is known
// to have, and missing; problems are those of the policies, warnings too.
func (d *daemon) assemble(c *config.Config, known config.Faults) (*set, document.Problems) {
	b := config.NewBuilder(c, d.log)
	s := &set{config: c, env: c.Environment(), hooks: map[string]http.Handler{}, faults: slices.Clone(known)}
	s.faults.Add(c, c.Expand())
	s.faults.Add(c, c.CheckFiles())
	s.sources = assembled(s, b, "sources", b.Sources, bulkhead.MissingSource)
	s.routers = assembled(s, b, "routers", b.Routers, bulkhead.MissingRouter)
	s.notifiers = assembled(s, b, "notifiers", b.Notifiers, bulkhead.MissingNotifier)
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
		s.faults = append(s.faults, config.Fault{Path: "policies", Err: &config.ProblemsError{Problems: document.Problems{p}}})
	}
	d.points.around(s)
	s.contain(d.bulkhead)
	s.findHooks()
	return s, ps
}

// assembled are the adapters of a section, and what stands in the place of those
// that cannot be made.
func assembled[A any](
	s *set, b *config.Builder, section string, build func() (map[string]A, error), missing func(error) A,
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
func (s *set) contain(b *bulkhead.Bulkhead) {
	for name, a := range s.sources {
		s.sources[name] = b.Source(name, a)
	}
	for name, a := range s.routers {
		s.routers[name] = b.Router(name, a)
	}
	for name, a := range s.notifiers {
		s.notifiers[name] = b.Notifier(name, a)
	}
}

// findHooks lists who hears over HTTP.
func (s *set) findHooks() {
	clear(s.hooks)
	for name, n := range s.notifiers {
		if h, ok := bulkhead.As[http.Handler](n); ok && s.config.Notifiers[name].Hook() != "" {
			s.hooks[s.config.Notifiers[name].Hook()] = h
		}
	}
}

// keep takes from the set before what is made of the same. It reports what has
// changed, in words, in order.
func (s *set) keep(before *set) []string {
	changes := slices.Concat(
		keep("sources", s, before, s.sources, before.sources),
		keep("routers", s, before, s.routers, before.routers),
		keep("notifiers", s, before, s.notifiers, before.notifiers),
	)
	s.findHooks()
	s.elders = before.hooks
	c, old := s.config, before.config
	note := func(changed bool, what string) {
		if changed {
			changes = append(changes, what+" changed")
		}
	}
	differ := func(a, b any) bool { return !reflect.DeepEqual(a, b) }
	if differ(c.Auth, old.Auth) || differ(c.People, old.People) {
		note(true, "auth or people")
		s.shareKeys(before)
	} else if shut, _ := before.faults.Doors(); !shut {
		s.auth = before.auth
	}
	if s.certs.SameFiles(before.certs) {
		s.certs = before.certs
	}
	used := make([]bool, len(old.Triggers))
	for i, t := range c.Triggers {
		j := slices.IndexFunc(old.Triggers, func(o config.TriggerConfig) bool { return !differ(o, t) })
		if j >= 0 && !used[j] {
			s.triggers[i], used[j] = before.triggers[j], true
		}
	}
	note(!slices.EqualFunc(c.Triggers, old.Triggers, func(a, b config.TriggerConfig) bool { return !differ(a, b) }), "triggers")
	if !differ(c.Events, old.Events) && c.ExternalURL == old.ExternalURL && before.sink != nil {
		s.sink = before.sink
	} else {
		note(differ(c.Events, old.Events), "events")
	}
	note(c.ExternalURL != old.ExternalURL, "externalURL")
	note(c.Retention != old.Retention, "retention")
	note(c.Queue != old.Queue, "queue")
	note(differ(c.Tell, old.Tell), "tell")
	note(differ(c.Metrics, old.Metrics), "metrics")
	note(differ(c.Policies, old.Policies), "the list of policies")
	return changes
}

// keep takes the adapters of one section that are made of the same.
func keep[A any](section string, s, before *set, now, old map[string]A) []string {
	var changes []string
	names := maps.Clone(now)
	maps.Copy(names, old)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		key := section + "." + name
		a, was := old[name]
		_, is := now[name]
		switch {
		case !was:
			changes = append(changes, key+" added")
		case !is:
			changes = append(changes, key+" removed")
		case reflect.DeepEqual(s.origins[key], before.origins[key]):
			now[name] = a
		default:
			changes = append(changes, key+" changed")
		}
	}
	return changes
}

// strangers are the adapters that keep their name and become another kind: what a
// rollout wants of the one, the other does not understand.
func (s *set) strangers(before *set) []engine.AdapterName {
	var out []engine.AdapterName
	for section, kind := range map[string]engine.AdapterKind{"sources": engine.KindSource, "routers": engine.KindRouter, "notifiers": engine.KindNotifier} {
		for key, o := range s.origins {
			old, ok := before.origins[key]
			if name, in := strings.CutPrefix(key, section+"."); in && ok && old.Kind != o.Kind {
				out = append(out, engine.AdapterName{Kind: kind, Name: name})
			}
		}
	}
	return out
}

// adapters are what the engine has of the set.
func (s *set) adapters(b *bulkhead.Bulkhead) engine.Adapters {
	a := engine.Adapters{Routers: s.routers, Sources: s.sources, Notifiers: s.notifiers, Inboxes: map[string]notifier.Inbox{},
		ExternalURL: s.config.ExternalURL, Retention: s.config.Retention, Queue: s.config.Queue}
	_, unknown := s.faults.Doors()
	for name, n := range s.notifiers {
		if in, ok := bulkhead.As[notifier.Inbox](n); ok && !unknown {
			a.Inboxes[name] = b.Inbox(name, in)
		}
	}
	return a
}

// looks are what the set's files look like now.
func (s *set) looks() map[string]string {
	now := map[string]string{}
	for name := range s.files {
		now[name] = config.Fingerprint(name)
	}
	return now
}

// tasks are what runs because of the set.
func (s *set) tasks(d *daemon) []task {
	var out []task
	for _, name := range slices.Sorted(maps.Keys(s.notifiers)) {
		if r, ok := bulkhead.As[refresher](s.notifiers[name]); ok {
			open := func(ctx context.Context) ([]notifier.Notice, error) { return d.engine.OpenPages(ctx, name) }
			out = append(out, task{name: "notifier " + name, of: r, run: func(ctx context.Context) error { return r.Run(ctx, open) }})
		}
	}
	out = slices.Concat(out, runners("source", s.sources), runners("router", s.routers), runners("notifier", s.notifiers))
	if s.certs != nil {
		out = append(out, task{name: "certificates", of: s.certs, run: s.certs.Run})
	}
	for _, t := range s.triggers {
		out = append(out, task{name: "trigger " + t.Name(), of: t, run: t.Run, alone: true})
	}
	if s.sink != nil {
		out = append(out, task{name: "events " + eventsSink, of: s.sink, run: s.sink.Run, alone: true})
	}
	for i := range out {
		kind, name, _ := strings.Cut(out[i].name, " ")
		out[i].run = d.bulkhead.Contain(kind, name, out[i].run)
	}
	return out
}

// runners are the adapters of one kind that have work of their own.
func runners[A any](kind string, as map[string]A) []task {
	var out []task
	for _, name := range slices.Sorted(maps.Keys(as)) {
		if r, ok := bulkhead.As[config.Runner](as[name]); ok {
			out = append(out, task{name: kind + " " + name, of: r, run: r.Run})
		}
	}
	return out
}

// A refresher repeats the pages that are open, until ctx ends.
type refresher interface {
	Run(ctx context.Context, open func(context.Context) ([]notifier.Notice, error)) error
}

// shareKeys lets an issuer that stays be asked for its keys no more than before.
func (s *set) shareKeys(before *set) {
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
