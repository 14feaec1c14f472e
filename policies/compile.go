package policies

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/calendar"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/split"
)

// beta is the chance per step that a release at or beyond detect is promoted.
const beta = 0.05

// ErrUnresolved: the policy names what only belayd's config defines, and it was
// parsed without one.
var ErrUnresolved = errors.New("policies: unresolved name")

// Text is the policy as resolved: the file itself, or, when it extends others,
// the whole as Render writes it.
func (p *Policy) Text() string { return p.text }

// Hash is the SHA-256 of Text, in hex.
func (p *Policy) Hash() string {
	h := sha256.Sum256([]byte(p.text))
	return hex.EncodeToString(h[:])
}

// Compile resolves the policy for one release to the plan of the rollout id.
// The plan shares nothing with the policy.
func (p *Policy) Compile(release rollout.Release, id string) (*rollout.Plan, error) {
	d := p.Document
	s := d.Spec
	switch {
	case p.Base:
		return nil, fmt.Errorf("compile policy %s: a %s is there to be extended, it cannot run", d.Metadata.Name,
			KindBase)
	case release.Candidate == "":
		return nil, fmt.Errorf("compile policy %s: the release names no candidate", d.Metadata.Name)
	case release.Version != strings.TrimSpace(release.Version) || strings.ContainsFunc(release.Version, notPrintable):
		return nil, fmt.Errorf("compile policy %s: the version %q has blanks around it or characters that nobody "+
			"sees: a cooldown would not know it again; write it without", d.Metadata.Name, release.Version)
	case release.Candidate == s.Endpoint.Stable:
		return nil, fmt.Errorf("compile policy %s: candidate %s is the stable deployment", d.Metadata.Name,
			release.Candidate)
	}
	panel, err := p.panel()
	if err != nil {
		return nil, fmt.Errorf("compile policy %s: %w", d.Metadata.Name, err)
	}
	release.Labels = maps.Clone(release.Labels)
	return &rollout.Plan{
		SchemaVersion: 1, ID: id, Release: release,
		Policy: rollout.PolicyRef{
			Name: d.Metadata.Name, Owner: d.Metadata.Owner,
			Labels: maps.Clone(d.Metadata.Labels), Annotations: maps.Clone(d.Metadata.Annotations),
			Text: p.Text(), Hash: p.Hash(),
		},
		Endpoint: rollout.EndpointRef{Router: s.Endpoint.Router, Name: s.Endpoint.Name},
		Stable:   s.Endpoint.Stable, OnForeignChange: s.Endpoint.OnForeignChange, Concurrency: s.Concurrency,
		Preflight: p.checks(),
		Interval:  s.Interval, Settle: s.Settle, MaxExtend: s.MaxExtend, OnUndecided: s.OnUndecided,
		OnNoData: s.OnNoData.policy(), OnSourceError: s.OnSourceError.policy(),
		Steps: s.planSteps(), Panel: panel,
		Approvals: s.planApprovals(), Windows: p.planWindows(), Schedule: s.planSchedule(),
		Rollback: rollout.RollbackPolicy{VerifyWithin: s.Rollback.VerifyWithin, Cooldown: s.Rollback.Cooldown},
		Page:     slices.Clone(s.Page), Notify: slices.Clone(s.Notify),
	}, nil
}

func (m Missing) policy() sight.MissingPolicy {
	return sight.MissingPolicy{After: m.After, Then: m.Then, RollbackAfter: time.Duration(m.RollbackAfter)}
}

func (s *Spec) planSteps() []rollout.Step {
	out := make([]rollout.Step, len(s.Steps))
	for i, st := range s.Steps {
		out[i] = rollout.Step{Name: st.Name, Share: st.share(), Bake: st.Bake, Requires: slices.Clone(st.Requires)}
	}
	return out
}

// share is what a step gives the candidate, as the policy writes it.
func (s Step) share() split.Share {
	switch {
	case s.Weight != nil:
		return split.ShareOf(split.ShareLive, int(*s.Weight))
	case s.Mirror != nil:
		return split.ShareOf(split.ShareMirror, int(*s.Mirror))
	}
	return split.Share{}
}

func (s *Spec) planApprovals() []approval.Approval {
	var out []approval.Approval
	for _, a := range s.Approvals {
		out = append(out, approval.Approval{
			Name: a.Name, Notifier: a.From.Notifier, Channel: a.From.Channel,
			Groups: slices.Clone(a.From.Groups), Users: slices.Clone(a.From.Users),
			Quorum: a.Quorum, NotByRequester: slices.Contains(a.NotBy, "requester"),
			Expires: a.Expires, OnExpiry: a.OnExpiry,
		})
	}
	return out
}

func (p *Policy) planWindows() *calendar.Windows {
	w := p.Document.Spec.Windows
	if w == nil {
		return nil
	}
	out := &calendar.Windows{Timezone: w.Timezone}
	for _, o := range w.Open {
		out.Open = append(out.Open, calendar.Window{Cron: o.Cron, For: o.For})
	}
	for i, f := range w.Freezes {
		sp := p.windows.freezes[i]
		out.Freezes = append(out.Freezes, calendar.Freeze{Name: f.Name, From: sp.from, To: sp.to})
	}
	return out
}

func (s *Spec) planSchedule() *calendar.Schedule {
	if s.Schedule == nil {
		return nil
	}
	out := &calendar.Schedule{Cron: s.Schedule.Cron}
	if s.Windows != nil {
		out.Timezone = s.Windows.Timezone
	}
	return out
}

func (p *Policy) checks() []check.Check {
	var out []check.Check
	for _, ch := range p.Document.Spec.Preflight {
		r := check.Check{Kind: ch.Check, Within: ch.Within, Required: slices.Clone(ch.Required)}
		if ch.Headroom != nil {
			r.Headroom = int(*ch.Headroom)
		}
		if ch.Request != nil {
			r.Method, r.Path, r.Body = ch.Request.Method, ch.Request.Path, slices.Clone(p.files[ch.Request.File])
		}
		if ch.Expect != nil {
			r.Status, r.Within, r.Schema = ch.Expect.Status, ch.Expect.Within, slices.Clone(p.files[ch.Expect.Schema])
		}
		out = append(out, r)
	}
	return out
}

// panel is everything the judge needs, with the metrics in the order of their
// names.
func (p *Policy) panel() (analysis.Panel, error) {
	s := &p.Document.Spec
	panel := analysis.Panel{
		Alpha: float64(s.FalseRollback), Beta: beta, Steps: len(s.Steps),
		Interval: s.Interval, OnSharedBreach: s.OnSharedBreach,
	}
	used := map[string]bool{}
	for _, g := range s.Guardrails {
		used[g.Metric] = true
		judged := g.guardrail(s.stepsOf(g))
		if m := p.metrics[g.Metric]; m.known && m.def.Rate() && !judged.Limit.Relative {
			judged.Limit.Value /= analysis.Trials
			judged.Detect /= analysis.Trials
		}
		def := p.metrics[g.Metric].def
		judged.PassFloor = passFloor(&judged, &def)
		panel.Guardrails = append(panel.Guardrails, judged)
	}
	if s.Budget != nil {
		used[s.Budget.Metric] = true
		panel.Budget = &analysis.Budget{Metric: s.Budget.Metric, AtMost: s.Budget.AtMost}
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		m, ok := p.metrics[name]
		if !ok || !m.known {
			return analysis.Panel{}, fmt.Errorf("metric %s: %w", name, ErrUnresolved)
		}
		panel.Metrics = append(panel.Metrics, cloneMetric(m.def))
	}
	return panel, nil
}

func (g Guardrail) guardrail(steps []int) analysis.Guardrail {
	out := analysis.Guardrail{
		Name: g.Name, Metric: g.Metric, Quantile: float64(g.Quantile), Limit: g.Limit.limit(),
		Detect: g.Detect.Value, OnBreach: g.OnBreach, Evidence: g.Evidence, Test: g.Test,
		BreachAfter: analysis.KofN(g.BreachAfter), Steps: steps,
	}
	if g.Test == analysis.TestThreshold {
		out.Detect = g.Limit.Quantity.Value
	}
	out.DetectLatency = g.Quantile > 0 && g.Detect.Unit == UnitSeconds
	return out
}

// defaultPassFloor is the share of failures whose absence lets a step pass where a
// relative limit names no floor. Where neither deployment has any there is nothing to
// compare, and no traffic in the world would end that.
const defaultPassFloor = 0.01

// passFloor is the absolute part of what a pass excludes: of a relative limit on failures
// from above, that of its floor, or of the default.
func passFloor(g *analysis.Guardrail, m *analysis.Metric) float64 {
	switch {
	case !g.Limit.Relative || g.Limit.AtLeast || g.Test == analysis.TestThreshold, m.Rate(), m.Counts == nil,
		m.Counts.Bad == "":
		return 0
	case g.Limit.Floor > 0:
		return math.Min(g.Limit.Floor*math.Max(1.5, g.Detect/g.Limit.Value), 0.9)
	}
	return defaultPassFloor
}

func cloneMetric(m analysis.Metric) analysis.Metric {
	m.Counts, m.Histogram, m.Mean, m.Value = clone(m.Counts), clone(m.Histogram), clone(m.Mean), clone(m.Value)
	return m
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
