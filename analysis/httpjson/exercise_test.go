package httpjson

import (
	"encoding/json"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

// A warehouse answers sums over (from, to] by deployment; rows appear half a
// minute late.
type warehouse struct{ w *analysistest.World }

func (h warehouse) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Endpoint string
		From, To time.Time
		Table    string
	}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || ask.Table != "requests" {
		http.Error(w, "bad question", http.StatusBadRequest)
		return
	}
	rows := []any{}
	for _, d := range []string{analysistest.Stable, analysistest.Candidate} {
		if h.w.Silent(d) {
			continue
		}
		var c analysistest.Counts
		for _, e := range h.w.Events() {
			if e.Endpoint == ask.Endpoint && e.Deployment == d && e.At.After(ask.From) && !e.At.After(ask.To) && time.Since(e.At) > 30*time.Second {
				c = c.Add(e.Counts)
			}
		}
		buckets := []any{}
		for i, n := range c.Slow {
			b := map[string]any{"n": n, "le": nil}
			if i < len(analysistest.Bounds) {
				b["le"] = analysistest.Bounds[i] * 1000
			}
			buckets = append(buckets, b)
		}
		rows = append(rows, map[string]any{
			"deployment": d, "n": analysistest.Number(c.Total()), "bad": c.Bad, "slow": buckets,
			"plays": c.Plays, "sum": c.Sum, "squares": strconv.FormatFloat(c.SumSq, 'f', -1, 64), "load": 1,
		})
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(map[string]any{"rows": rows})
}

// A token stands in the address.
func TestExercise(t *testing.T) {
	analysistest.Exercise(t, func(t *testing.T, w *analysistest.World) analysistest.Harness {
		tr := &analysistest.Transport{Handler: warehouse{w}}
		s, err := New(Config{
			URL:    "https://user:hunter2@warehouse.example/v1/${endpoint}?token=s3cr3t",
			Body:   `{"endpoint":"${endpoint}","from":"${from}","to":"${to}","table":"${query}"}`,
			Query:  "requests",
			Client: &http.Client{Transport: tr},
		})
		if err != nil {
			t.Fatal(err)
		}
		row := `$.rows[?@.deployment=="${deployment}"]`
		return analysistest.Harness{
			Source: s, Transport: tr, Secrets: []string{"hunter2", "s3cr3t"}, Lag: time.Minute, NoGaps: true,
			Metrics: map[analysis.Kind]analysis.Metric{
				analysis.KindCounts:    {Name: "failures", Counts: &analysis.Counts{Total: row + ".n", Bad: "requests -> " + row + ".bad"}},
				analysis.KindHistogram: {Name: "latency", Histogram: &analysis.Histogram{Series: "buckets(" + row + ".slow[*], $.le, $.n)", Unit: "ms"}},
				analysis.KindMean:      {Name: "revenue", Mean: &analysis.Mean{Count: row + ".plays", Sum: row + ".sum", SumOfSquares: row + ".squares"}},
				analysis.KindValue:     {Name: "load", Value: &analysis.Value{Query: "max(" + row + ".load)"}},
			},
			Refused: analysis.Metric{Name: "refused", Counts: &analysis.Counts{Total: "rows.n", Bad: "$"}},
		}
	})
}
