package prometheus

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

// latecomers is a world whose samples come late, as the function says, and a source
// before it.
func latecomers(t *testing.T, outage func(instance string, at time.Time) time.Duration) (*analysistest.World, *Source, *analysistest.Transport) {
	t.Helper()
	w := analysistest.NewWorld()
	tr := &analysistest.Transport{Handler: &server{w: w, outage: outage}}
	s, err := New(Config{URL: "http://prometheus.example", Client: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	return w, s, tr
}

// A tally adds up what readings counted, from their first instant on.
type tally struct {
	names           analysis.Names
	begin, cursor   time.Time
	n, k            map[string]float64
	oldest          time.Duration // how far a reading's end was behind the question's
	blind, advanced int
}

func newTally(w *analysistest.World) *tally {
	return &tally{
		names:  analysis.Names{Endpoint: analysistest.Endpoints[0], Stable: analysistest.Stable, Candidate: analysistest.Candidate},
		cursor: w.Start, n: map[string]float64{}, k: map[string]float64{},
	}
}

// look asks once and counts what a judge would: nothing of a reading without the
// candidate.
func (y *tally) look(t *testing.T, s *Source) analysis.Reading {
	t.Helper()
	now := time.Now().UTC()
	rs, err := s.Read(t.Context(), []analysis.Query{{Metric: metrics()[analysis.KindCounts], Names: y.names, From: y.cursor, To: now}})
	if err != nil {
		t.Fatal(err)
	}
	r := rs[0]
	if r.Status != analysis.StatusOK {
		t.Errorf("got %s: %s, want a reading", r.Status, r.Reason)
		return r
	}
	if !r.To.After(r.From) || !r.Candidate.Fresh {
		y.blind++
		return r
	}
	if y.begin.IsZero() {
		y.begin = r.From
	}
	y.advanced++
	y.cursor = r.To
	y.oldest = max(y.oldest, now.Sub(r.To))
	for d, x := range map[string]analysis.Sample{y.names.Stable: r.Stable, y.names.Candidate: r.Candidate} {
		y.n[d] += x.N
		y.k[d] += x.K
	}
	return r
}

// want compares with what happened up to the cursor.
func (y *tally) want(t *testing.T, w *analysistest.World) {
	t.Helper()
	for _, d := range []string{y.names.Stable, y.names.Candidate} {
		c := w.Truth(y.names.Endpoint, d, y.begin, y.cursor)
		if y.n[d] != c.Total() || y.k[d] != c.Bad {
			t.Errorf("%s in (%s, %s]: counted %v of %v, true %v of %v", d, y.begin.Format(time.TimeOnly), y.cursor.Format(time.TimeOnly), y.k[d], y.n[d], c.Bad, c.Total())
		}
	}
}

// Whatever comes late, and however late it is, is counted, once: samples that
// all lag, an instance that lags, a writer that stands still and catches up, a
// writer that does so while another instance ends.
func TestLateSamples(t *testing.T) {
	start := func(at time.Time) time.Duration { return at.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) }
	stands := func(from, to time.Duration, who ...string) func(string, time.Time) time.Duration {
		return func(instance string, at time.Time) time.Duration {
			d := start(at)
			for _, x := range who {
				if (x == "" || x == instance) && d > from && d <= to {
					return to - d
				}
			}
			return 0
		}
	}
	for name, c := range map[string]struct {
		outage func(string, time.Time) time.Duration
		// oldest is the greatest age of a reading's end that may come out of it.
		oldest time.Duration
	}{
		"on time":             {func(string, time.Time) time.Duration { return 0 }, 0},
		"all by a minute":     {func(string, time.Time) time.Duration { return time.Minute }, 75 * time.Second},
		"all by four minutes": {func(string, time.Time) time.Duration { return 4 * time.Minute }, 255 * time.Second},
		"one instance by 20 s": {func(i string, _ time.Time) time.Duration {
			return map[string]time.Duration{"blue-0": 20 * time.Second}[i]
		}, 30 * time.Second},
		"all stand for two minutes": {stands(2*time.Minute, 4*time.Minute, ""), 135 * time.Second},
		"all stand for ten minutes": {stands(2*time.Minute, 12*time.Minute, ""), 5 * time.Minute},
		"one stands for 40 s":       {stands(2*time.Minute, 160*time.Second, "green-1"), 46 * time.Second},
		"one stands for 2 minutes":  {stands(2*time.Minute, 4*time.Minute, "green-1"), 46 * time.Second},
		"one stands for 4 minutes":  {stands(2*time.Minute, 6*time.Minute, "blue-1"), 46 * time.Second},
		"stable stands":             {stands(2*time.Minute, 5*time.Minute, "blue-0", "blue-1"), 46 * time.Second},
		"the candidate stands":      {stands(2*time.Minute, 5*time.Minute, "green-0", "green-1"), 4 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, s, _ := latecomers(t, c.outage)
				y := newTally(w)
				for i := range 40 {
					if i == 12 {
						w.Remove(y.names.Endpoint, "green-0")
						w.Add(y.names.Endpoint, analysistest.Candidate, "green-2")
					}
					w.Step(15 * time.Second)
					y.look(t, s)
				}
				for range 20 {
					w.Rest(15 * time.Second)
					y.look(t, s)
				}
				y.want(t, w)
				if y.oldest > c.oldest || y.advanced == 0 {
					t.Errorf("a reading was up to %s old, want at most %s; %d readings said something", y.oldest, c.oldest, y.advanced)
				}
			})
		})
	}
}

// How late data is is learnt and told, and a value is asked for where the counters'
// samples have come.
func TestLatenessIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, _ := latecomers(t, func(string, time.Time) time.Duration { return 65 * time.Second })
		y := newTally(w)
		counts, value := metrics()[analysis.KindCounts], metrics()[analysis.KindValue]
		if d := s.Behind(counts); d != 0 {
			t.Errorf("before a reading: got %s, want nothing", d)
		}
		for range 12 {
			w.Step(15 * time.Second)
			y.look(t, s)
		}
		if d := s.Behind(counts); d != 75*time.Second {
			t.Errorf("samples that come 65 s late: got %s behind, want 1m15s", d)
		}
		now := time.Now().UTC()
		rs, err := s.Read(t.Context(), []analysis.Query{{Metric: value, Names: y.names, From: y.cursor, To: now}})
		if err != nil {
			t.Fatal(err)
		}
		if r := rs[0]; r.Status != analysis.StatusOK || !r.Candidate.Fresh || now.Sub(r.To) != time.Minute {
			t.Errorf("value: got %+v, want one of a minute ago", r)
		}
	})
}
