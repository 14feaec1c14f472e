package batch

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/analysis"
)

// Three rollouts ask one source about one instant: it is asked once, equal questions
// under whatever name once, and each hears what it asked for. Who asks no more is not
// waited for, and another instant is another read.
func TestReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var reads [][]analysis.Query
		r := &Reader{
			Read: func(_ context.Context, _ string, qs []analysis.Query) []analysis.Reading {
				mu.Lock()
				defer mu.Unlock()
				reads = append(reads, qs)
				rs := make([]analysis.Reading, len(qs))
				for i, q := range qs {
					rs[i] = analysis.Reading{Metric: q.Metric.Name, Candidate: analysis.Sample{N: float64(len(q.Metric.Counts.Total))}}
				}
				return rs
			},
			Go:   func(do func(context.Context)) bool { go do(t.Context()); return true },
			Busy: func() bool { return true },
		}
		at := time.Now().Add(5 * time.Second)
		query := func(name, total string) analysis.Query {
			return analysis.Query{Metric: analysis.Metric{Name: name, Counts: &analysis.Counts{Total: total}}, To: at}
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		answers := map[string][]analysis.Reading{}
		ask := func(ctx context.Context, who string, at time.Time, qs ...analysis.Query) {
			r.Add("prom", at, time.Until(at), &Ask{Ctx: ctx, Queries: qs, Answer: func(rs []analysis.Reading, received time.Time) {
				mu.Lock()
				defer mu.Unlock()
				if received.Before(at) {
					t.Errorf("%s heard %s before the instant", who, at.Sub(received))
				}
				answers[who] = rs
			}})
		}
		ask(t.Context(), "a", at, query("failures", "x"), query("slow", "yyy"))
		ask(t.Context(), "b", at, query("errors", "yyy"))
		ask(gone, "c", at, query("errors", "zz"))
		ask(t.Context(), "d", at.Add(time.Second), query("failures", "x"))
		time.Sleep(10 * time.Second)
		synctest.Wait()

		if len(reads) != 2 || len(reads[0]) != 2 || len(reads[1]) != 1 {
			t.Fatalf("got reads %v, want one of two questions and one of one", reads)
		}
		if len(answers) != 3 {
			t.Errorf("got answers for %d, want a, b and d", len(answers))
		}
		if b := answers["b"]; len(b) != 1 || b[0].Metric != "errors" || b[0].Candidate.N != 3 {
			t.Errorf("b heard %+v, want what it asked, under its name", b)
		}
	})
}
