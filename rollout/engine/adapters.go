package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout"
)

// AdapterKind says which adapters of a Config a name is among.
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

// An InUseError names adapters that open rollouts need.
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

// reachOut makes what the engine reaches its adapters by.
func (e *Engine) reachOut() {
	e.routers, e.sources, e.notifiers = map[string]*router{}, map[string]*source{}, map[string]*notifierHandle{}
	for name, x := range e.cfg.Routers {
		e.routers[name] = &router{name: name, Router: x,
			slots: make(chan struct{}, e.cfg.RouterCalls), checks: make(chan struct{}, e.cfg.Preflights)}
	}
	for name, x := range e.cfg.Sources {
		e.sources[name] = &source{Source: x, slots: make(chan struct{}, e.cfg.SourceReads)}
	}
	for name, x := range e.cfg.Notifiers {
		e.notifiers[name] = &notifierHandle{name: name, Notifier: x,
			slots: make(chan struct{}, e.cfg.Deliveries), pages: make(chan struct{}, e.cfg.Deliveries)}
	}
}

// has reports whether there is an adapter of that name.
func (e *Engine) has(n AdapterName) bool {
	switch n.Kind {
	case KindRouter:
		return e.routers[n.Name] != nil
	case KindSource:
		return e.sources[n.Name] != nil
	case KindNotifier:
		return e.hasNotifier(n.Name)
	}
	return false
}

func (e *Engine) hasNotifier(name string) bool { return e.notifiers[name] != nil }

// Forsaken names, a line each, the adapters that there are not, and that the
// rollouts carried here need: the config was changed while nobody asked for them.
func (e *Engine) Forsaken() []string {
	e.mu.Lock()
	runners := slices.Collect(maps.Values(e.runners))
	e.mu.Unlock()
	rollouts := map[AdapterName][]string{}
	for _, l := range runners {
		l.mu.Lock()
		ended := l.gone || l.s.Phase.Terminal()
		l.mu.Unlock()
		if ended {
			continue
		}
		for _, n := range needs(l.plan) {
			if !e.has(n) {
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

// InUse says, as an *InUseError, which of the adapters open rollouts need; nil when
// they need none of them. An engine without these must not follow this one: a config
// that is in force but cannot carry its rollouts loses them, and their way back, which
// has to be seen before, while it can be put right. A rollout that has ended needs
// none: what it still has to tell fails for good and is journalled. Nor does one that
// this version cannot read.
func (e *Engine) InUse(ctx context.Context, leaving []AdapterName) error {
	if len(leaving) == 0 {
		return nil
	}
	e.mu.Lock()
	recovered := e.recovered && !e.stopping
	ids := slices.Sorted(maps.Keys(e.open))
	e.mu.Unlock()
	if !recovered {
		return errUnrecovered
	}
	used := map[AdapterName][]string{}
	for _, id := range ids {
		s, err := e.Rollout(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find what is in use: %w", err)
		}
		if s.State.Phase.Terminal() {
			continue
		}
		for _, n := range needs(s.Plan) {
			if slices.Contains(leaving, n) {
				used[n] = append(used[n], id)
			}
		}
	}
	if len(used) > 0 {
		return &InUseError{Rollouts: used}
	}
	return nil
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
