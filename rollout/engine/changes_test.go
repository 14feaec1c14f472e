package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/audit"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// A subscriber sees every entry once, in the order of commits, first what was and
// then what comes; one that reconnects with the last revision it saw misses
// nothing and sees nothing twice.
func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", false))
		time.Sleep(30 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		var got []Change
		done := make(chan struct{})
		go func() {
			defer close(done)
			last := uint64(0)
			for ctx.Err() == nil {
				n := 0
				for c, err := range e.Changes(ctx, last) {
					if err != nil {
						t.Error(err)
						return
					}
					got, last = append(got, c), c.Revision
					if n++; n == 3 {
						break // The connection is lost.
					}
				}
			}
		}()
		w.ended("r1", time.Hour)
		time.Sleep(5 * time.Second)
		cancel()
		<-done
		var want []journal.Entry
		for entry, err := range e.Journal(t.Context(), "r1") {
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, entry)
		}
		if len(got) != len(want) {
			t.Fatalf("got %d changes, want %d", len(got), len(want))
		}
		for i := range got {
			if got[i].Rollout != "r1" || got[i].Entry.Seq != want[i].Seq || i > 0 && got[i].Revision <= got[i-1].Revision {
				t.Errorf("change %d: got entry %d of %s at %d, want entry %d of r1", i, got[i].Entry.Seq, got[i].Rollout, got[i].Revision, want[i].Seq)
			}
		}
		for _, err := range e.Journal(t.Context(), "r9") {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("journal of r9: got %v, want ErrNotFound", err)
			}
		}
	})
}

// The store takes no appends for two minutes while nothing happens. The humans of
// what waits are called once, by the pager that works, and relieved.
func TestOutagePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", true))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Phase == rollout.PhaseWaiting })
		open := func() (keys []string) {
			ns, err := e.OpenPages(t.Context(), "pager")
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range ns {
				keys = append(keys, n.Key)
			}
			return keys
		}
		w.down(func(mem.Op) (bool, error) { return false, store.ErrFull }, 2*time.Minute)
		if got := open(); !slices.Equal(got, []string{"store/one"}) {
			t.Errorf("pages to repeat while the store is away: got %q, want that about the store", got)
		}
		time.Sleep(30 * time.Second)
		if got := open(); len(got) != 0 {
			t.Errorf("pages to repeat after it: got %q, want none", got)
		}
		var pages []notifier.Notice
		for _, n := range w.pager.all(notifier.TopicPage) {
			if n.Key == "store/one" {
				pages = append(pages, n)
			}
		}
		if len(pages) != 2 || pages[0].Resolve || !pages[1].Resolve || !strings.Contains(pages[0].Summary, "takes no appends") {
			t.Errorf("got pages %+v, want one opened and resolved", pages)
		}
		if s, err := e.Rollout(t.Context(), "r1"); err != nil || s.State.Phase != rollout.PhaseWaiting {
			t.Errorf("got phase %s, err %v, want waiting", s.State.Phase, err)
		}
		w.clean("r1")
	})
}

// down breaks every append for a while.
func (w *world) down(fault func(mem.Op) (bool, error), d time.Duration) {
	until := time.Now().Add(d)
	w.mu.Lock()
	w.breakage = func(op mem.Op) (bool, error) {
		if time.Now().Before(until) {
			return fault(op)
		}
		return true, nil
	}
	w.mu.Unlock()
	time.Sleep(d)
}

// A finished rollout is deleted when it is old enough and every sink has seen it:
// journal, plan and acts, and whoever listens is told; one that a sink has not
// seen stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tune = func(c *Config) { c.Retention = 24 * time.Hour }
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		if _, err := e.Deliver(t.Context(), "r1", "stop", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "sre"}}); err != nil {
			t.Fatal(err)
		}
		w.ended("r1", time.Hour)
		rev, err := w.store.Append(t.Context(), "cursor/sink", []byte("{}"), []byte(`{"revision":1}`), 0)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := audit.Now(t.Context(), w.store)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var erased []string
		listening := e.Erased(ctx)
		time.Sleep(30 * time.Hour)
		if _, err := e.Rollout(t.Context(), "r1"); err != nil {
			t.Errorf("not seen by the sink: got %v, want it kept", err)
		}
		if _, err := w.store.Append(t.Context(), "cursor/sink", []byte("{}"), []byte(`{"revision":999}`), rev); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		for rec, err := range w.store.Heads(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(rec.Key, "r1") {
				t.Errorf("got %s, want it deleted", rec.Key)
			}
		}
		var buried []string
		for b, err := range audit.Deleted(t.Context(), w.store) {
			if err != nil {
				t.Fatal(err)
			}
			buried = append(buried, b.Rollout)
		}
		if !slices.Equal(buried, []string{"r1"}) {
			t.Errorf("tombstones: got %v, want that of r1", buried)
		}
		if err := audit.Against(t.Context(), w.store, kept); err != nil {
			t.Errorf("the head from before: got %v, want it to stand", err)
		}
		cancel()
		for id := range listening {
			erased = append(erased, id)
		}
		if len(erased) != 1 || erased[0] != "r1" {
			t.Errorf("told of deletions: got %v, want r1", erased)
		}
	})
}

// The figures of a rollout at 25% and of one that was rolled back.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		reg := prometheus.NewRegistry()
		w.tune = func(c *Config) { c.Registerer = reg }
		e := w.start("one")
		defer w.endAll()
		w.failAt(5)
		w.begin(e, plan("r1", "recs", false))
		w.ended("r1", time.Hour)
		w.source.set(func() { w.source.bad = func(string, time.Time) float64 { return 0.001 } })
		w.endpoint("b")
		w.begin(e, plan("r2", "b", true))
		w.await("r2", time.Hour, func(s *rollout.State) bool { return s.Phase == rollout.PhaseWaiting })
		mfs, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		// The names, labels and help texts are what people build on; the figures
		// are other tests' matter, but for one rollback and its one decision.
		var b bytes.Buffer
		for _, mf := range mfs {
			fmt.Fprintf(&b, "# %s %s: %s\n", mf.GetType(), mf.GetName(), mf.GetHelp())
			for _, m := range mf.Metric {
				var labels []string
				for _, l := range m.Label {
					labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
				}
				fmt.Fprintf(&b, "%s{%s}\n", mf.GetName(), strings.Join(labels, ","))
				once := slices.Contains([]string{"belay_rollbacks_total", "belay_rollouts_finished_total"}, mf.GetName()) && m.GetCounter().GetValue() != 1 ||
					mf.GetName() == "belay_rollout_duration_seconds" && m.GetHistogram().GetSampleCount() != 1 ||
					mf.GetName() == "belay_decision_seconds" && m.GetHistogram().GetSampleCount() != 1
				if once {
					t.Errorf("%s: got %v, want 1", mf.GetName(), m)
				}
			}
		}
		golden(t, "metrics.txt", b.Bytes())
	})
}

// What people say through an inbox reaches the rollout, as far as they may.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tune = func(c *Config) {
			c.People = func(via, who string) access.Actor {
				a := access.Actor{Person: person.Person{ID: who}, Grants: []access.Grant{{Roles: []access.Role{access.RoleView}}}}
				if via == "chat" && who == "slack:T1/U7" {
					a.Grants[0].Roles = []access.Role{access.RoleStart}
				}
				if who == "slack:T1/U9" {
					a.Grants = nil
				}
				return a
			}
		}
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		deliver := func(ctx context.Context, a notifier.Answer) (notifier.Reply, error) { return e.Answer(ctx, "chat", a) }
		r, err := deliver(t.Context(), notifier.Answer{ID: "1", Rollout: "r1", Command: "status"})
		if err != nil || !strings.Contains(r.Text, "is baking") {
			t.Errorf("status: got %+v, err %v", r, err)
		}
		if r, err = deliver(t.Context(), notifier.Answer{ID: "2", Command: "list"}); err != nil || !strings.Contains(r.Text, "r1:") {
			t.Errorf("list: got %+v, err %v", r, err)
		}
		if r, err = deliver(t.Context(), notifier.Answer{ID: "3", Rollout: "r1", Command: "dance"}); err != nil || r.Accepted {
			t.Errorf("dance: got %+v, err %v", r, err)
		}
		for _, c := range []struct{ who, command, want string }{
			{"slack:T1/U8", "rollback", "none of the roles"}, {"slack:T1/U7", "pause", "none of the roles"},
			{"slack:T1/U9", "status", "There is no rollout r1"}, {"slack:T1/U9", "rollback", "There is no rollout r1"},
		} {
			if r, err = deliver(t.Context(), notifier.Answer{ID: c.who + c.command, Rollout: "r1", Command: c.command, Who: c.who}); err != nil || r.Accepted || !strings.Contains(r.Text, c.want) {
				t.Errorf("%s by %s: got %+v, err %v, want a refusal: %s", c.command, c.who, r, err, c.want)
			}
		}
		if r, err = deliver(t.Context(), notifier.Answer{ID: "2", Command: "list", Who: "slack:T1/U9"}); err != nil || r.Text != "No rollout is open." {
			t.Errorf("list by somebody who may view nothing: got %+v, err %v", r, err)
		}
		if r, err = deliver(t.Context(), notifier.Answer{ID: "4", Rollout: "r1", Command: "rollback", Who: "slack:T1/U7"}); err != nil || !r.Accepted {
			t.Errorf("rollback: got %+v, err %v", r, err)
		}
		if s := w.ended("r1", time.Minute); s.Phase != rollout.PhaseStopped {
			t.Errorf("got %s, want stopped", s.Phase)
		}
		w.clean("r1")
	})
}
