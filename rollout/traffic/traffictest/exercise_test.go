package traffictest_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

// The fake keeps the contract that it stands in for, with versions and without,
// with a fence and without.
func TestFakeConforms(t *testing.T) {
	for _, tt := range []struct {
		name                           string
		versioned, exclusive, unfenced bool
	}{
		{"fake", false, false, false},
		{"fake-versioned", true, true, false},
		{"fake-unfenced", false, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			traffictest.Exercise(t, tt.name, func(t *testing.T) *traffictest.World {
				f := &traffictest.Fake{Versioned: tt.versioned, Exclusive: tt.exclusive, Unfenced: tt.unfenced}
				f.Set("recs", all, traffic.Description{
					Deployments: map[string]traffic.Deployment{"blue": {Ready: true}, "green": {Ready: true}, "red": {Ready: true}},
					CanMirror:   true,
				})
				return fakeWorld(f)
			})
		})
	}
}

// fakeWorld gives the hands of a World to a Fake.
func fakeWorld(f *traffictest.Fake) *traffictest.World {
	third := traffic.Split{Weights: map[string]int{"blue": 97, "green": 3}}
	hooks := map[traffictest.FaultKind]traffictest.Hook{
		traffictest.FaultNone:        func(context.Context, *traffictest.Call) (bool, error) { return true, nil },
		traffictest.FaultLostAnswer:  traffictest.LoseAnswer,
		traffictest.FaultFailed:      traffictest.Fail,
		traffictest.FaultLate:        traffictest.Late(time.Hour),
		traffictest.FaultNever:       traffictest.NeverApply,
		traffictest.FaultPartly:      traffictest.Partly(third),
		traffictest.FaultSlow:        traffictest.Slow(time.Second),
		traffictest.FaultSlowApplied: traffictest.SlowButApplied(time.Second),
		traffictest.FaultBusy:        traffictest.Busy(time.Second),
		traffictest.FaultThrottled:   traffictest.Busy(time.Minute),
	}
	return &traffictest.World{
		Router: f, Endpoint: "recs", Deployments: []string{"blue", "green", "red"},
		Truth:   func() traffic.Split { return f.Truth("recs") },
		Foreign: func(s traffic.Split) { f.Foreign("recs", s) },
		Sent: func() []traffic.Split {
			var out []traffic.Split
			for _, c := range f.Calls() {
				if c.Sent {
					out = append(out, c.To)
				}
			}
			return out
		},
		Inject: func(fault traffictest.Fault) {
			f.Next(func(ctx context.Context, c *traffictest.Call) (bool, error) {
				if fault.Arrived != nil {
					fault.Arrived()
				}
				return hooks[fault.Kind](ctx, c)
			})
		},
		Faults:  slices.Collect(maps.Keys(hooks)),
		Settle:  func() { f.Land("recs") },
		Mirrors: true, Versions: f.Versioned, Fenced: !f.Unfenced,
	}
}
