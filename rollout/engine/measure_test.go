package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/traffic"
)

// Fifty rollouts ask one source every five seconds. It is asked once an instant
// for all of them, and a question that two of them share is put once.
func TestReadingsAreMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		time.Sleep(time.Second)
		const many = 50
		for i := range many {
			name := fmt.Sprintf("e%02d", i)
			w.endpoint(name)
			p := plan("r-"+name, name, false)
			// Every other plan asks for a second metric that is the first one by
			// another name.
			if i%2 == 0 {
				m := p.Panel.Metrics[0]
				m.Name = "again"
				g := p.Panel.Guardrails[0]
				g.Name, g.Metric = "again", "again"
				p.Panel.Metrics, p.Panel.Guardrails = append(p.Panel.Metrics, m), append(p.Panel.Guardrails, g)
			}
			if _, _, err := e.Start(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		w.source.mu.Lock()
		before := len(w.source.reads)
		w.source.mu.Unlock()
		time.Sleep(30 * time.Second)
		w.source.mu.Lock()
		reads := w.source.reads[before:]
		w.source.mu.Unlock()
		if len(reads) != 6 {
			t.Errorf("got %d reads in 30s, want 6", len(reads))
		}
		for _, qs := range reads {
			if len(qs) != many {
				t.Errorf("got %d questions in a read, want %d", len(qs), many)
			}
		}
		s, err := e.Rollout(t.Context(), "r-e00")
		if err != nil || len(s.State.Verdicts) != 2 || s.State.Verdicts[0].Candidate.N != s.State.Verdicts[1].Candidate.N || s.State.Verdicts[0].Candidate.N == 0 {
			t.Errorf("got verdicts %+v, err %v, want two with the same n", s.State.Verdicts, err)
		}
	})
}

// A source fails in every way it can: each stands in the readings as an error,
// and the rollout holds rather than promotes.
func TestSourceFailures(t *testing.T) {
	broken := errors.New("connection refused")
	for name, source := range map[string]analysis.Source{
		"an error":     sourceFunc(func([]analysis.Query) ([]analysis.Reading, error) { return nil, broken }),
		"too few":      sourceFunc(func([]analysis.Query) ([]analysis.Reading, error) { return nil, nil }),
		"not a number": sourceFunc(func(qs []analysis.Query) ([]analysis.Reading, error) { return okReadings(qs, math.NaN()), nil }),
		"infinite":     sourceFunc(func(qs []analysis.Query) ([]analysis.Reading, error) { return okReadings(qs, math.Inf(1)), nil }),
		"none":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.tune = func(c *Config) {
					c.Sources = map[string]analysis.Source{"prom": source}
					if source == nil {
						c.Sources = nil
					}
				}
				e := w.start("one")
				defer w.endAll()
				w.begin(e, plan("r1", "recs", false))
				s := w.await("r1", 2*time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhaseHeld })
				if s.Reason != decision.ReasonSourceError {
					t.Errorf("got reason %s, want source-error", s.Reason)
				}
				w.clean("r1")
			})
		})
	}
}

type sourceFunc func(qs []analysis.Query) ([]analysis.Reading, error)

func (f sourceFunc) Read(_ context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	return f(qs)
}

func okReadings(qs []analysis.Query, n float64) []analysis.Reading {
	rs := make([]analysis.Reading, len(qs))
	for i, q := range qs {
		s := analysis.Sample{Fresh: true, N: n}
		rs[i] = analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK, Stable: s, Candidate: s}
	}
	return rs
}

// What the router tells of versions is what expressions are about; of a candidate of
// which it tells none, the release says it.
func TestNamesTellVersions(t *testing.T) {
	l := &runner{plan: &rollout.Plan{Endpoint: rollout.EndpointRef{Name: "recs"}, Release: rollout.Release{Candidate: "green", Version: "v2"}}}
	told := versions(traffic.Description{Deployments: map[string]traffic.Deployment{"blue": {Version: "v1"}, "green": {}}})
	want := analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green", StableVersion: "v1", CandidateVersion: "v2"}
	if got := l.names("blue", told); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := versions(traffic.Description{}); got != nil {
		t.Errorf("a router that tells nothing: got %v, want nil", got)
	}
}

// The candidate is replaced under its rollout: from then on the sources are asked of the
// version that is there, and what was read of the one before counts no more.
func TestAsksOfTheVersionThatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		deploy := func(version string) {
			w.router.Set("recs", w.router.Truth("recs"), traffic.Description{Deployments: map[string]traffic.Deployment{
				"blue": {Ready: true, Instances: 2, Version: "v1"}, "green": {Ready: true, Instances: 2, Version: version}}})
		}
		deploy("v2")
		e := w.start("one")
		defer w.endAll()
		w.begin(e, plan("r1", "recs", false))
		w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Bake.Watched > 20*time.Second })
		deploy("v3")
		s := w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhaseHeld })
		if s.Reason != decision.ReasonVersionChanged || s.Bake.Watched != 0 {
			t.Errorf("got %s, watched %s; want held with nothing watched", s.Reason, s.Bake.Watched)
		}
		time.Sleep(20 * time.Second)
		w.source.mu.Lock()
		defer w.source.mu.Unlock()
		var asked []string
		for _, q := range slices.Concat(w.source.reads...) {
			asked = append(asked, q.Names.StableVersion+" "+q.Names.CandidateVersion)
		}
		if asked = slices.Compact(asked); !slices.Equal(asked, []string{"v1 v2", "v1 v3"}) {
			t.Errorf("the versions asked of were in turn %q, want v1 and v2, then v1 and v3", asked)
		}
	})
}
