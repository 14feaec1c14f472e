package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/traffic"
)

// Adapters are the part of a Config that Reconfigure replaces while Run runs; the
// fields mean what those of Config mean.
type Adapters struct {
	Routers     map[string]traffic.Router
	Sources     map[string]analysis.Source
	Notifiers   map[string]notifier.Notifier
	Inboxes     map[string]notifier.Inbox
	ExternalURL string
	Retention   time.Duration
	Queue       int
}

// AdapterKind says which of the maps of Adapters a name is in.
type AdapterKind string

// The kinds of adapters that a rollout may need.
const (
	KindRouter   AdapterKind = "router"
	KindSource   AdapterKind = "source"
	KindNotifier AdapterKind = "notifier"
)

// An AdapterName is one adapter of an engine.
type AdapterName struct {
	Kind AdapterKind
	Name string
}

// An InUseError refuses adapters without one that open rollouts need.
type InUseError struct {
	// Rollouts are the ids of the rollouts that need an adapter, in order.
	Rollouts map[AdapterName][]string
}

// Error names the adapters and, of each, the first few rollouts.
func (e *InUseError) Error() string {
	return strings.Join(perAdapter(e.Rollouts, "is used by"), "; ") +
		"; keep it as it was until they have ended, or roll them back"
}

// perAdapter says of each adapter what it is to the first few of its rollouts.
func perAdapter(rollouts map[AdapterName][]string, what string) []string {
	const few = 5
	var lines []string
	names := slices.SortedFunc(maps.Keys(rollouts), func(a, b AdapterName) int {
		return strings.Compare(string(a.Kind)+a.Name, string(b.Kind)+b.Name)
	})
	for _, n := range names {
		ids := rollouts[n]
		text := strings.Join(ids[:min(few, len(ids))], ", ")
		if len(ids) > few {
			text += fmt.Sprintf(" and %d more", len(ids)-few)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s", n.Kind, n.Name, what, text))
	}
	return lines
}

// Forsaken names, a line each, the adapters that there are not, and that the
// rollouts carried here need: the config was changed while nobody asked for them.
func (e *Engine) Forsaken() []string {
	e.mu.Lock()
	lives := slices.Collect(maps.Values(e.lives))
	e.mu.Unlock()
	now := e.adapters.Load()
	rollouts := map[AdapterName][]string{}
	for _, l := range lives {
		l.mu.Lock()
		ended := l.gone || l.s.Phase.Terminal()
		l.mu.Unlock()
		if ended {
			continue
		}
		for _, n := range needs(l.plan) {
			if !now.has(n) {
				rollouts[n] = append(rollouts[n], l.id)
			}
		}
	}
	for _, ids := range rollouts {
		slices.Sort(ids)
	}
	return perAdapter(rollouts, "is not in the config any more and is needed by")
}

// errUnrecovered: which rollouts are open is not known yet.
var errUnrecovered = errors.New("the open rollouts are not known yet; try again in a moment")

// An adapterSet is what an engine reaches the outside world with, at one time. It is
// never changed: Reconfigure puts another in its place.
type adapterSet struct {
	routers   map[string]*router
	sources   map[string]*source
	outlets   map[string]*outlet
	inboxes   map[string]notifier.Inbox
	external  string
	retention time.Duration
	queue     int
}

// newAdapterSet makes a set of adapters. An adapter that follows another of its name
// shares the limit of concurrent calls with it.
func newAdapterSet(cfg *Config, a Adapters, before *adapterSet) *adapterSet {
	r := &adapterSet{routers: map[string]*router{}, sources: map[string]*source{}, outlets: map[string]*outlet{},
		inboxes: maps.Clone(a.Inboxes), external: a.ExternalURL, retention: a.Retention, queue: cmp.Or(a.Queue, cfg.Queue)}
	for name, x := range a.Routers {
		r.routers[name] = &router{name: name, Router: x,
			slots: make(chan struct{}, cfg.RouterCalls), checks: make(chan struct{}, cfg.Preflights)}
		if old := before.routers[name]; old != nil {
			r.routers[name].slots, r.routers[name].checks = old.slots, old.checks
		}
	}
	for name, x := range a.Sources {
		slots := make(chan struct{}, cfg.SourceReads)
		if old := before.sources[name]; old != nil {
			slots = old.slots
		}
		r.sources[name] = &source{Source: x, slots: slots}
	}
	for name, x := range a.Notifiers {
		r.outlets[name] = &outlet{name: name, Notifier: x,
			slots: make(chan struct{}, cfg.Deliveries), pages: make(chan struct{}, cfg.Deliveries)}
		if old := before.outlets[name]; old != nil {
			r.outlets[name].slots, r.outlets[name].pages = old.slots, old.pages
			r.outlets[name].took.Store(old.took.Load())
		}
	}
	return r
}

// without lists the adapters that after does not have.
func (r *adapterSet) without(after *adapterSet) []AdapterName {
	var out []AdapterName
	for name := range r.routers {
		out = append(out, AdapterName{KindRouter, name})
	}
	for name := range r.sources {
		out = append(out, AdapterName{KindSource, name})
	}
	for name := range r.outlets {
		out = append(out, AdapterName{KindNotifier, name})
	}
	return slices.DeleteFunc(out, after.has)
}

// has reports whether there is an adapter of that name.
func (r *adapterSet) has(n AdapterName) bool {
	switch n.Kind {
	case KindRouter:
		return r.routers[n.Name] != nil
	case KindSource:
		return r.sources[n.Name] != nil
	case KindNotifier:
		return r.outlets[n.Name] != nil
	}
	return false
}

// router returns the router of that name as it is now, nil when there is none. A
// caller asks right before its call, after it has waited for whatever it waits
// for.
func (e *Engine) router(name string) *router { return e.adapters.Load().routers[name] }

// outlet returns the notifier of that name as it is now, nil when there is none.
func (e *Engine) outlet(name string) *outlet { return e.adapters.Load().outlets[name] }

// external is where people can look at rollouts; "" when there is none.
func (e *Engine) external() string { return e.adapters.Load().external }

// Reconfigure replaces all adapters at once. A call under way ends on the adapter
// it began on, the next one is the new adapter's, and so is every try of a
// rollback; the limits of concurrent calls go on by name. An inbox that is replaced
// is heard for a while beside the new one, so that no answer is lost while that
// one connects; what both hear is one act.
//
// An adapter that an open rollout needs must not go: neither be missing nor be
// among strangers, which are those that keep their name and become something else
// altogether. Reconfigure then changes nothing and returns an *InUseError. It does
// not keep the old adapter for as long as it is needed instead, because a config
// that is in force but cannot carry its rollouts loses them, and their way back,
// with the next restart: that has to be seen before, while it can be put right.
func (e *Engine) Reconfigure(ctx context.Context, a Adapters, strangers ...AdapterName) error {
	e.starts.Lock()
	defer e.starts.Unlock()
	before := e.adapters.Load()
	after := newAdapterSet(&e.cfg, a, before)
	gone := before.without(after)
	if leaving := append(slices.Clone(gone), strangers...); len(leaving) > 0 {
		used, err := e.using(ctx, leaving)
		if err != nil {
			return fmt.Errorf("reconfigure engine: %w", err)
		}
		if len(used) > 0 {
			return &InUseError{Rollouts: used}
		}
	}
	e.adapters.Store(after)
	e.metrics.keep(after, gone)
	e.inboxes.Replace(after.inboxes)
	return nil
}

// using returns the ids of the open rollouts that need one of the adapters, in
// order. A rollout that has ended needs none: what it still has to tell fails for
// good and is journalled. Nor does one that this version cannot read.
func (e *Engine) using(ctx context.Context, names []AdapterName) (map[AdapterName][]string, error) {
	e.mu.Lock()
	recovered := e.recovered && !e.stopping
	ids := slices.Sorted(maps.Keys(e.open))
	e.mu.Unlock()
	if !recovered {
		return nil, errUnrecovered
	}
	used := map[AdapterName][]string{}
	for _, id := range ids {
		s, err := e.Rollout(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s.State.Phase.Terminal() {
			continue
		}
		for _, n := range needs(s.Plan) {
			if slices.Contains(names, n) {
				used[n] = append(used[n], id)
			}
		}
	}
	return used, nil
}

// needs are the adapters without which a rollout cannot be carried, each once.
func needs(p *rollout.Plan) []AdapterName {
	out := []AdapterName{{KindRouter, p.Endpoint.Router}}
	add := func(kind AdapterKind, name string) {
		if n := (AdapterName{kind, name}); name != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	for _, m := range p.Panel.Metrics {
		add(KindSource, m.Source)
	}
	for _, name := range slices.Concat(p.Page, p.Notify) {
		add(KindNotifier, name)
	}
	for _, a := range p.Approvals {
		add(KindNotifier, a.Notifier)
	}
	return out
}

// keep ends the series of adapters that are gone. What one of them answers later
// is not counted any more.
func (m *metrics) keep(now *adapterSet, gone []AdapterName) {
	m.known.Store(now)
	for _, n := range gone {
		switch n.Kind {
		case KindRouter:
			m.routerCalls.DeletePartialMatch(prometheus.Labels{"router": n.Name})
		case KindSource:
			m.sourceReads.DeletePartialMatch(prometheus.Labels{"source": n.Name})
			m.sourceQueries.DeletePartialMatch(prometheus.Labels{"source": n.Name})
		case KindNotifier:
			m.notifications.DeletePartialMatch(prometheus.Labels{"notifier": n.Name})
		}
	}
}
