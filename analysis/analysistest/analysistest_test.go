package analysistest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
)

// honest is a source that asks its backend for the whole truth and tells it,
// unless it has a bug.
type honest struct {
	tr  *Transport
	bug string
}

type message struct {
	Events  []Event
	Silent  bool
	Partial bool
}

// backend tells all events; numbers that JSON cannot write break its answer.
func backend(w *World, partial *bool) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(message{w.Events(), w.Silent(Candidate), *partial})
	})
}

func (h *honest) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	if h.bug == "hangs" {
		time.Sleep(3 * time.Minute)
	}
	m, err := h.ask(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	out := make([]analysis.Reading, 0, len(qs))
	for _, q := range qs {
		switch {
		case q.Metric.Counts == nil || q.Metric.Counts.Total == "refused":
			if h.bug == "spoils others" {
				return nil, errors.New("a question is refused")
			}
			out = append(out, analysis.ErrorReading(q, "cannot be asked"))
		case err != nil && h.bug == "fails well":
			out = append(out, analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK})
		case err != nil:
			out = append(out, analysis.ErrorReading(q, err.Error()))
		default:
			out = append(out, h.count(q, m))
		}
	}
	if h.bug == "swaps" && len(out) > 1 {
		out[0], out[1] = out[1], out[0]
	}
	return out, nil
}

func (h *honest) ask(ctx context.Context) (m message, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://user:hunter2@h/", http.NoBody)
	if err != nil {
		return m, err
	}
	resp, err := (&http.Client{Transport: h.tr}).Do(req)
	if err != nil && h.bug == "leaks" {
		return m, err
	}
	if err != nil {
		return m, errors.New("no answer")
	}
	in, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || len(in) == 1<<20 || resp.StatusCode != http.StatusOK {
		return m, errors.New("no whole answer")
	}
	if json.Unmarshal(in, &m) != nil || (m.Partial && h.bug != "takes parts") {
		return m, errors.New("no good answer")
	}
	return m, nil
}

func (h *honest) count(q analysis.Query, m message) analysis.Reading {
	r := analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK, Stable: analysis.Sample{Fresh: true}}
	r.Candidate.Fresh = !m.Silent || h.bug == "fresh for ever"
	if m.Silent {
		r.Reason = "green is silent"
	}
	for _, e := range m.Events {
		begins := !e.At.After(q.From)
		if h.bug == "overlaps" {
			begins = e.At.Before(q.From.Add(-10 * time.Second))
		}
		if e.Endpoint != q.Names.Endpoint || begins || e.At.After(q.To) {
			continue
		}
		s := &r.Stable
		if e.Deployment == Candidate {
			s = &r.Candidate
		}
		if (e.Counts.OK < 0 || math.IsNaN(e.Counts.OK)) && h.bug != "takes anything" {
			return analysis.ErrorReading(q, "a number that is none")
		}
		s.N += e.Counts.Total()
		s.K += e.Counts.Bad
	}
	if h.bug == "loses" && r.Stable.N > 0 {
		r.Stable.N--
	}
	return r
}

// Exercise lets an honest source pass, and finds each of its bugs. The bugs are
// tried in processes of their own, which must fail.
func TestExerciseFindsBugs(t *testing.T) {
	bug := os.Getenv("BELAY_TEST_BUG")
	if bug == "" {
		for _, bug := range []string{"hangs", "swaps", "spoils others", "fails well", "leaks", "takes parts", "fresh for ever", "overlaps", "takes anything", "loses"} {
			cmd := exec.Command(os.Args[0], "-test.run=^TestExerciseFindsBugs$", "-test.timeout=1m")
			cmd.Env = append(os.Environ(), "BELAY_TEST_BUG="+bug)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestExerciseFindsBugs") {
				t.Errorf("a source that %q passes: %v\n%s", bug, err, out)
			}
		}
	}
	Exercise(t, func(_ *testing.T, w *World) Harness {
		partial := false
		tr := &Transport{Handler: backend(w, &partial)}
		return Harness{
			Source: &honest{tr, bug}, Transport: tr, Secrets: []string{"hunter2"}, NoGaps: true,
			Metrics: map[analysis.Kind]analysis.Metric{analysis.KindCounts: {Name: "failures", Counts: &analysis.Counts{Total: "all"}}},
			Refused: analysis.Metric{Name: "refused", Counts: &analysis.Counts{Total: "refused"}},
			Partial: func(on bool) { partial = on },
		}
	})
}

// A fake answers what it is told, fails when it is told, and its steady counts
// tile.
func TestFake(t *testing.T) {
	f := NewFake(Steady(Rates{StableN: 95.3, StableK: 0.4, CandidateN: 5, CandidateK: 0.1}))
	at := time.Unix(1_000_000, 0)
	read := func(from, to time.Duration) analysis.Sample {
		t.Helper()
		rs, err := f.Read(t.Context(), []analysis.Query{{From: at.Add(from), To: at.Add(to)}})
		if err != nil {
			t.Fatal(err)
		}
		return rs[0].Stable
	}
	whole := read(0, time.Hour)
	var sum float64
	for s := time.Duration(0); s < time.Hour; s += 15 * time.Second {
		sum += read(s, s+15*time.Second).N
	}
	if sum != whole.N || math.Abs(whole.N-95.3*3600) > 1 {
		t.Errorf("got %v in parts and %v as a whole, want both about %v", sum, whole.N, 95.3*3600)
	}
	gone := errors.New("gone")
	f.Fail(gone)
	if _, err := f.Read(t.Context(), nil); !errors.Is(err, gone) {
		t.Errorf("told to fail: got %v, want %v", err, gone)
	}
	f.Fail(nil)
	f.Hang(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := f.Read(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("told to hang: got %v, want %v", err, context.DeadlineExceeded)
	}
	if qs, reads := f.Asked(); len(qs) != 241 || reads != 243 {
		t.Errorf("got %d questions in %d reads, want 241 in 243", len(qs), reads)
	}
}
