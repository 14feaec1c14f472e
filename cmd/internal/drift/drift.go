// Package drift notices that an endpoint shows what no record explains: an older
// copy was put in the store's place, and a rollout that began since is unknown to
// it, or somebody moved the traffic while belayd was away.
//
// The rules of the package:
//   - Only endpoints that no rollout moves are looked at; the others' splits are
//     their rollouts' business.
//   - What differs at the first look is paged, with both splits, and stands in
//     /readyz. What changes later, while belayd runs, is somebody's own doing: it is
//     put on record without a word, so that the next start compares with it.
//   - A page stays open for a quarter of an hour after it was taken, so that the
//     pager has told of it. Then what the endpoint shows is the record.
//
// It moves no traffic, and it cannot tell an older copy from a change by hand.
package drift

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/split"
)

const (
	// tick is how often what is open is looked after, every how often all endpoints
	// are looked at.
	tick  = 15 * time.Second
	every = 10 * time.Minute
	// openFor is how long a page stays open once it was taken.
	openFor = 15 * time.Minute
	// callTimeout bounds one call, of a router or a notifier.
	callTimeout = 10 * time.Second
	// looksAtOnce is how many endpoints are read at a time.
	looksAtOnce = 8
)

// An Endpoint is one that no rollout moves.
type Endpoint struct {
	Ref rollout.EndpointRef
	// Last is the split on record; nil where there is none.
	Last *split.Split
	// Policy and Owner are of the policy that names it; "" when none does.
	Policy, Owner string
	// Page are the notifiers to call, in order.
	Page []string
}

// A Watch looks at the endpoints. Its fields are set before Run and not changed.
type Watch struct {
	Log *slog.Logger
	// Endpoints lists those that no rollout moves.
	Endpoints func(ctx context.Context) ([]Endpoint, error)
	// Split reads what one shows, and Observe puts it on record.
	Split   func(ctx context.Context, ref rollout.EndpointRef) (split.Split, error)
	Observe func(ctx context.Context, ref rollout.EndpointRef, split split.Split) error
	// Notify hands a message to the notifier of that name.
	Notify func(ctx context.Context, name string, n notifier.Notice) error

	mu sync.Mutex
	// first are the endpoints that were not looked at yet; nil before the first list.
	first map[rollout.EndpointRef]bool
	open  map[rollout.EndpointRef]*page
}

// A page is one endpoint that no record explains.
type page struct {
	Endpoint

	seen  split.Split
	since time.Time
	// taken is when by took it; zero while nobody has.
	taken time.Time
	by    string
}

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	var last time.Time
	for {
		w.attend(ctx)
		if due := time.Since(last) >= every; due || w.waiting() {
			if w.look(ctx, due) == nil && due {
				last = time.Now()
			}
			w.attend(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
}

// waiting reports whether some endpoint was not looked at yet.
func (w *Watch) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first == nil || len(w.first) > 0
}

// look reads the endpoints, all of them or those that were never read.
func (w *Watch) look(ctx context.Context, all bool) error {
	list, err := w.Endpoints(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.Log.Warn("endpoints not listed", "outcome", err.Error())
		}
		return err
	}
	w.mu.Lock()
	if w.first == nil {
		w.first, w.open = map[rollout.EndpointRef]bool{}, map[rollout.EndpointRef]*page{}
		for _, e := range list {
			w.first[e.Ref] = true
		}
	}
	if !all {
		list = slices.DeleteFunc(list, func(e Endpoint) bool { return !w.first[e.Ref] })
	}
	w.mu.Unlock()
	slots := make(chan struct{}, looksAtOnce)
	var wg sync.WaitGroup
	for _, e := range list {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			w.compare(ctx, e)
		})
	}
	wg.Wait()
	return nil
}

// compare looks at one endpoint.
func (w *Watch) compare(ctx context.Context, e Endpoint) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	seen, err := w.Split(call, e.Ref)
	if err != nil {
		return // it is looked at again
	}
	w.mu.Lock()
	first, open := w.first[e.Ref], w.open[e.Ref] != nil
	delete(w.first, e.Ref)
	unexplained := e.unexplained(seen)
	if first && unexplained {
		w.open[e.Ref] = &page{Endpoint: e, seen: seen, since: time.Now()}
	}
	w.mu.Unlock()
	name := e.Ref.Router + "/" + e.Ref.Name
	switch {
	case first && unexplained:
		w.Log.Warn("endpoint unexplained", "endpoint", name, "outcome", w.sentence(e, seen))
	case unexplained && !open:
		if err := w.Observe(ctx, e.Ref, seen); err != nil {
			w.Log.Warn("endpoint not on record", "endpoint", name, "outcome", err.Error())
			return
		}
		w.Log.Info("endpoint changed outside of a rollout", "endpoint", name, "outcome", seen.String())
	}
}

// unexplained reports whether the record does not say why an endpoint shows what it
// does. One that has no record may have all its traffic at any deployment.
func (e Endpoint) unexplained(seen split.Split) bool {
	if e.Last != nil {
		return !seen.Equal(*e.Last)
	}
	parts := 0
	for _, of := range []map[string]int{seen.Weights, seen.Mirror} {
		for _, weight := range of {
			if weight > 0 {
				parts++
			}
		}
	}
	return parts > 1
}

// sentence says what is wrong and what may be why.
func (w *Watch) sentence(e Endpoint, seen split.Split) string {
	last := "no record of it"
	if e.Last != nil {
		last = fmt.Sprintf("%s on record", e.Last)
	}
	return fmt.Sprintf("%s shows %s, with %s and no rollout: the store may be an older copy, or somebody moved the "+
		"traffic. Nobody watches it.", e.Ref.Name, seen, last)
}

// attend sends what is to be sent, and ends what has been open long enough.
func (w *Watch) attend(ctx context.Context) {
	w.mu.Lock()
	var pages []*page
	for _, p := range w.open {
		pages = append(pages, p)
	}
	w.mu.Unlock()
	for _, p := range pages {
		w.mu.Lock()
		taken, by := p.taken, p.by
		w.mu.Unlock()
		switch {
		case taken.IsZero():
			w.call(ctx, p)
		case time.Since(taken) >= openFor:
			w.close(ctx, p, by)
		}
	}
}

// call pages the first of whom it may concern that takes it.
func (w *Watch) call(ctx context.Context, p *page) {
	by := ""
	for _, name := range p.Page {
		if w.send(ctx, p, name, w.sentence(p.Endpoint, p.seen), false) {
			by = name
			break
		}
	}
	if by == "" && len(p.Page) > 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p.taken, p.by = time.Now(), by
}

// close puts what the endpoint showed on record and ends its page.
func (w *Watch) close(ctx context.Context, p *page, by string) {
	if err := w.Observe(ctx, p.Ref, p.seen); err != nil {
		w.Log.Warn("endpoint not on record", "endpoint", p.Ref.Router+"/"+p.Ref.Name, "outcome", err.Error())
		return
	}
	if by != "" && !w.send(ctx, p, by, fmt.Sprintf("%s: %s is on record now.", p.Ref.Name, p.seen), true) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, p.Ref)
}

// send delivers the page, or its end.
func (w *Watch) send(ctx context.Context, p *page, name, summary string, end bool) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := "endpoint/" + p.Ref.Router + "/" + p.Ref.Name
	n := notifier.Notice{Key: key, Delivery: fmt.Sprintf("%s/%d", key, p.since.UnixNano()), Topic: notifier.TopicPage,
		Severity: notifier.SeverityCritical,
		Resolve:  end, Summary: notifier.Truncate(summary, 200), At: time.Now().UTC(), Since: p.since.UTC(),
		Rollout: notifier.Rollout{Policy: p.Policy, Owner: p.Owner, Router: p.Ref.Router, Endpoint: p.Ref.Name,
			Reason:   string(decision.ReasonStoreLost),
			Sentence: summary, Weights: p.seen.Weights}}
	if end {
		n.Delivery, n.Severity = n.Delivery+"/end", notifier.SeverityInfo
	}
	if err := w.Notify(ctx, name, n); err != nil {
		w.Log.Warn("page not delivered", "notifier", name, "endpoint", p.Ref.Router+"/"+p.Ref.Name, "outcome", err.Error())
		return false
	}
	return true
}

// Problems says which endpoints no record explains, a line each.
func (w *Watch) Problems() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, p := range w.open {
		line := "endpoint " + p.Ref.Router + "/" + p.Ref.Name + " is suspect: " + w.sentence(p.Endpoint, p.seen)
		if p.taken.IsZero() {
			line += " Nobody was called yet."
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}
