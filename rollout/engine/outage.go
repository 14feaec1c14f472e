package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/notice"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

const (
	// outageAfter is how long no append may succeed before people are called.
	outageAfter = 30 * time.Second
	// outageSettles is how long after a start a page that the process before has left
	// open stays so when the rollout that it is about has nothing to write.
	outageSettles = 2 * time.Minute
	// outageSaves is how long writing down what people were told may take, and
	// outageSaveEvery how often it is tried while the store takes nothing.
	outageSaves     = 2 * time.Second
	outageSaveEvery = 30 * time.Second
)

// An outage watches which rollouts the store takes no appends of: all of them, or one
// whose record cannot be written, whatever becomes of the others. What waits is frozen
// but for rollbacks, and nothing that the core says can be written down: so the engine
// itself calls the humans of a rollout that waits, with a page of its own.
//
// That page follows what is so as every page does (see rollout.Paging), across
// restarts too. What notifiers show of it is written down as soon as the store takes
// it, before they are told where it does. Where it does not, the next process knows
// by the journals that people may have been called: nothing was appended for as long
// as that takes, and the process did not stop in peace. It then tells nobody of the
// same outage under another name, and ends the page once the store takes appends.
type outage struct {
	e *Engine

	mu sync.Mutex
	// waiting are the rollouts that cannot be written, with when the first append failed
	// after which none succeeded; cause is why the last one failed.
	waiting map[*live]time.Time
	cause   string
	// newest is the newest revision of the store that is known: while nothing can be
	// appended it names the outage.
	newest store.Revision

	page storePage
	// saved is the page as it is in the store, at revision; saveAt is when writing it
	// may be tried again.
	saved    string
	revision store.Revision
	saveAt   time.Time
	// written: an append succeeded since the start. settles is until when a page that
	// was found open waits for an append of its own rollout.
	written bool
	settles time.Time
	busy    bool
}

// A storePage is what people were told about the engine's store.
type storePage struct {
	SchemaVersion int `json:"schemaVersion"`
	// Rollout is the rollout whose humans are called, Order are the notifiers to be
	// tried.
	Rollout string   `json:"rollout,omitempty"`
	Order   []string `json:"order,omitempty"`
	// Outage names the outage, Since is when it began. Open: it lasts.
	Outage string            `json:"outage,omitempty"`
	Since  time.Time         `json:"since,omitzero"`
	Open   bool              `json:"open,omitempty"`
	Paging rollout.Paging    `json:"paging"`
	Refs   map[string]string `json:"refs,omitempty"`
	// Stopped is when the process that wrote this stopped in peace.
	Stopped time.Time `json:"stopped,omitzero"`
}

// text identifies the page for its Paging; "" while there is no outage.
func (p *storePage) text() string {
	if !p.Open {
		return ""
	}
	return p.Outage
}

// shown reports whether somebody shows the page.
func (p *storePage) shown() bool {
	return slices.ContainsFunc(p.Paging.Views, func(v rollout.PageView) bool { return v.Shows != "" })
}

// A trace is what the journals tell of this owner's process before: when it appended
// last, and whom it would have called.
type trace struct {
	at       time.Time
	revision store.Revision
	rollout  string
	page     []string
}

// add notes the head of a rollout; page is whom it calls, nil when it has ended.
func (t *trace) add(s *rollout.State, h record.Head, page []string) {
	if s.At.After(t.at) {
		t.at = s.At
	}
	t.revision = max(t.revision, h.Revision)
	for _, name := range page {
		t.rollout = s.ID
		if !slices.Contains(t.page, name) {
			t.page = append(t.page, name)
		}
	}
}

func (o *outage) key() string { return record.PagePrefix + url.PathEscape(o.e.cfg.Owner) }

// name names an outage that begins now, with the lock held.
func (o *outage) name() string { return fmt.Sprintf("store/%s/%d", o.e.cfg.Owner, o.newest) }

// recall reads, before anything is carried, what people were told, and takes into
// account what the process before could not write down.
func (o *outage) recall(ctx context.Context, before trace) error {
	rec, err := o.e.cfg.Store.Head(ctx, o.key())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read the page about the store: %w", err)
	}
	page := storePage{SchemaVersion: record.SchemaVersion}
	if err == nil {
		if err := json.Unmarshal(rec.State, &page); err != nil || page.SchemaVersion > record.SchemaVersion {
			o.e.log.Error("page about the store not readable", "outcome", fmt.Sprint(page.SchemaVersion, " ", err))
			page = storePage{SchemaVersion: record.SchemaVersion}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.page, o.revision, o.saved, o.written = page, rec.Revision, "", false
	o.newest, o.settles = max(before.revision, rec.Revision), time.Now().Add(outageSettles)
	peace := !page.Stopped.IsZero() && rec.Revision > before.revision
	o.page.Stopped = time.Time{}
	if peace || o.e.now().Sub(before.at) < outageAfter {
		return nil
	}
	for _, name := range before.page {
		if !o.page.Paging.Shows(name) {
			o.page.Rollout, o.page.Order = before.rollout, before.page
			o.page.Paging.Unsure(name)
		}
	}
	return nil
}

// advance notes the newest revision of the store.
func (o *outage) advance(rev store.Revision) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.newest = max(o.newest, rev)
}

// failed notes a failed append. It is called with the live's lock held.
func (o *outage) failed(l *live, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cause = err.Error()
	if _, known := o.waiting[l]; known {
		return
	}
	if len(o.waiting) == 0 {
		o.e.log.Error("store takes no appends", "rollout", l.id, "outcome", err.Error())
	}
	o.waiting[l] = time.Now()
}

// over notes an append of the rollout that succeeded, or that nothing of it is to be
// appended any more. It is called with the live's lock held.
func (o *outage) over(l *live, written bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	since, waits := o.waiting[l]
	if delete(o.waiting, l); waits && written && len(o.waiting) == 0 {
		o.e.log.Info("store takes appends again", "outcome", fmt.Sprintf("after %s", time.Since(since).Round(time.Millisecond)))
	}
	if o.written = o.written || written; written && l.id == o.page.Rollout {
		o.settles = time.Time{}
	}
}

// judge makes the page follow what is so, with the lock held: it is open while a
// rollout waits since long ago, and about the one that waits for longest of those
// that have anybody to call.
func (o *outage) judge() {
	var first, longest time.Time
	var who *live
	for l, since := range o.waiting {
		if first.IsZero() || since.Before(first) {
			first = since
		}
		if len(l.plan.Page) > 0 && (who == nil || since.Before(longest)) {
			longest, who = since, l
		}
	}
	p := &o.page
	switch away := !first.IsZero() && time.Since(first) >= outageAfter; {
	case away && who != nil && (!p.Open || !p.shown()):
		if !p.Open {
			p.Outage, p.Since = o.name(), first.UTC().Round(0)
		}
		p.Open, p.Rollout, p.Order = true, who.id, who.plan.Page
	case !away && p.Open && o.written && !time.Now().Before(o.settles):
		p.Open = false
	case !p.Open && !o.written:
		return // Whether there is an outage will show.
	}
	if p.Outage == "" {
		p.Outage = o.name()
	}
	p.Paging.Settle(p.Order, p.text(), o.e.now())
}

// look calls people when the store has been away for long, and relieves them when it
// is back. It is called now and then, by one goroutine.
func (o *outage) look() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.judge()
	if o.busy || !o.unsaved() && o.owed() == nil {
		return
	}
	o.busy = o.e.spawn(func(ctx context.Context) {
		o.save(ctx)
		o.tell(ctx)
		o.mu.Lock()
		o.busy = false
		o.mu.Unlock()
	})
}

// unsaved reports whether the page is to be written, with the lock held.
func (o *outage) unsaved() bool {
	if o.saved == "" && len(o.page.Paging.Views) == 0 && o.page.Stopped.IsZero() {
		return false
	}
	return !time.Now().Before(o.saveAt) && o.encoded() != o.saved
}

// encoded is the page as it would be written, with the lock held.
func (o *outage) encoded() string {
	b, err := json.Marshal(o.page)
	if err != nil {
		panic(err) // Unreachable: it is plain data.
	}
	return string(b)
}

// save writes the page down where it has changed.
func (o *outage) save(ctx context.Context) {
	o.mu.Lock()
	text, after, due := o.encoded(), o.revision, o.unsaved()
	o.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, outageSaves)
	defer cancel()
	rev, err := o.e.append(ctx, o.key(), []byte(text), []byte(text), after)
	if errors.Is(err, store.ErrConflict) {
		if rec, readErr := o.e.cfg.Store.Head(ctx, o.key()); readErr == nil {
			after = rec.Revision // Another process of this name: the last word counts.
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.revision, o.saveAt = after, time.Now().Add(outageSaveEvery)
		return
	}
	o.saved, o.revision, o.saveAt, o.written = text, rev, time.Time{}, true
}

// stop notes that the process stops in peace, so that the next one knows that nobody
// is to be told anything.
func (o *outage) stop(ctx context.Context) {
	o.mu.Lock()
	peace := !o.page.Open && len(o.page.Paging.Views) == 0 && len(o.waiting) == 0
	if peace {
		o.page.Stopped = o.e.now()
	}
	o.mu.Unlock()
	if peace {
		o.save(ctx)
	}
}

// owed is the next message to be sent, with the lock held.
func (o *outage) owed() *rollout.PageView {
	i := slices.IndexFunc(o.page.Paging.Views, func(v rollout.PageView) bool { return v.Owed != "" && !v.NotBefore.After(o.e.now()) })
	if i < 0 {
		return nil
	}
	return &o.page.Paging.Views[i]
}

// tell sends what is owed, and writes down what came of it.
func (o *outage) tell(ctx context.Context) {
	for ctx.Err() == nil {
		o.mu.Lock()
		view := o.owed()
		if view == nil {
			o.mu.Unlock()
			break
		}
		name, owed := view.Notifier, view.Owed
		o.mu.Unlock()
		ref, err := o.send(ctx, name)
		if ctx.Err() != nil && err != nil {
			return
		}
		o.mu.Lock()
		o.told(name, owed, ref, err)
		o.judge()
		o.mu.Unlock()
	}
	o.save(ctx)
}

// send delivers what is owed to a notifier.
func (o *outage) send(ctx context.Context, name string) (ref string, err error) {
	to := o.e.outlet(name)
	o.mu.Lock()
	end := !o.page.Open
	o.mu.Unlock()
	switch {
	case to == nil && end:
		return "", nil // One that is not configured any more cannot be told.
	case to == nil:
		return "", fmt.Errorf("notifier %q is not configured: %w", name, notifier.ErrPermanent)
	}
	if !acquire(ctx, to.pages) {
		return "", context.Cause(ctx)
	}
	defer func() { <-to.pages }()
	ctx, cancel := context.WithTimeout(ctx, o.e.cfg.NotifyTimeout)
	defer cancel()
	ref, err = to.Notify(ctx, o.notice(ctx, name))
	o.e.metrics.notified(name, err)
	return ref, err
}

// told notes how a delivery of what was owed went, with the lock held.
func (o *outage) told(name, owed, ref string, err error) {
	p := &o.page
	if err == nil {
		o.e.said.forget("page/" + name)
		o.e.PageTaken(name)
		refs := maps.Clone(p.Refs)
		if refs == nil {
			refs = map[string]string{}
		}
		if refs[name] = ref; ref == "" {
			delete(refs, name)
		}
		p.Refs = refs
		p.Paging.Took(name, owed)
		return
	}
	if o.e.said.fresh("page/"+name, err.Error()) {
		o.e.log.Warn("page not delivered", "notifier", name, "outcome", err.Error())
	}
	p.Paging.Refused("store/"+o.e.cfg.Owner, p.Order, name, owed, failureOfMessage(err), o.e.now())
}

// notice is the page, or its end, as the notifier gets it. Every outage is another
// delivery of the same key, and so is its end.
func (o *outage) notice(ctx context.Context, name string) notifier.Notice {
	o.mu.Lock()
	p, summary := o.page, o.words()
	o.mu.Unlock()
	n := &rollout.Notice{Key: "store/" + o.e.cfg.Owner, Topic: rollout.TopicPage, Severity: "critical", Summary: summary, Ref: p.Refs[name]}
	id := p.Outage
	if !p.Open {
		n.Severity, n.Resolve, n.Summary = "info", true, "Belay's store takes appends again."
		if p.Since.IsZero() {
			n.Summary = "Belay's store takes appends: if people were called about it before belayd was started anew, that is over."
		}
		id += "/end"
	}
	at, err := o.e.Rollout(ctx, p.Rollout)
	if err != nil {
		at = rollout.Snapshot{Plan: &rollout.Plan{ID: p.Rollout}} // It cannot be read, or is gone.
	}
	return notice.Of(at.Plan, &at.State, rollout.Effect{ID: id, Kind: rollout.EffectPage, Notice: n}, o.e.external(), o.e.now())
}

// words are what people are told of the outage, with the lock held.
func (o *outage) words() string {
	since := o.page.Since.UTC().Format(time.RFC3339)
	if len(o.waiting) == 1 {
		for l := range o.waiting {
			return fmt.Sprintf("Belay's store takes no appends of rollout %s since %s: it is frozen, a rollback still works. %s", l.id, since, o.cause)
		}
	}
	return fmt.Sprintf("Belay's store takes no appends since %s: rollouts are frozen, rollbacks still work. %s", since, o.cause)
}

// open is the page as it is open at the named notifier, for one that ends pages unless
// they are repeated; ok is false when there is none.
func (o *outage) open(ctx context.Context, name string) (n notifier.Notice, ok bool) {
	o.mu.Lock()
	ok = o.page.Open && o.page.Paging.Shows(name)
	o.mu.Unlock()
	if !ok {
		return n, false
	}
	return o.notice(ctx, name), true
}

// undelivered says which notifiers did not take the page, or its end.
func (o *outage) undelivered() (u rollout.UndeliveredPage, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	u, ok = o.page.Paging.Undelivered(o.page.text())
	u.Since = o.page.Since
	return u, ok
}
