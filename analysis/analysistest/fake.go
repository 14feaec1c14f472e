package analysistest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
)

// A Fake is a source whose answers a test writes. It is safe for concurrent
// use.
type Fake struct {
	mu     sync.Mutex
	answer func(analysis.Query) analysis.Reading
	err    error
	hang   bool
	asked  []analysis.Query
	reads  int
}

var _ analysis.Source = (*Fake)(nil)

// NewFake returns a source that answers each question by the function.
func NewFake(answer func(analysis.Query) analysis.Reading) *Fake { return &Fake{answer: answer} }

// Answer changes what is answered from now on.
func (f *Fake) Answer(answer func(analysis.Query) analysis.Reading) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// Fail makes Read return the error; nil ends it.
func (f *Fake) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// Hang makes Read wait for the end of its context.
func (f *Fake) Hang(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = on
}

// Asked is every question so far, in order, and the number of calls of Read.
func (f *Fake) Asked() (qs []analysis.Query, reads int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked), f.reads
}

// Read implements analysis.Source.
func (f *Fake) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	f.mu.Lock()
	f.reads++
	f.asked = append(f.asked, qs...)
	answer, err, hang := f.answer, f.err, f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
	}
	if err := errors.Join(ctx.Err(), err); err != nil {
		return nil, err
	}
	out := make([]analysis.Reading, len(qs))
	for i, q := range qs {
		out[i] = answer(q)
	}
	return out, nil
}

// Rates are what happens every second to the two deployments of an endpoint: a
// number of requests, and how many of them are bad or good, as the metric says.
type Rates struct{ StableN, StableK, CandidateN, CandidateK float64 }

// Steady answers counts at constant rates. They tile exactly: what has happened
// up to an instant is its whole number of seconds, times the rate, rounded
// down.
func Steady(r Rates) func(analysis.Query) analysis.Reading {
	return func(q analysis.Query) analysis.Reading {
		count := func(rate float64) float64 {
			upTo := func(t time.Time) float64 { return float64(int64(rate * float64(t.Unix()))) }
			return upTo(q.To) - upTo(q.From)
		}
		sample := func(n, k float64) analysis.Sample {
			total := count(n)
			return analysis.Sample{Fresh: true, N: total, K: min(count(k), total)}
		}
		return analysis.Reading{
			Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK,
			Stable: sample(r.StableN, r.StableK), Candidate: sample(r.CandidateN, r.CandidateK),
		}
	}
}
