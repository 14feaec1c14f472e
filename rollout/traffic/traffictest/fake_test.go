package traffictest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

var (
	all  = traffic.Split{Weights: map[string]int{"blue": 100}}
	five = traffic.Split{Weights: map[string]int{"blue": 95, "green": 5}}
)

func newFake() *traffictest.Fake {
	f := &traffictest.Fake{}
	f.Set("recs", all, traffic.Description{
		Deployments: map[string]traffic.Deployment{"blue": {Ready: true}, "green": {Ready: true}}, CanMirror: true,
	})
	return f
}

// The four combinations of (applied, told), and a partial application: what the
// caller is told and what is true are two things.
func TestFakeFaults(t *testing.T) {
	partial := traffic.Split{Weights: map[string]int{"blue": 90, "green": 10}}
	tests := []struct {
		name  string
		fault traffictest.Hook
		err   error
		truth traffic.Split
	}{
		{"accepted", nil, nil, five},
		{"lost answer", traffictest.LoseAnswer, traffictest.ErrInjected, five},
		{"refused", traffictest.Fail, traffictest.ErrInjected, all},
		{"never applied", traffictest.NeverApply, nil, all},
		{"partly", traffictest.Partly(partial), nil, partial},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			if tt.fault != nil {
				f.Next(tt.fault)
			}
			if err := f.Shift(t.Context(), "recs", all, five); !errors.Is(err, tt.err) {
				t.Errorf("Shift: got %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.truth, f.Truth("recs")); diff != "" {
				t.Errorf("Truth (-want +got):\n%s", diff)
			}
			c := f.Calls()[0]
			if wrote := !tt.truth.Equal(all); c.Wrote != wrote || !c.To.Equal(five) {
				t.Errorf("Calls: got wrote %v to %v, want %v to %v", c.Wrote, c.To, wrote, five)
			}
		})
	}
}

// A write that lands later is not seen before its time, and lands although a
// newer write was made in between; an Exclusive endpoint refuses that one.
func TestFakeLate(t *testing.T) {
	for _, exclusive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.Exclusive = exclusive
			f.Next(traffictest.Late(time.Minute))
			if err := f.Shift(t.Context(), "recs", all, five); err != nil {
				t.Fatal(err)
			}
			time.Sleep(59 * time.Second)
			if got := f.Truth("recs"); !got.Equal(all) {
				t.Errorf("after 59 s: got %v, want %v", got, all)
			}
			quarter := traffic.Split{Weights: map[string]int{"blue": 75, "green": 25}}
			err := f.Shift(t.Context(), "recs", all, quarter)
			var busy *traffic.BusyError
			if errors.As(err, &busy) != exclusive {
				t.Errorf("Shift with exclusive %v: got %v", exclusive, err)
			}
			time.Sleep(time.Second)
			if got := f.Truth("recs"); !got.Equal(five) {
				t.Errorf("after 60 s: got %v, want %v", got, five)
			}
			writes := f.Writes("recs")
			if last := writes[len(writes)-1]; last.Call != 1 || last.Foreign || !last.After.Equal(five) {
				t.Errorf("Writes: got last %+v, want call 1's", last)
			}
		})
	}
}

// A caller that gives up while the endpoint is slow learns nothing of the
// outcome.
func TestFakeSlow(t *testing.T) {
	tests := []struct {
		name  string
		fault traffictest.Hook
		truth traffic.Split
	}{
		{"nothing", traffictest.Slow(time.Minute), all},
		{"applied", traffictest.SlowButApplied(time.Minute), five},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.Next(tt.fault)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := f.Shift(ctx, "recs", all, five); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got %v, want deadline exceeded", tt.name, err)
			}
			if got := f.Truth("recs"); !got.Equal(tt.truth) {
				t.Errorf("%s: got %v, want %v", tt.name, got, tt.truth)
			}
		})
	}
}

// A foreign change between the router's read and its write is refused where the
// endpoint has a fence and overwritten where it has none; the log of writes
// shows both.
func TestFakeRaced(t *testing.T) {
	half := traffic.Split{Weights: map[string]int{"blue": 50, "green": 50}}
	for _, unfenced := range []bool{false, true} {
		f := newFake()
		f.Unfenced = unfenced
		var seen []traffictest.Write
		f.OnWrite = func(w traffictest.Write) { seen = append(seen, w) }
		f.Next(traffictest.Raced(f, half))
		err := f.Shift(t.Context(), "recs", all, five)
		if got := errors.Is(err, traffic.ErrForeignChange); got == unfenced {
			t.Errorf("Shift with unfenced %v: got %v", unfenced, err)
		}
		want := []bool{true}
		if unfenced {
			want = []bool{true, false}
		}
		var foreign []bool
		for _, w := range seen {
			foreign = append(foreign, w.Foreign)
		}
		if diff := cmp.Diff(want, foreign); diff != "" {
			t.Errorf("OnWrite foreign with unfenced %v (-want +got):\n%s", unfenced, diff)
		}
	}
}

// A probe reaches the handler with the deployment's name and the request's own
// path and body.
func TestFakeProbe(t *testing.T) {
	f := newFake()
	f.Probed = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Header.Get("Fake-Deployment")+" "+r.URL.Path+" "+string(body)) //nolint:gosec // No browser reads it.
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "score", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.Probe(t.Context(), "recs", "green", r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, _ := io.ReadAll(resp.Body); string(body) != "green /score " {
		t.Errorf("Probe: got %q, want %q", body, "green /score ")
	}
	if _, err := f.Probe(t.Context(), "recs", "red", r); !errors.Is(err, traffic.ErrNotFound) {
		t.Errorf("Probe of an unknown deployment: got %v, want %v", err, traffic.ErrNotFound)
	}
}
