package policytest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
)

// BacktestMode says what plays the candidate.
type BacktestMode string

// The modes.
const (
	// BacktestDeployments: two deployments that really ran.
	BacktestDeployments BacktestMode = "deployments"
	// BacktestInstances: one instance of stable at a time is the candidate, the
	// others are stable. A release that is rolled back was healthy.
	BacktestInstances BacktestMode = "instances"
)

// BacktestReport is what a policy would have done in the past.
type BacktestReport struct {
	Policy     string       `json:"policy"`
	Mode       BacktestMode `json:"mode"`
	From       time.Time    `json:"from"`
	To         time.Time    `json:"to"`
	Trials     []Trial      `json:"trials"`
	RolledBack int          `json:"rolledBack"`
	Promoted   int          `json:"promoted"`
	// Untested are the guardrails that were left out, in the mode instances: the
	// recording does not tell the same instances of their metrics apart.
	Untested []string `json:"untested,omitempty"`
}

// A Trial is one rollout that began at an instant of the past.
type Trial struct {
	Start time.Time `json:"start"`
	// Instance played the candidate, in the mode instances.
	Instance string        `json:"instance,omitempty"`
	Phase    rollout.Phase `json:"phase"`
	Took     document.Span `json:"took"`
	// Step, Guardrail and Sentence say what turned it; empty for promoted ones.
	Step      string `json:"step,omitempty"`
	Guardrail string `json:"guardrail,omitempty"`
	Sentence  string `json:"sentence,omitempty"`
}

// ErrNoInstances: the recording does not tell instances apart.
var ErrNoInstances = errors.New("policies: the recording has fewer than two instances of stable; name the instance " +
	"label in the metric")

// Backtest lets rollouts by the plan begin every so often within the recording
// and follows them through the same Next and Judge as the daemon. Windows, the
// schedule and preflight checks are left out, gates are approved after a minute.
func Backtest(
	p *policies.Policy, plan *rollout.Plan, rec Recording, mode BacktestMode, every time.Duration,
) (BacktestReport, error) {
	rep := BacktestReport{Policy: plan.Policy.Name, Mode: mode, From: rec.From, To: rec.To}
	if why := rec.unread(); why != "" {
		return rep, fmt.Errorf("backtest policy %s: none of the readings succeeded: %s", rep.Policy, why)
	}
	free := *plan
	free.Windows, free.Schedule, free.Preflight = nil, nil, nil
	instances := []string{""}
	if mode == BacktestInstances {
		instances = nil
		free.Panel, rep.Untested = answered(plan.Panel, func(m analysis.Metric) bool {
			shared := rec.instances(m.Name)
			if instances != nil {
				shared = slices.DeleteFunc(shared, func(name string) bool { return !slices.Contains(instances, name) })
			}
			if len(shared) < 2 {
				return false
			}
			instances = shared
			return true
		})
		if len(free.Panel.Guardrails) == 0 {
			return rep, ErrNoInstances
		}
	}
	n := 0
	for start := rec.From; start.Add(plan.Interval).Before(rec.To); start = start.Add(max(every, plan.Interval)) {
		instance := instances[n%len(instances)]
		t := rec.trial(p, &free, start, instance)
		rep.Trials = append(rep.Trials, t)
		switch t.Phase { //nolint:exhaustive // the others are neither
		case rollout.PhaseRolledBack:
			rep.RolledBack++
		case rollout.PhasePromoted:
			rep.Promoted++
		}
		n++
	}
	return rep, nil
}

// Text is the report for people.
func (r BacktestReport) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s to %s, mode %s\n", r.Policy, r.From.Format(time.RFC3339), r.To.Format(time.RFC3339), r.Mode)
	for _, t := range r.Trials {
		fmt.Fprintf(&b, "  %s  %-11s after %s", t.Start.Format("2006-01-02 15:04:05"), t.Phase, t.Took)
		if t.Instance != "" {
			fmt.Fprintf(&b, "  (candidate: %s)", t.Instance)
		}
		if t.Sentence != "" {
			fmt.Fprintf(&b, "  step %s: %s", t.Step, t.Sentence)
		}
		b.WriteString("\n")
	}
	ended, held := r.RolledBack+r.Promoted, r.held()
	fmt.Fprintf(&b, "%d rollouts: %d promoted, %d rolled back, %d held, %d not finished when the recording ended\n",
		len(r.Trials), r.Promoted, r.RolledBack, held, len(r.Trials)-ended-held)
	if len(r.Untested) > 0 {
		fmt.Fprintf(&b, "untested guardrails (their metrics do not tell instances apart): %s\n",
			strings.Join(r.Untested, ", "))
	}
	if r.Mode == BacktestInstances && ended > 0 {
		fmt.Fprintf(&b, "Every one was healthy: %s of those that ended were rolled back.\n",
			policies.Fraction(float64(r.RolledBack)/float64(ended)))
	}
	return b.String()
}

// held counts the rollouts that waited for a person when the recording ended.
func (r BacktestReport) held() int {
	n := 0
	for _, t := range r.Trials {
		if t.Phase == rollout.PhaseHeld {
			n++
		}
	}
	return n
}
