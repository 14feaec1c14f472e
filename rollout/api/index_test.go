package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/view"
)

// Whatever comes and goes, the index is what a sort of everything would be.
func TestIndexKeepsOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	b := newIndex()
	model := map[string]entry{}
	for range 5000 {
		c := entry{Card: view.Card{ID: "r" + strconv.Itoa(rng.IntN(200)), Phase: rollout.Phases[rng.IntN(len(rollout.Phases))]}}
		c.CreatedAt = begun.Add(time.Duration(rng.IntN(50)) * time.Second)
		if there, ok := model[c.ID]; ok && rng.IntN(10) > 0 {
			c.CreatedAt = there.CreatedAt
		}
		if rng.IntN(5) == 0 {
			delete(model, c.ID)
			b.remove(c.ID)
		} else {
			model[c.ID] = c
			b.put(c)
		}
	}
	var want []entry
	for _, c := range model {
		want = append(want, c)
	}
	slices.SortFunc(want, before)
	got, more := b.page(nil, 1000, func(*entry) bool { return true })
	same := slices.EqualFunc(got, want, func(a, b entry) bool { return a.ID == b.ID && a.Phase == b.Phase && a.CreatedAt.Equal(b.CreatedAt) })
	if !same || more {
		t.Errorf("index: got %d entries (more: %v), want %d in order", len(got), more, len(want))
	}
}

// What is committed while the index is being read is on it.
func TestIndexMissesNothing(t *testing.T) {
	e := newFakeEngine()
	s, err := New(Config{Engine: e, Catalog: fakeCatalog{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	go func() {
		defer close(started)
		for i := range 300 {
			p := fakePlan("r"+strconv.Itoa(i), rollout.Release{Policy: "recs", Candidate: "green", Version: "1"}, "")
			if _, _, err := e.Start(ctx, p); err != nil {
				t.Error(err)
			}
			e.set(p.ID, func(s *rollout.State) { s.Phase = rollout.PhasePromoted })
		}
	}()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-started
	realtest.Eventually(t, "300 promoted rollouts in the index", func() bool {
		page, _ := s.index.page(nil, 1000, func(c *entry) bool { return c.Phase == rollout.PhasePromoted })
		return len(page) == 300
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// FuzzBodies: whatever a body says, the answer is JSON and never an internal error.
func FuzzBodies(f *testing.F) {
	f.Add("/v1/rollouts", good)
	f.Add("/v1/rollouts", `{"policyText":"bad","candidate":"g","version":"1"}`)
	f.Add("/v1/rollouts/{id}/extend", `{"reason":"r","extend":"30m"}`)
	f.Add("/v1/rollouts/{id}/approve", `{"gate":"owner","nonce":"n1"}`)
	f.Add("/v1/rollouts/{id}/reject", `{"reason":"r"} x`)
	f.Add("/v1/policies/check", `{"text":"a: b","file":"x.yaml"}`)
	engine := newFakeEngine()
	s, err := New(Config{Engine: engine, Catalog: fakeCatalog{}, Log: slog.New(slog.DiscardHandler), Rate: 1e9, Burst: 1e9})
	if err != nil {
		f.Fatal(err)
	}
	p := fakePlan("r1", rollout.Release{Policy: "recs", Candidate: "green", Version: "1"}, "")
	if _, _, err := engine.Start(f.Context(), p); err != nil {
		f.Fatal(err)
	}
	engine.set("r1", fullState)
	paths := map[string]bool{}
	for _, r := range s.routes() {
		if r.method == http.MethodPost {
			paths[r.path] = true
		}
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		if !paths[path] {
			return
		}
		req := httptest.NewRequestWithContext(t.Context(), "POST", "http://localhost"+fill(path, "r1", "recs"), strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set(keyHeader, "k")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		if w.Code >= 500 || !strings.Contains(w.Header().Get("Content-Type"), "json") {
			t.Errorf("POST %s %q: got %d %s", path, body, w.Code, w.Body)
		}
	})
}

// A rollout that retention deletes is off the list at once, also when it is
// deleted while the list is being read; one that another process deletes, when
// somebody has asked for it in vain. What is deleted and started again stays.
func TestIndexForgetsTheDeleted(t *testing.T) {
	e := newFakeEngine()
	s, err := New(Config{Engine: e, Catalog: fakeCatalog{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	start := func(id string) {
		t.Helper()
		if _, _, err := e.Start(t.Context(), fakePlan(id, rollout.Release{Policy: "recs", Candidate: "green", Version: "1"}, "")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		start("r" + strconv.Itoa(i))
	}
	passes := 0
	e.read = func() { // what the list is made of has been read
		if passes++; passes != 2 {
			return
		}
		e.erase("r0", true)
		e.erase("r1", true)
		start("r1")
		realtest.Eventually(t, "the news of two deletions", func() bool { return len(e.erased) == 0 })
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	listed := func() string {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/v1/rollouts", nil))
		var l List
		if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, r := range l.Rollouts {
			ids = append(ids, r.ID)
		}
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	want := func(ids string) {
		t.Helper()
		realtest.Eventually(t, "the list "+ids, func() bool { return listed() == ids })
	}
	want("r1 r2 r3 r4 r5")
	e.erase("r2", true)
	want("r1 r3 r4 r5")
	e.erase("r3", false)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/v1/rollouts/r3/history", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("history of what is gone: got %d, want 404", w.Code)
	}
	want("r1 r4 r5")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// BenchmarkList is GET /v1/rollouts with 10,000 rollouts, a page of 100.
func BenchmarkList(b *testing.B) {
	s, err := New(Config{Engine: newFakeEngine(), Catalog: fakeCatalog{}, Log: slog.New(slog.DiscardHandler), Rate: 1e9, Burst: 1e9})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10_000 {
		p := fakePlan("r"+strconv.Itoa(i), rollout.Release{Policy: "recs", Candidate: "green", Version: "1"}, "")
		st := rollout.Start(p, begun.Add(time.Duration(i)*time.Second))
		fullState(&st)
		c, err := entryOf(rollout.Snapshot{Plan: p, State: st})
		if err != nil {
			b.Fatal(err)
		}
		s.index.entries = append(s.index.entries, c)
	}
	slices.SortFunc(s.index.entries, before)
	close(s.index.loaded)
	for name, path := range map[string]string{"first": "/v1/rollouts", "none-match": "/v1/rollouts?owner=nobody"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+path, nil))
				if w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
