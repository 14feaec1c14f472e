package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/cmd/internal/drift"
	"github.com/belayd/belay/cmd/internal/refusals"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/traffic"
)

// tellTimeout bounds one message that no rollout's outbox carries.
const tellTimeout = 20 * time.Second

// testNotifiers sends a marked test through every notifier, all at once, as a page
// would go there. It says where to look for each and when it ends by itself.
func (d *daemon) testNotifiers(ctx context.Context, by person.Person) []api.NotifierTest {
	now := d.now()
	names := slices.Sorted(maps.Keys(now.notifiers))
	out := make([]api.NotifierTest, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			ends, err := d.drill.Send(ctx, name, now.notifiers[name], by.ID)
			d.engines.Now().Notified(name, err)
			if err != nil {
				out[i] = api.NotifierTest{Name: name, Error: err.Error()}
				return
			}
			d.engines.Now().PageTaken(name)
			out[i] = api.NotifierTest{Name: name, OK: true, Look: now.config.Notifiers[name].TestShows(), Ends: ends}
		})
	}
	wg.Wait()
	return out
}

// refused tells whoever the config's `tell` names of release events that were
// refused for good. They are kept in the store whether or not that arrives.
func (d *daemon) refused(ctx context.Context, what refusals.Digest) {
	now := d.now()
	var wg sync.WaitGroup
	for _, name := range now.config.Tell {
		if n, ok := now.notifiers[name]; ok {
			wg.Go(func() { d.tellRefused(ctx, name, n, what) })
		}
	}
	wg.Wait()
}

// tellRefused tells one notifier. One that keeps messages updates the one that it
// was told of the same minute before.
func (d *daemon) tellRefused(ctx context.Context, name string, to notifier.Notifier, what refusals.Digest) {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	key := what.Key()
	ref, err := to.Notify(ctx, notifier.Notice{
		Key: key, Delivery: fmt.Sprintf("%s/%d", key,
			what.Count), Ref: what.Refs.Get(name), Topic: notifier.TopicStatus, Severity: notifier.SeverityWarning,
		At:      what.Last.At,
		Summary: notifier.Truncate(what.Text(), 250),
	})
	d.engines.Now().Notified(name, err)
	if err != nil {
		d.log.Warn("refusal not told", "outcome", err.Error())
		return
	}
	what.Refs.Set(name, ref)
}

// newDrift watches what endpoints show that no rollout moves: those with a record,
// and those that a policy in force names. A store without any record is a new one,
// which explains nothing.
func (d *daemon) newDrift() *drift.Watch {
	return &drift.Watch{
		Log:       d.log,
		Endpoints: d.idleEndpoints,
		Split: func(ctx context.Context, ref rollout.EndpointRef) (traffic.Split, error) {
			r, ok := d.now().routers[ref.Router]
			if !ok {
				return traffic.Split{}, fmt.Errorf("router %q is not configured", ref.Router)
			}
			return r.Split(ctx, ref.Name)
		},
		Observe: func(ctx context.Context, ref rollout.EndpointRef, split traffic.Split) error {
			return d.engines.Now().Observe(ctx, ref, split)
		},
		Notify: func(ctx context.Context, name string, n notifier.Notice) error {
			to, ok := d.now().notifiers[name]
			if !ok {
				return fmt.Errorf("notifier %q is not configured", name)
			}
			_, err := to.Notify(ctx, n)
			d.engines.Now().Notified(name, err)
			if err == nil {
				d.engines.Now().PageTaken(name)
			}
			return err
		},
	}
}

// idleEndpoints are the endpoints that no rollout moves, with whom it may concern.
func (d *daemon) idleEndpoints(ctx context.Context) ([]drift.Endpoint, error) {
	now := d.now()
	found := map[rollout.EndpointRef]*drift.Endpoint{}
	busy := map[rollout.EndpointRef]bool{}
	for rec, err := range d.store.Heads(ctx, "endpoint/") {
		if err != nil {
			return nil, fmt.Errorf("list endpoints: %w", err)
		}
		var r claim.Record
		if err := json.Unmarshal(rec.State, &r); err != nil {
			return nil, fmt.Errorf("read record %s: %w", rec.Key, err)
		}
		busy[r.Endpoint] = r.Active != ""
		if _, ok := now.routers[r.Endpoint.Router]; ok && r.Active == "" {
			found[r.Endpoint] = &drift.Endpoint{Ref: r.Endpoint, Last: r.Confirmed, Page: now.config.Tell}
		}
	}
	if len(busy) == 0 {
		return nil, nil
	}
	for _, name := range slices.Sorted(maps.Keys(now.policies.ByName)) {
		p := now.policies.ByName[name].Document
		ref := rollout.EndpointRef{Router: p.Spec.Endpoint.Router, Name: p.Spec.Endpoint.Name}
		if busy[ref] {
			continue
		}
		e := found[ref]
		if e == nil {
			e = &drift.Endpoint{Ref: ref, Page: now.config.Tell}
			found[ref] = e
		}
		if e.Policy == "" {
			e.Policy, e.Owner = name, p.Metadata.Owner
		}
		e.Page = slices.Concat(p.Spec.Page, e.Page)
	}
	var out []drift.Endpoint
	for _, e := range found {
		out = append(out, *e)
	}
	return out, nil
}
