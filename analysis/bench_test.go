package analysis

import (
	"testing"
	"time"
)

// One interval of a rollout with three guardrails: evidence, estimates,
// intervals and sentences.
func BenchmarkJudge(b *testing.B) {
	r, p := seeded(1), demoPanel()
	rs := demoReadings(r, epoch, 25, 200, healthy, healthy)
	at := StepContext{At: epoch.Add(time.Second), StepStart: epoch, StableWeight: 75, CandidateWeight: 25, Serving: true}
	e, _ := Judge(p, Evidence{}, at, rs)
	b.ReportAllocs()
	for b.Loop() {
		e.Cursors = nil
		Judge(p, e, at, rs)
	}
}

// The same without estimates and sentences: the evidence alone.
func BenchmarkTake(b *testing.B) {
	r, p := seeded(1), demoPanel()
	rs := demoReadings(r, epoch, 25, 200, healthy, healthy)
	at := StepContext{At: epoch.Add(time.Second), StepStart: epoch, StableWeight: 75, CandidateWeight: 25, Serving: true}
	e, _ := Judge(p, Evidence{}, at, rs)
	got := brought{read: make([]bool, 3), idle: make([]bool, 3)}
	b.ReportAllocs()
	for b.Loop() {
		for name := range e.Cursors {
			e.Cursors[name] = time.Time{}
		}
		for i := range rs {
			e.ingest(&p, at, &rs[i], &got)
		}
	}
}
