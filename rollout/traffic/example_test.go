package traffic_test

import (
	"context"
	"fmt"
	"iter"
	"net/http"

	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/traffic"
)

// table is a router of endpoints that stand in a map: all that a Router must do.
type table map[string]split.Split

func (t table) Split(_ context.Context, endpoint string) (traffic.Split, error) {
	s, ok := t[endpoint]
	if !ok {
		return traffic.Split{}, traffic.ErrNotFound
	}
	return s.Clone(), nil
}

func (t table) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	now, err := t.Split(ctx, endpoint)
	switch {
	case err != nil:
		return err
	case now.Equal(to): // it is done already: a repeated call is no error
		return nil
	case !now.Equal(from): // somebody else was here; nothing is overwritten
		return traffic.ErrForeignChange
	}
	t[endpoint] = to.Clone()
	return nil
}

func (t table) Describe(context.Context, string) (traffic.Description, error) {
	return traffic.Description{
		Unknown:        []string{"deployments", "tags", "scoringURI", "authMode", "publicNetwork"}, // unknown, rather than believed
		ManualRollback: func(stable string) string { return "give " + stable + " all the traffic" },
	}, nil
}

func (t table) Endpoints(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for name := range t {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func (t table) Probe(context.Context, string, string, *http.Request) (*http.Response, error) {
	return nil, traffic.ErrPermanent
}

// A Router says what is, and changes it only from what it was thought to be.
func ExampleRouter() {
	var r traffic.Router = table{"recs": {Weights: map[string]int{"blue": 100}}}
	from, _ := r.Split(context.Background(), "recs")
	to := traffic.Split{Weights: map[string]int{"blue": 95, "green": 5}}
	fmt.Println(r.Shift(context.Background(), "recs", from, to))
	fmt.Println(r.Shift(context.Background(), "recs", from, to))
	fmt.Println(r.Shift(context.Background(), "recs", from, traffic.Split{Weights: map[string]int{"green": 100}}))
	now, _ := r.Split(context.Background(), "recs")
	fmt.Println(now)
	// Output:
	// <nil>
	// <nil>
	// traffic: the split was changed by someone else
	// blue 95, green 5
}
