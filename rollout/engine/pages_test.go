package engine

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// down makes a notifier refuse pages with a text, "" heals it.
func (p *people) down(why string) {
	p.set(func() {
		p.fail = nil
		if why != "" {
			p.fail = func(_ context.Context, n notifier.Notice) error {
				if n.Topic == notifier.TopicPage {
					return errors.New(why)
				}
				return nil
			}
		}
	})
}

// pagingPlan pages, and goes on, while the readings are gone.
func pagingPlan(id, endpoint string, page ...string) *rollout.Plan {
	p := plan(id, endpoint, false)
	p.OnNoData = sight.MissingPolicy{After: 30 * time.Second, Then: analysis.ActionPage}
	p.Page = page
	return p
}

// vanish makes the candidates' series vanish, or come back.
func (w *world) vanish(gone bool) {
	w.source.set(func() { w.source.gone = func(d string, _ time.Time) bool { return gone && d == "green" } })
}

// paged gathers the figures of the pages.
func paged(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	mfs, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, mf := range mfs {
		for _, m := range mf.Metric {
			switch mf.GetName() {
			case "belay_pages_undelivered":
				got[m.Label[0].GetValue()] = m.GetGauge().GetValue()
			case "belay_pages_untaken":
				got["untaken"] = m.GetGauge().GetValue()
			}
		}
	}
	return got
}

// wantPages checks what /readyz and /metrics say of pages: one line with all of the
// words, or none where there are no words.
func wantPages(t *testing.T, when string, e *running, reg *prometheus.Registry, figures map[string]float64, words ...string) {
	t.Helper()
	lines := e.PageProblems()
	if len(words) == 0 && len(lines) != 0 || len(words) > 0 && len(lines) != 1 {
		t.Errorf("%s: got problems %q, want %q", when, lines, words)
	}
	for _, word := range words {
		if len(lines) == 1 && !strings.Contains(lines[0], word) {
			t.Errorf("%s: got problem %q, want %q in it", when, lines[0], word)
		}
	}
	if got := paged(t, reg); !maps.Equal(got, figures) {
		t.Errorf("%s: got figures %v, want %v", when, got, figures)
	}
}

// The first pager is away when a page opens and the second takes it. That is told
// at once, also by the next process before it tries anything, until the first one
// took a test, or the page ends.
func TestPageTakenByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		var reg *prometheus.Registry
		w.tune = func(c *Config) { reg = prometheus.NewRegistry(); c.Registerer = reg }
		e := w.start("one")
		w.begin(e, pagingPlan("r1", "recs", "pager", "chat"))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		fine := map[string]float64{"pager": 0, "chat": 0, "untaken": 0}
		failed := map[string]float64{"pager": 1, "chat": 0, "untaken": 0}
		wantPages(t, "before the page", e, reg, fine)
		w.pager.down("POST pager.example: HTTP status 503 Service Unavailable")
		w.vanish(true)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Page != nil && s.Paging.DeliveredTo == "chat" })
		line := []string{"rollout r1 (edge/recs)", "went to chat instead", "pager fails since 2000-01-01T00:0", "(tried once): POST pager.example: HTTP status 503"}
		wantPages(t, "after the page", e, reg, failed, line...)

		e.kill()
		tried := len(w.pager.all(notifier.TopicPage))
		e = w.start("one")
		for len(e.PageProblems()) == 0 && len(w.pager.all(notifier.TopicPage)) == tried && time.Since(w.began) < time.Hour {
			time.Sleep(10 * time.Millisecond)
		}
		wantPages(t, "after a restart", e, reg, failed, line...)

		e.PageTaken("pager")
		wantPages(t, "after a test", e, reg, fine)
		e.kill()
		e = w.start("one")
		time.Sleep(2 * time.Second)
		wantPages(t, "after another restart", e, reg, failed, line...)
		w.vanish(false)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Page == nil && failing(s) == 0 })
		wantPages(t, "after the page", e, reg, fine)
		w.clean("r1")
	})
}

// No pager takes the page, then the second does; and when the page ends, that one is
// away. Each is told as what it is.
func TestPageTakenByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		reg := prometheus.NewRegistry()
		w.tune = func(c *Config) { c.Registerer = reg }
		e := w.start("one")
		w.begin(e, pagingPlan("r1", "recs", "pager", "chat"))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		w.pager.down("HTTP status 401 Unauthorized")
		w.chat.down("channel_not_found")
		w.vanish(true)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return failing(s) == 2 })
		time.Sleep(20 * time.Second)
		wantPages(t, "nobody", e, reg, map[string]float64{"pager": 1, "chat": 1, "untaken": 1}, "reached nobody", "pager fails since", "401 Unauthorized; chat fails since", "channel_not_found")
		w.chat.down("")
		time.Sleep(35 * time.Second)
		wantPages(t, "the second", e, reg, map[string]float64{"pager": 1, "chat": 0, "untaken": 0}, "went to chat instead: pager fails")
		w.chat.down("channel_not_found")
		w.vanish(false)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Page == nil })
		time.Sleep(time.Second)
		lines := strings.Join(e.PageProblems(), "\n")
		if !strings.Contains(lines, "the end of the page of rollout r1 (edge/recs) was not taken") || !strings.Contains(lines, "chat fails since") {
			t.Errorf("the end: got %q, want that the end was not taken by chat", lines)
		}
		w.chat.down("")
		w.await("r1", time.Hour, func(s *rollout.State) bool { return failing(s) == 0 })
		wantPages(t, "the end", e, reg, map[string]float64{"pager": 0, "chat": 0, "untaken": 0})
		w.clean("r1")
	})
}

// The store is away for minutes, twice, and so is the pager at first. That nobody
// was called is told; the pager is not asked every second; and the two pages and
// their ends are four deliveries that a receiver can tell apart.
func TestStoreOutagePages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		reg := prometheus.NewRegistry()
		w.tune = func(c *Config) { c.Registerer = reg }
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		var tries atomic.Int64
		w.pager.refs = true
		w.pager.down("HTTP status 502 Bad Gateway")
		refuse := w.pager.fail
		w.pager.set(func() {
			w.pager.fail = func(ctx context.Context, n notifier.Notice) error { tries.Add(1); return refuse(ctx, n) }
		})
		away := func(d time.Duration) {
			until := time.Now().Add(d)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.breakage = func(mem.Op) (bool, error) {
				if time.Now().Before(until) {
					return false, store.ErrFull
				}
				return true, nil
			}
		}
		away(3 * time.Minute)
		time.Sleep(100 * time.Second)
		wantPages(t, "nobody was called", e, reg, map[string]float64{"pager": 1, "chat": 0, "untaken": 1}, "the store's outage reached nobody", "pager fails", "502 Bad Gateway")
		if n := tries.Load(); n < 3 || n > 8 {
			t.Errorf("the pager was tried %d times in 70s, want it to be spared", n)
		}
		w.pager.down("")
		time.Sleep(2 * time.Minute)
		wantPages(t, "after the outage", e, reg, map[string]float64{"pager": 0, "chat": 0, "untaken": 0})
		away(2 * time.Minute)
		time.Sleep(4 * time.Minute)
		ids := map[string]int{}
		ends := 0
		for _, n := range w.pager.all(notifier.TopicPage) {
			if !strings.HasPrefix(n.Key, "store/") {
				continue
			}
			ids[n.Delivery]++
			if n.Resolve {
				ends++
				if n.Ref != "ref:store/one" {
					t.Errorf("end of the page: got reference %q, want what the pager returned", n.Ref)
				}
			}
		}
		if len(ids) != 4 || ends != 2 {
			t.Errorf("got deliveries %v with %d ends, want every page and every end under a name of its own", ids, ends)
		}
		for id, n := range ids {
			if n != 1 {
				t.Errorf("delivery %s: got it %d times, want once", id, n)
			}
		}
		w.ended("r1", time.Hour)
		w.clean("r1")
	})
}

// A page is open at the pager when its update can only be told to the chat. Both are
// asked to repeat it, and both learn of its end.
func TestPageOpenTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		e := w.start("one")
		p := pagingPlan("r1", "recs", "pager", "chat")
		p.OnSourceError = sight.MissingPolicy{After: 30 * time.Second, Then: analysis.ActionPage}
		w.begin(e, p)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		w.vanish(true)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Page != nil && s.Paging.DeliveredTo == "pager" })
		w.pager.down("HTTP status 503")
		if _, err := e.Deliver(t.Context(), "r1", "pause", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandPause, By: &person.Person{ID: "sre"}}); err != nil {
			t.Fatal(err)
		}
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Page != nil && s.Paging.DeliveredTo == "chat" })
		for _, name := range []string{"pager", "chat"} {
			open, err := e.OpenPages(t.Context(), name)
			if err != nil || len(open) != 1 || open[0].Key != "rollout/recs/r1" || open[0].Topic != notifier.TopicPage || !strings.Contains(open[0].Summary, "source") {
				t.Errorf("open pages of %s: got %+v, err %v, want the one about the missing candidate", name, open, err)
			}
		}
		w.pager.down("")
		if _, err := e.Deliver(t.Context(), "r1", "stop", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "sre"}}); err != nil {
			t.Fatal(err)
		}
		w.ended("r1", time.Hour)
		for name, who := range map[string]*people{"pager": w.pager, "chat": w.chat} {
			told := who.all(notifier.TopicPage)
			if len(told) == 0 || !told[len(told)-1].Resolve {
				t.Errorf("%s was told %d pages, want an end as the last", name, len(told))
			}
			if open, err := e.OpenPages(t.Context(), name); err != nil || len(open) != 0 {
				t.Errorf("open pages of %s afterwards: got %+v, err %v, want none", name, open, err)
			}
		}
		w.clean("r1")
	})
}

// failing counts the notifiers that did not take the page, or its end.
func failing(s *rollout.State) int {
	u, _ := s.UndeliveredPage()
	return len(u.Failures)
}

// One rollout was written by a newer version. The open pages of all others are listed,
// for whom they end unless they are repeated, and whoever follows the journals hears
// of what comes after its entry.
func TestUnreadableNeighbour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.endAll()
		for key, state := range map[string]string{record.PlanKey("r0"): "", record.RolloutKey("r0"): `{"schemaVersion":99}`} {
			if _, err := w.store.Append(t.Context(), key, []byte(`{"seq":"one"}`), []byte(state), 0); err != nil {
				t.Fatal(err)
			}
		}
		e := w.start("one")
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Reached == 0 })
		w.source.set(func() { w.source.down = func([]analysis.Query) error { return errors.New("no route to host") } })
		w.await("r1", 10*time.Minute, func(s *rollout.State) bool { return s.Page != nil && s.Paging.OpenAt("pager") })
		if open, err := e.OpenPages(t.Context(), "pager"); err != nil || len(open) != 1 {
			t.Errorf("got %d open pages, %v, want one", len(open), err)
		}
		for c, err := range e.Changes(t.Context(), 0) {
			if err != nil || c.Rollout != "r1" {
				t.Errorf("got a change of %q, %v, want r1's", c.Rollout, err)
			}
			break
		}
	})
}
