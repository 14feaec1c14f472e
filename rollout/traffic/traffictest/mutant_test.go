package traffictest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

const mutantEnv = "BELAY_TRAFFICTEST_MUTANT"

// mutants are routers that break the contract in one way each, around a Fake
// that keeps it.
var mutants = map[string]func(*traffictest.Fake) traffic.Router{
	"retries":       func(f *traffictest.Fake) traffic.Router { return retries{f} },
	"overwrites":    func(f *traffictest.Fake) traffic.Router { return overwrites{f} },
	"tells zeroes":  func(f *traffictest.Fake) traffic.Router { return tellsZeroes{f} },
	"believes":      func(f *traffictest.Fake) traffic.Router { return &believes{Fake: f} },
	"swallows":      func(f *traffictest.Fake) traffic.Router { return swallows{f} },
	"never busy":    func(f *traffictest.Fake) traffic.Router { return neverBusy{f} },
	"keeps mirrors": func(f *traffictest.Fake) traffic.Router { return keepsMirrors{f} },
	"leaks":         func(f *traffictest.Fake) traffic.Router { return leaks{f} },
	"ignores ctx":   func(f *traffictest.Fake) traffic.Router { return ignoresContext{f} },
	"takes any sum": func(f *traffictest.Fake) traffic.Router { return takesAnySum{f} },
}

// The conformance test bites: it fails for every mutant. Each runs in a process
// of its own, where it may fail.
func TestExerciseBites(t *testing.T) {
	if os.Getenv(mutantEnv) != "" {
		return // this is the process of a mutant
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestMutant$", "-test.v") //nolint:gosec // This test itself.
		cmd.Env = append(os.Environ(), mutantEnv+"="+name)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(string(out), "--- FAIL: TestMutant") {
			t.Errorf("mutant %q: got %v, want it to fail:\n%s", name, err, out)
			continue
		}
		var cases []string
		for line := range strings.Lines(string(out)) {
			if _, failed, ok := strings.Cut(line, "--- FAIL: TestMutant/"); ok {
				failed, _, _ = strings.Cut(failed, " ")
				cases = append(cases, failed)
			}
		}
		t.Logf("mutant %q is found by %s", name, strings.Join(cases, ", "))
	}
}

// TestMutant is the exercise of one mutant; TestExerciseBites runs it.
func TestMutant(t *testing.T) {
	mutate, ok := mutants[os.Getenv(mutantEnv)]
	if !ok {
		return // it is the process of TestExerciseBites alone
	}
	traffictest.Exercise(t, "mutant", func(*testing.T) *traffictest.World {
		f := &traffictest.Fake{}
		f.Set("recs", all, traffic.Description{
			Deployments: map[string]traffic.Deployment{"blue": {Ready: true}, "green": {Ready: true}, "red": {Ready: true}}, CanMirror: true,
		})
		w := fakeWorld(f)
		w.Router, w.Secrets = mutate(f), []string{"s3cr3t"}
		return w
	})
}

// retries sends a failed write once more.
type retries struct{ *traffictest.Fake }

func (m retries) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	err := m.Fake.Shift(ctx, endpoint, from, to)
	if errors.Is(err, traffictest.ErrInjected) {
		return m.Fake.Shift(ctx, endpoint, from, to)
	}
	return err
}

// overwrites writes whatever the endpoint shows.
type overwrites struct{ *traffictest.Fake }

func (m overwrites) Shift(ctx context.Context, endpoint string, _, to traffic.Split) error {
	now, err := m.Split(ctx, endpoint)
	if err != nil {
		return err
	}
	return m.Fake.Shift(ctx, endpoint, now, to)
}

// tellsZeroes leaves the zeroes in.
type tellsZeroes struct{ *traffictest.Fake }

func (m tellsZeroes) Split(ctx context.Context, endpoint string) (traffic.Split, error) {
	s, err := m.Fake.Split(ctx, endpoint)
	if err == nil {
		s.Weights["old"] = 0
	}
	return s, err
}

// believes takes an accepted write for what is true.
type believes struct {
	*traffictest.Fake

	mu   sync.Mutex
	last *traffic.Split
}

func (m *believes) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	err := m.Fake.Shift(ctx, endpoint, from, to)
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.last = &to
	}
	return err
}

func (m *believes) Split(ctx context.Context, endpoint string) (traffic.Split, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last != nil {
		return m.last.Clone(), nil
	}
	return m.Fake.Split(ctx, endpoint)
}

// swallows says nil where the outcome is unknown.
type swallows struct{ *traffictest.Fake }

func (m swallows) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	err := m.Fake.Shift(ctx, endpoint, from, to)
	if _, busy := errors.AsType[*traffic.BusyError](err); !busy && errors.Is(err, traffictest.ErrInjected) {
		return nil
	}
	return err
}

// neverBusy gives up where it should be told to wait.
type neverBusy struct{ *traffictest.Fake }

func (m neverBusy) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	err := m.Fake.Shift(ctx, endpoint, from, to)
	if _, ok := errors.AsType[*traffic.BusyError](err); ok {
		return fmt.Errorf("refused: %w", traffic.ErrPermanent)
	}
	return err
}

// keepsMirrors needs two writes to go from a mirror to weights.
type keepsMirrors struct{ *traffictest.Fake }

func (m keepsMirrors) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	if len(from.Mirror) > 0 && len(to.Mirror) == 0 {
		unmirrored := traffic.Split{Weights: from.Weights}
		if err := m.Fake.Shift(ctx, endpoint, from, unmirrored); err != nil {
			return err
		}
		from = unmirrored
	}
	return m.Fake.Shift(ctx, endpoint, from, to)
}

// leaks repeats a credential.
type leaks struct{ *traffictest.Fake }

func (m leaks) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	if err := m.Fake.Shift(ctx, endpoint, from, to); err != nil {
		return fmt.Errorf("with s3cr3t: %w", err)
	}
	return nil
}

// ignoresContext goes on when the caller has gone.
type ignoresContext struct{ *traffictest.Fake }

func (m ignoresContext) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	return m.Fake.Shift(context.WithoutCancel(ctx), endpoint, from, to)
}

// takesAnySum makes an invalid split valid in its own way.
type takesAnySum struct{ *traffictest.Fake }

func (m takesAnySum) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	if traffic.Validate(to) != nil {
		return nil
	}
	return m.Fake.Shift(ctx, endpoint, from, to)
}
