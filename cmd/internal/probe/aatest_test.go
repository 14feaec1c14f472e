package probe

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/rollout"
)

// instances is a source that tells stable's instances apart: each has so many bad events of
// a hundred a minute, for as long as it looks back.
type instances struct {
	bad   []float64
	since time.Time
	asked [][]analysis.Query
}

func (x *instances) Read(_ context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	x.asked = append(x.asked, qs)
	out := make([]analysis.Reading, len(qs))
	for i, q := range qs {
		r := analysis.Reading{Metric: q.Metric.Name, Status: analysis.StatusOK, From: q.From, To: q.To}
		if r.From.Before(x.since) {
			r.From = x.since
		}
		minutes := r.To.Sub(r.From).Minutes()
		r.Stable.Fresh = true
		for j, bad := range x.bad {
			in := analysis.Instance{Name: fmt.Sprintf("bucket-%d", j), Sample: analysis.Sample{Fresh: true, N: 1000 * minutes, K: bad * minutes}}
			r.Stable.N, r.Stable.K = r.Stable.N+in.N, r.Stable.K+in.K
			r.Stable.Instances = append(r.Stable.Instances, in)
		}
		out[i] = r
	}
	return out, nil
}

// scraped is a source that knows how far apart samples are, and how late data was lately.
type scraped struct{ instances }

func (*scraped) ScrapeInterval(analysis.Metric) time.Duration { return 30 * time.Second }
func (*scraped) Behind(analysis.Metric) time.Duration         { return 42 * time.Second }

// Readings are as late as this one was, and as the source is by itself at least.
func TestLateness(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	read := func(age time.Duration) analysis.Reading {
		return analysis.Reading{Status: analysis.StatusOK, From: now.Add(-time.Hour), To: now.Add(-age)}
	}
	of := &scraped{}
	knowing := config.Source{Source: of, ScrapeInterval: of.ScrapeInterval, Behind: of.Behind}
	for _, c := range []struct {
		name   string
		source config.Source
		r      analysis.Reading
		want   time.Duration
	}{
		{"as it was", config.Source{Source: &instances{}}, read(10 * time.Minute), 10 * time.Minute},
		{"a scrape, though it was new just now", knowing, read(time.Second), 42 * time.Second},
		{"it did not answer", knowing, analysis.Reading{Status: analysis.StatusError}, 42 * time.Second},
		{"nothing is known", config.Source{}, analysis.Reading{}, 0},
	} {
		if got := Lateness(c.source, analysis.Metric{}, c.r, now); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// Stable's own instances, each in the candidate's part, tell whether the traffic is fit for
// the tests: those that differ are named with the share of false alarms, a metric that tells
// none apart asks for a label, and a source that cannot look back is asked for nothing.
func TestAATest(t *testing.T) {
	counts := analysis.Metric{Name: "failures", Counts: &analysis.Counts{Total: "t", Bad: "b", Instance: "bucket"}}
	plan := &rollout.Plan{Interval: 15 * time.Second, Panel: analysis.Panel{
		Metrics: []analysis.Metric{counts},
		Guardrails: []analysis.Guardrail{
			{Name: "failures", Metric: "failures", Limit: analysis.Limit{Relative: true, Value: 1.2}, Detect: 2, Test: analysis.TestSequential, Steps: []int{0}},
			{Name: "cpu", Metric: "cpu", Test: analysis.TestThreshold, Steps: []int{0}},
		},
		Alpha: 0.01, Beta: 0.05, Steps: 1, Interval: 15 * time.Second,
	}}
	for _, c := range []struct {
		name   string
		bad    []float64
		back   time.Duration
		alarms int
		says   []string
	}{
		{"alike", []float64{5, 5, 5, 5}, time.Hour, 0, []string{"0 of 4 instances of blue, compared with the others over 15m", "events cluster by φ 1"}},
		{"one differs", []float64{5, 5, 5, 100}, time.Hour, 1, []string{"1 of 4 instances", "(bucket-3): false alarms in 25%", "events cluster by φ"}},
		{"not told apart", nil, time.Hour, 0, []string{"no label tells stable's instances apart", "by which the router splits"}},
		{"one instance", []float64{5}, time.Hour, 0, []string{"stable has one instance"}},
		{"cannot look back", []float64{5, 5, 5, 100}, time.Minute, 0, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			source := &instances{bad: c.bad, since: time.Now().Add(-c.back)}
			l := &SourceProbe{Sources: map[string]config.Source{"prom": {Source: source}}}
			s := &probeTarget{policy: "p", plan: plan, metric: counts, serving: &servingSeen{Serving: Serving{Stable: "blue", Candidate: "green"}}}
			q := s.query(time.Now())
			rs, _ := source.Read(t.Context(), []analysis.Query{q})
			s.reading, s.from = rs[0], q.From
			l.aaTests(t.Context(), source, []*probeTarget{s})
			m := l.metric(s, time.Now(), "")
			if c.says == nil {
				if m.AATest != nil || len(source.asked) != 1 {
					t.Errorf("%s: got %+v after %d questions, want nothing said and nothing asked", c.name, m.AATest, len(source.asked))
				}
				return
			}
			if m.AATest == nil || len(m.AATest.Alarms) != c.alarms || (m.AATest.Remedy != "") != (c.alarms > 0) {
				t.Fatalf("%s: got %+v, want %d alarms, and a remedy with them", c.name, m.AATest, c.alarms)
			}
			for _, want := range c.says {
				if !strings.Contains(m.AATest.Sentence, want) {
					t.Errorf("%s: got %q, want %q in it", c.name, m.AATest.Sentence, want)
				}
			}
			if len(source.asked) > 1 {
				qs := source.asked[1]
				first, last := qs[0], qs[len(qs)-1]
				if len(qs) != 15 || last.To != s.reading.To || !first.From.Equal(s.reading.To.Add(-lookPast)) || last.Names.Candidate != "blue" {
					t.Errorf("%s: got %d questions from %s to %s about %+v, want the last while in minutes, of stable alone", c.name, len(qs), first.From, last.To, last.Names)
				}
			}
		})
	}
}
