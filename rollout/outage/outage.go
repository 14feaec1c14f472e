// Package outage calls people when the store takes no appends, and relieves them when
// it does.
//
// The rules of the package:
//   - It watches which rollouts cannot be written: all of them, or one, whatever becomes
//     of the others. What waits is frozen but for rollbacks, and nothing that the core
//     says can be written down, so the page is not the core's.
//   - The page follows what is so as every page does (see paging.Ledger), across
//     restarts too. What notifiers show of it is written down as soon as the store takes
//     it, before they are told where it does.
//   - Where it does not, the next process knows by the journals that people may have
//     been called: nothing was appended for as long as that takes, and the process did
//     not stop in peace. It tells nobody of the same outage under another name, and ends
//     the page once the store takes appends.
package outage

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/notice"
	"github.com/belayd/belay/rollout/paging"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

const (
	// after is how long no append may succeed before people are called.
	after = 30 * time.Second
	// settles is how long after a start a page that the process before has left
	// open stays so when the rollout that it is about has nothing to write.
	settles = 2 * time.Minute
	// saveWithin is how long writing down what people were told may take, and
	// saveEvery how often it is tried while the store takes nothing.
	saveWithin = 2 * time.Second
	saveEvery  = 30 * time.Second
)

// A Shell is what a Watch reaches the world with.
type Shell struct {
	// Owner names the replica whose store is watched.
	Owner string
	Store store.Store
	// Append appends a record and settles what the store leaves open.
	Append func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error)
	// Rollout is a rollout as it is now.
	Rollout func(ctx context.Context, id string) (rollout.Snapshot, error)
	// Send delivers a page; Has reports whether there is a notifier of that name, and
	// Failure what can be done about an error of Send.
	Send    func(ctx context.Context, name string, n notifier.Notice) (ref string, err error)
	Has     func(name string) bool
	Failure func(err error) failure.Failure
	// External is where people can look at rollouts; "" when there is none.
	External func() string
	Now      func() time.Time
	// Go runs do in a goroutine that somebody waits for, or not at all.
	Go  func(do func(context.Context)) bool
	Log *slog.Logger
}

// A Watch watches the appends of one replica. Its methods are safe for concurrent use.
type Watch struct {
	Shell

	mu sync.Mutex
	// waiting are the rollouts that cannot be written; cause is why the last append
	// failed.
	waiting map[string]wait
	cause   string
	// newest is the newest revision of the store that is known: while nothing can be
	// appended it names the outage.
	newest store.Revision

	page page
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

// A wait is a rollout that cannot be written: since when its appends fail, and whom it
// calls.
type wait struct {
	since time.Time
	page  []string
}

// New returns a watch that has seen nothing.
func New(s Shell) *Watch {
	return &Watch{Shell: s, waiting: map[string]wait{}, page: page{SchemaVersion: record.SchemaVersion}}
}

// Advance notes the newest revision of the store.
func (w *Watch) Advance(rev store.Revision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.newest = max(w.newest, rev)
}

// Failed notes a failed append of a rollout, which calls the notifiers of page.
func (w *Watch) Failed(id string, page []string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cause = err.Error()
	if _, known := w.waiting[id]; known {
		return
	}
	if len(w.waiting) == 0 {
		w.Log.Error("store takes no appends", "rollout", id, "outcome", err.Error())
	}
	w.waiting[id] = wait{time.Now(), page}
}

// Over notes an append of the rollout that succeeded, or that nothing of it is to be
// appended any more.
func (w *Watch) Over(id string, written bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was, waits := w.waiting[id]
	if delete(w.waiting, id); waits && written && len(w.waiting) == 0 {
		w.Log.Info("store takes appends again",
			"outcome", fmt.Sprintf("after %s", time.Since(was.since).Round(time.Millisecond)))
	}
	if w.written = w.written || written; written && id == w.page.Rollout {
		w.settles = time.Time{}
	}
}

// judge makes the page follow what is so, with the lock held: it is open while a
// rollout waits since long ago, and about the one that waits for longest of those
// that have anybody to call.
func (w *Watch) judge() {
	var first, longest time.Time
	who := ""
	for id, x := range w.waiting {
		if first.IsZero() || x.since.Before(first) {
			first = x.since
		}
		if len(x.page) > 0 && (who == "" || x.since.Before(longest)) {
			longest, who = x.since, id
		}
	}
	p := &w.page
	switch away := !first.IsZero() && time.Since(first) >= after; {
	case away && who != "" && (!p.Open || !p.shown()):
		if !p.Open {
			p.Outage, p.Since = w.name(), first.UTC().Round(0)
		}
		p.Open, p.Rollout, p.Order = true, who, w.waiting[who].page
	case !away && p.Open && w.written && !time.Now().Before(w.settles):
		p.Open = false
	case !p.Open && !w.written:
		return // Whether there is an outage will show.
	}
	if p.Outage == "" {
		p.Outage = w.name()
	}
	p.Paging.Settle(p.Order, p.text(), w.Now())
}

// Look calls people when the store has been away for long, and relieves them when it
// is back. It is called now and then, by one goroutine.
func (w *Watch) Look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judge()
	if w.busy || !w.unsaved() && w.owed() == nil {
		return
	}
	w.busy = w.Go(func(ctx context.Context) {
		w.save(ctx)
		w.tell(ctx)
		w.mu.Lock()
		w.busy = false
		w.mu.Unlock()
	})
}

// owed is the next message to be sent, with the lock held.
func (w *Watch) owed() *paging.View {
	i := slices.IndexFunc(w.page.Paging.Views, func(v paging.View) bool {
		return v.Owed != "" && !v.NotBefore.After(w.Now())
	})
	if i < 0 {
		return nil
	}
	return &w.page.Paging.Views[i]
}

// tell sends what is owed, and writes down what came of it.
func (w *Watch) tell(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		view := w.owed()
		if view == nil {
			w.mu.Unlock()
			break
		}
		name, owed := view.Notifier, view.Owed
		w.mu.Unlock()
		ref, err := w.send(ctx, name)
		if ctx.Err() != nil && err != nil {
			return
		}
		w.mu.Lock()
		w.told(name, owed, ref, err)
		w.judge()
		w.mu.Unlock()
	}
	w.save(ctx)
}

// send delivers what is owed to a notifier.
func (w *Watch) send(ctx context.Context, name string) (ref string, err error) {
	w.mu.Lock()
	end := !w.page.Open
	w.mu.Unlock()
	if end && !w.Has(name) {
		return "", nil // One that is not configured any more cannot be told.
	}
	return w.Send(ctx, name, w.notice(ctx, name))
}

// told notes how a delivery of what was owed went, with the lock held.
func (w *Watch) told(name, owed, ref string, err error) {
	p := &w.page
	if err == nil {
		refs := maps.Clone(p.Refs)
		if refs == nil {
			refs = map[string]string{}
		}
		if refs[name] = ref; ref == "" {
			delete(refs, name)
		}
		p.Refs = refs
		p.Paging.Delivered(name, owed)
		return
	}
	p.Paging.Refused("store/"+w.Owner, p.Order, name, owed, w.Failure(err).Refusal(), w.Now())
}

// notice is the page, or its end, as the notifier gets it. Every outage is another
// delivery of the same key, and so is its end.
func (w *Watch) notice(ctx context.Context, name string) notifier.Notice {
	w.mu.Lock()
	p, summary := w.page, w.words()
	w.mu.Unlock()
	n := &mailbox.Notice{Key: "store/" + w.Owner, Topic: mailbox.TopicPage, Severity: "critical",
		Summary: summary, Ref: p.Refs[name]}
	id := p.Outage
	if !p.Open {
		n.Severity, n.Resolve, n.Summary = "info", true, "Belay's store takes appends again."
		if p.Since.IsZero() {
			n.Summary = "Belay's store takes appends: if people were called before belayd was started anew, that is over."
		}
		id += "/end"
	}
	at, err := w.Rollout(ctx, p.Rollout)
	if err != nil {
		at = rollout.Snapshot{Plan: &rollout.Plan{ID: p.Rollout}} // It cannot be read, or is gone.
	}
	effect := rollout.Effect{ID: id, Kind: rollout.EffectPage, Notice: n}
	return notice.Of(at.Plan, &at.State, effect, w.External(), w.Now())
}

// words are what people are told of the outage, with the lock held.
func (w *Watch) words() string {
	since := w.page.Since.UTC().Format(time.RFC3339)
	if len(w.waiting) == 1 {
		for id := range w.waiting {
			return fmt.Sprintf("Belay's store takes no appends of rollout %s since %s: "+
				"it is frozen, a rollback still works. %s", id, since, w.cause)
		}
	}
	return fmt.Sprintf("Belay's store takes no appends since %s: rollouts are frozen, rollbacks still work. %s",
		since, w.cause)
}

// Open is the page as it is open at the named notifier, for one that ends pages unless
// they are repeated; ok is false when there is none.
func (w *Watch) Open(ctx context.Context, name string) (n notifier.Notice, ok bool) {
	w.mu.Lock()
	ok = w.page.Open && w.page.Paging.OpenAt(name)
	w.mu.Unlock()
	if !ok {
		return n, false
	}
	return w.notice(ctx, name), true
}

// Undelivered says which notifiers did not take the page, or its end.
func (w *Watch) Undelivered() (u paging.Undelivered, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u, ok = w.page.Paging.Undelivered(w.page.text())
	u.Since = w.page.Since
	return u, ok
}
