package analysis_test

import (
	"context"
	"fmt"

	"github.com/belayd/belay/analysis"
)

// gauge is a source of one plain number that it reads whenever it is asked.
type gauge func(deployment string) (float64, error)

// Read implements analysis.Source: one reading per question, and an error is a reading
// too. What it does not know it does not make up.
func (g gauge) Read(_ context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	out := make([]analysis.Reading, len(qs))
	for i, q := range qs {
		out[i] = analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK}
		for name, s := range map[string]*analysis.Sample{q.Names.Stable: &out[i].Stable, q.Names.Candidate: &out[i].Candidate} {
			v, err := g(name)
			if err != nil {
				out[i].Status, out[i].Reason = analysis.StatusError, name+": "+err.Error()
				continue
			}
			*s = analysis.Sample{Fresh: true, Value: v}
		}
	}
	return out, nil
}

// A Source answers many questions at once.
func ExampleSource() {
	var s analysis.Source = gauge(func(deployment string) (float64, error) {
		if deployment == "green" {
			return 0, fmt.Errorf("no answer")
		}
		return 0.42, nil
	})
	qs := []analysis.Query{{Metric: analysis.Metric{Name: "saturation"}, Names: analysis.Names{Stable: "blue", Candidate: "green"}}}
	readings, err := s.Read(context.Background(), qs)
	fmt.Println(readings[0].Stable.Value, readings[0].Status, readings[0].Reason, err)
	// Output: 0.42 error green: no answer <nil>
}
