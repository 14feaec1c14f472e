package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

// errLost: another replica carries the rollout now.
var errLost = errors.New("another replica carries the rollout")

// mustPersist reports whether something is folded in that must be appended at once.
func (l *runner) mustPersist() bool {
	if l.flush && len(l.drafts) > 0 {
		return true
	}
	if l.s.Phase.Terminal() && len(l.s.Outbox) == 0 && len(l.drafts) > 0 {
		return true
	}
	for _, b := range l.drafts {
		if !b.deferrable || b.sealed {
			return true
		}
	}
	return len(l.drafts) > 1
}

// flushAt is when quiet changes must be appended: two intervals after they came, or 10 s
// where that is longer; where more than 500 rollouts are carried as much later as they are
// more, but within a minute. Rollouts differ, so that their appends do not all fall on the
// instant at which everybody is read.
func (l *runner) flushAt() time.Time {
	h := fnv.New32a()
	_, _ = h.Write([]byte(l.id))
	after := max(2*l.plan.Interval, 10*time.Second)
	after = min(after*time.Duration(max(l.e.loaded.Load(), 500))/500, time.Minute)
	return l.drafts[0].since.Add(after - time.Duration(h.Sum32()%256)*after/1024)
}

// save starts the next append when there is one to make, with the lock held.
func (l *runner) save() {
	if l.writing || len(l.drafts) == 0 || time.Now().Before(l.retryAt) {
		return
	}
	if !l.mustPersist() && time.Now().Before(l.flushAt()) {
		return
	}
	b := l.drafts[0]
	if err := l.seal(b); err != nil {
		// Unreachable unless the state holds what JSON cannot: it would never be
		// written, so the rollout stops here and says so.
		l.log.Error("state cannot be written", "outcome", err.Error())
		l.drop(err)
		l.e.quarantine(l.id, err.Error())
		return
	}
	after := l.head.Revision
	l.writing = l.e.spawn(func(ctx context.Context) {
		rev, err := l.e.append(ctx, record.RolloutKey(l.id), b.entry, b.state, after)
		l.wrote(b, rev, err)
	})
}

// seal fixes the bytes of a draft: the entry that chains to the head.
func (l *runner) seal(b *draft) error {
	if b.sealed {
		return nil
	}
	if b.dropped > 0 {
		if err := l.carry(b); err != nil {
			return err
		}
	}
	epoch := l.head.Epoch
	if l.head.Owner != l.e.cfg.Owner {
		epoch++
	}
	at := b.after.At
	if len(b.events) == 0 {
		at = l.now()
	}
	entry, state, h, err := record.Encode(journal.Entry{
		Seq: l.head.Seq + 1, Prev: l.head.Hash, Epoch: epoch, Owner: l.e.cfg.Owner, Version: l.e.cfg.Version,
		At: at, Events: b.events, Decisions: b.decisions, Phases: b.phases,
	}, b.after)
	if err != nil {
		return err
	}
	b.entry, b.state, b.head, b.sealed = entry, state, h, true
	return nil
}

// carry puts one event in the place of all that the last draft did not keep.
func (l *runner) carry(b *draft) error {
	ev, _, err := normal(rollout.Carry(b.after, b.from, l.now(), b.dropped, b.decisions))
	if err != nil {
		return err
	}
	b.after = l.e.cfg.next(l.plan, l.saved, ev)
	for i := range b.phases {
		b.phases[i].Decisions++ // What says so comes first.
	}
	l.s, b.events, b.decisions, b.dropped = b.after, []rollout.Event{ev}, b.after.Last.Decisions, 0
	return nil
}

// wrote is what follows an append.
func (l *runner) wrote(b *draft, rev store.Revision, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing = false
	switch {
	case l.gone:
		if err == nil {
			b.release(rev, nil)
		}
		return
	case err == nil:
		l.committed(b, rev)
	case errors.Is(err, store.ErrConflict):
		l.log.Warn("rollout lost", "outcome", err.Error())
		l.drop(errLost)
		l.e.lost(l)
		return
	case errors.Is(err, store.ErrBroken):
		l.retryAt = time.Now().Add(time.Hour)
	default:
		l.failures++
		l.e.outage.Failed(l.id, l.plan.Page, err)
		l.retryAt = time.Now().Add(min(100*time.Millisecond<<min(l.failures-1, 6), 2*time.Second))
	}
	l.step()
}

// committed makes a draft the durable state, with the lock held.
func (l *runner) committed(b *draft, rev store.Revision) {
	l.e.outage.Over(l.id, true)
	l.drafts = l.drafts[1:]
	if b.after.Phase.Terminal() && !l.saved.Phase.Terminal() {
		l.e.metrics.ended(l.plan, &b.after)
	}
	l.saved, l.head, l.ours = b.after, b.head, true
	l.head.Revision = rev
	l.failures, l.retryAt = 0, time.Time{}
	if !l.rollbackUnsaved() {
		l.unsaved = time.Time{}
	}
	for _, w := range b.waiters {
		if w.key != "" {
			l.e.spawn(func(ctx context.Context) { l.acknowledge(ctx, w.key, b.head.Seq, w.state.Last.Ignored) })
		}
	}
	b.release(rev, nil)
	for _, d := range b.decisions {
		l.logDecision(d)
		if d.Kind == decision.Rollback {
			l.e.metrics.rollbacks.WithLabelValues(string(d.Reason)).Inc()
		}
	}
	l.e.news.notifyAll()
}

// logDecision writes the one line that a person would tell another.
func (l *runner) logDecision(d decision.Decision) {
	attrs := []any{slog.String("step", d.Step), slog.String("outcome", string(d.Kind)), slog.String("reason", d.Sentence)}
	if d.Split != nil {
		attrs = append(attrs, slog.Int("weight", d.Split.Weights[l.plan.Release.Candidate]))
	}
	level := slog.LevelInfo
	if alarming(d.Kind) {
		level = slog.LevelWarn
	}
	l.log.Log(context.Background(), level, "rollout decided", attrs...)
}

// alarming reports whether a decision is one that somebody may have to look at: it took
// traffic back, stopped the ladder, or called people.
func alarming(k decision.Kind) bool {
	switch k {
	case decision.Breach, decision.Budget, decision.Rollback, decision.Hold, decision.Page,
		decision.NoData, decision.SourceError, decision.ForeignChange:
		return true
	case decision.Start, decision.Queue, decision.Refuse, decision.Step, decision.Confirm,
		decision.Ask, decision.Answer, decision.Void, decision.Resume, decision.Extend,
		decision.Promote, decision.Unwritten, decision.Ack, decision.End:
		return false
	}
	return false
}

// append appends a record and settles what the store leaves open. It returns the
// record's revision; an error that wraps ErrConflict when the head is another
// record; one that wraps ErrBroken; and otherwise an error after which the same
// bytes may be appended again after the same revision.
func (e *Engine) append(
	ctx context.Context, key string, entry, state []byte, after store.Revision,
) (store.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.AppendTimeout)
	defer cancel()
	began := time.Now()
	rev, err := e.cfg.Store.Append(ctx, key, entry, state, after)
	e.metrics.append.Observe(time.Since(began).Seconds())
	switch {
	case err == nil:
		return rev, nil
	case errors.Is(err, store.ErrBroken):
		e.fail(err)
		return 0, fmt.Errorf("append %s: %w", key, err)
	case errors.Is(err, store.ErrFull):
		return 0, fmt.Errorf("append %s: %w: %w", key, rollout.ErrFull, err)
	case errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrTooLarge), errors.Is(err, store.ErrKey):
		return 0, fmt.Errorf("append %s: %w", key, err)
	}
	// A conflict, an unknown outcome or an error without a name: the head says
	// what is true.
	rev, readErr := e.readBack(ctx, key, entry, after, after == 0 && errors.Is(err, store.ErrConflict))
	switch {
	case readErr == nil:
		return rev, nil
	case errors.Is(readErr, store.ErrConflict):
		return 0, fmt.Errorf("append %s: %w", key, store.ErrConflict)
	}
	return 0, fmt.Errorf("append %s: %w", key, errors.Join(err, readErr))
}

// errNotWritten: the head is still what it was.
var errNotWritten = errors.New("not written")

// readBack looks for an entry at a key's head. taken: the key was there before this
// entry was first appended, so that an equal one is somebody else's.
func (e *Engine) readBack(
	ctx context.Context, key string, entry []byte, after store.Revision, taken bool,
) (store.Revision, error) {
	if ctx.Err() != nil {
		// The append used up its time; reading gets its own.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
	}
	rec, err := e.cfg.Store.Head(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if after == 0 {
			return 0, errNotWritten
		}
		return 0, fmt.Errorf("read %s back: the record is gone: %w", key, store.ErrConflict)
	case err != nil:
		return 0, fmt.Errorf("read %s back: %w", key, err)
	case bytes.Equal(rec.Entry, entry) && !taken:
		return rec.Revision, nil
	case rec.Revision == after:
		return 0, errNotWritten
	}
	return rec.Revision, fmt.Errorf("read %s back: the head is revision %d, want %d: %w",
		key, rec.Revision, after, store.ErrConflict)
}

// logOnce remembers what was logged, so that a failure that lasts is logged once and
// not at every try.
type logOnce struct {
	mu   sync.Mutex
	last map[string]string
}

// changed reports whether the text differs from the last one about the same thing.
func (s *logOnce) changed(about, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last[about] == text {
		return false
	}
	if s.last == nil {
		s.last = map[string]string{}
	}
	s.last[about] = text
	return true
}

// forget lets the same text be logged again: it went well meanwhile.
func (s *logOnce) forget(about string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, about)
}

// warn logs why something of the rollout waits, once as long as it is the same,
// and not when the context ended.
func (l *runner) warn(ctx context.Context, what string, err error, attrs ...any) {
	if ctx.Err() == nil && l.logged.changed(fmt.Sprint(what, attrs), err.Error()) {
		l.log.Warn(what, append(attrs, "outcome", err.Error())...) //nolint:sloglint // every caller passes a constant
	}
}
