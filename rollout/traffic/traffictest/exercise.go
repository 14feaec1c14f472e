package traffictest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/belayd/belay/rollout/traffic"
)

// A FaultKind is what an endpoint does to a write.
type FaultKind string

// The kinds of faults.
const (
	// FaultNone handles the write as usual, once Arrived has been called.
	FaultNone FaultKind = "none"
	// FaultLostAnswer applies the write; the caller gets an error.
	FaultLostAnswer FaultKind = "lost-answer"
	// FaultFailed does not apply it; the caller gets an error.
	FaultFailed FaultKind = "failed"
	// FaultLate accepts it; it takes effect at World.Settle.
	FaultLate FaultKind = "late"
	// FaultNever accepts it; it never takes effect.
	FaultNever FaultKind = "never"
	// FaultPartly puts something else into effect: neither what was nor what was
	// asked.
	FaultPartly FaultKind = "partly"
	// FaultSlow answers only when the caller has gone; nothing is applied.
	FaultSlow FaultKind = "slow"
	// FaultSlowApplied applies the write and answers only when the caller has gone.
	FaultSlowApplied FaultKind = "slow-applied"
	// FaultBusy refuses it because another operation runs, and asks to wait.
	FaultBusy FaultKind = "busy"
	// FaultThrottled refuses it because of a rate limit, and asks to wait.
	FaultThrottled FaultKind = "throttled"
)

// A Fault is armed for the next write.
type Fault struct {
	Kind FaultKind
	// Arrived, where set, is called when the write has reached the endpoint, before
	// the endpoint compares or does anything.
	Arrived func()
}

// A World is one endpoint as the router under test and everybody else have it.
// At the start all traffic goes to the first of its deployments.
type World struct {
	Router   traffic.Router
	Endpoint string
	// Deployments are at least three that the endpoint has.
	Deployments []string
	// Truth is the split in effect, read past the router.
	Truth func() traffic.Split
	// Foreign changes the split past the router, at once.
	Foreign func(traffic.Split)
	// Sent returns every split that the router asked the endpoint for, in order.
	Sent func() []traffic.Split
	// Inject arms a fault. Faults are the kinds that this endpoint can have.
	Inject func(Fault)
	Faults []FaultKind
	// Settle puts into effect what was accepted late.
	Settle func()

	// Mirrors, Versions and Fenced say what the endpoint can do: mirror traffic,
	// tell a version, refuse a write when the split changed since it was read.
	Mirrors, Versions, Fenced bool
	// NoOff is true where traffic cannot be off altogether.
	NoOff bool
	// Secrets are what must never appear in an error or a command.
	Secrets []string
}

// Exercise is the conformance test that every Router passes. open makes a fresh
// World for each case. At the end it logs a table of the cases.
func Exercise(t *testing.T, router string, open func(t *testing.T) *World) {
	t.Helper()
	table := &rows{}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := open(t)
			if why := w.lacks(c); why != "" {
				table.add(router, c.name, "not possible: "+why, "")
				return
			}
			x := &exercise{T: t, World: w}
			x.all = x.split(100, 0, 0)
			outcome := ""
			defer func() {
				if t.Failed() {
					outcome = "FAILED"
				}
				table.add(router, c.name, outcome, w.Truth().String())
			}()
			outcome = c.run(x)
			x.finish()
		})
	}
	t.Logf("conformance of %s:\n%s", router, table)
}

// lacks says what a case needs and the world has not; "" when nothing.
func (w *World) lacks(c conformance) string {
	switch {
	case c.mirrors && !w.Mirrors:
		return "cannot mirror"
	case c.versions && !w.Versions:
		return "has no versions"
	case c.off && w.NoOff:
		return "cannot turn traffic off"
	}
	if c.fault == "" || slices.Contains(w.Faults, c.fault) {
		return ""
	}
	return fmt.Sprintf("has no fault %q", c.fault)
}

// An exercise is one case under way.
type exercise struct {
	*testing.T
	*World
	all traffic.Split

	mu   sync.Mutex
	errs []error
}

// split gives the deployments these weights, in their order.
func (x *exercise) split(weights ...int) traffic.Split {
	s := traffic.Split{Weights: make(map[string]int)}
	for i, w := range weights {
		if w != 0 {
			s.Weights[x.Deployments[i]] = w
		}
	}
	return s
}

// mirrored adds a mirror share for the second deployment.
func (x *exercise) mirrored(s traffic.Split, share int) traffic.Split {
	s = s.Clone()
	s.Mirror = map[string]int{x.Deployments[1]: share}
	return s
}

// shift calls Shift and keeps the error for the check of secrets.
func (x *exercise) shift(from, to traffic.Split) error {
	return x.note(x.Router.Shift(x.Context(), x.Endpoint, from, to))
}

func (x *exercise) note(err error) error {
	if err != nil {
		x.mu.Lock()
		x.errs = append(x.errs, err)
		x.mu.Unlock()
	}
	return err
}

// reads checks that the router and the endpoint itself show want, and that no
// zero is among it.
func (x *exercise) reads(want traffic.Split) traffic.Split {
	x.Helper()
	if truth := x.Truth(); !truth.Equal(want) {
		x.Errorf("in effect: got %s, want %s", truth, want)
	}
	got, err := x.Router.Split(x.Context(), x.Endpoint)
	if x.note(err) != nil {
		x.Errorf("Split: %v", err)
		return got
	}
	if !got.Equal(want) {
		x.Errorf("Split: got %s, want %s", got, want)
	}
	for _, shares := range []map[string]int{got.Weights, got.Mirror} {
		for name, share := range shares {
			if share == 0 {
				x.Errorf("Split: got %s with 0, want zeroes left out", name)
			}
		}
	}
	if (got.Version != "") != x.Versions {
		x.Errorf("Split: got version %q, want one: %v", got.Version, x.Versions)
	}
	return got
}

// finish checks what holds in every case.
func (x *exercise) finish() {
	x.Helper()
	for _, sent := range x.Sent() {
		if err := traffic.Validate(sent); err != nil {
			x.Errorf("sent %s: %v", sent, err)
		}
	}
	for _, err := range x.errs {
		for _, secret := range x.Secrets {
			if strings.Contains(err.Error(), secret) {
				x.Errorf("error tells a secret: %q", err)
			}
		}
	}
}

// rows is the table of what was exercised.
type rows struct {
	mu   sync.Mutex
	rows []string
}

func (r *rows) add(cells ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, strings.Join(cells, "\t"))
}

// String formats the table.
func (r *rows) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "router\tcase\toutcome\tsplit in the end")
	for _, row := range r.rows {
		_, _ = fmt.Fprintln(w, row)
	}
	_ = w.Flush()
	return b.String()
}
