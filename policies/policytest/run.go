package policytest

import (
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
)

// Run runs the cases and properties of a test file against the policy that
// it names, through the same Next and Judge as the daemon. Only those whose
// name wanted accepts are run; a nil wanted accepts all. The report is nil when
// the problems contain an error. A nil env takes the metrics' shapes from the
// series where the policy does not define them.
func Run(
	fsys fs.FS, name string, env *policies.Environment, wanted func(name string) bool,
) (*Report, document.Problems) {
	f, p, ps := loadTest(fsys, name, env)
	if f == nil {
		return nil, ps
	}
	r := &Report{File: name, Policy: p.Document.Metadata.Name, coverage: newCoverage(p)}
	for _, c := range f.Cases {
		if wanted != nil && !wanted(c.Name) {
			continue
		}
		r.Cases = append(r.Cases, runCase(f, c, p, r))
	}
	for _, pr := range f.Properties {
		if wanted != nil && !wanted(pr.Name) {
			continue
		}
		r.Properties = append(r.Properties, runProperty(f, pr, p))
	}
	slices.Sort(r.Untested)
	r.Untested = slices.Compact(r.Untested)
	return r, ps
}

// maxReadings bounds how long a case is played: two months at an interval of 15 s.
const maxReadings = 400_000

// stableOf and candidateOf name the deployments of a policy's tests.
func stableOf(p *policies.Policy) string { return stableIn(p.Document.Spec.Endpoint.Stable) }

func candidateOf(p *policies.Policy) string { return candidateBeside(p.Document.Spec.Endpoint.Stable) }

// stableIn is what tests call the deployment that a policy or plan calls stable.
func stableIn(stable string) string {
	if stable == "auto" {
		return "blue"
	}
	return stable
}

// candidateBeside is what tests call the candidate beside that stable one.
func candidateBeside(stable string) string {
	if stable == "green" {
		return "blue"
	}
	return "green"
}

// requester is who asked for the release in a test.
const requester = "requester"

// testPlan compiles the policy for a test and leaves out the guardrails that
// have no series; it returns their names.
func testPlan(p *policies.Policy, has func(analysis.Metric) bool) (*rollout.Plan, []string, error) {
	p, left := resolved(p)
	plan, err := p.Compile(rollout.Release{
		Policy: p.Document.Metadata.Name, Candidate: candidateOf(p), Version: "candidate",
		Requester: person.Person{ID: requester},
	}, "test")
	if err != nil {
		return nil, nil, err
	}
	var silent []string
	plan.Panel, silent = answered(plan.Panel, has)
	left = append(left, silent...)
	if len(plan.Panel.Guardrails) == 0 {
		return nil, left, fmt.Errorf("test policy %s: no guardrail has series", p.Document.Metadata.Name)
	}
	return plan, left, nil
}

// answered is a panel without the metrics that have no answers, and without the
// guardrails and the budget that need them; it returns the guardrails' names.
func answered(p analysis.Panel, has func(analysis.Metric) bool) (analysis.Panel, []string) {
	given := map[string]bool{}
	p.Metrics = slices.DeleteFunc(slices.Clone(p.Metrics), func(m analysis.Metric) bool {
		given[m.Name] = has(m)
		return !given[m.Name]
	})
	var left []string
	p.Guardrails = slices.DeleteFunc(slices.Clone(p.Guardrails), func(g analysis.Guardrail) bool {
		if !given[g.Metric] {
			left = append(left, g.Name)
		}
		return !given[g.Metric]
	})
	if p.Budget != nil && !given[p.Budget.Metric] {
		p.Budget = nil
	}
	return p, left
}

// resolved is the policy without the guardrails whose metrics only a config
// that is not at hand could define, and their names.
func resolved(p *policies.Policy) (*policies.Policy, []string) {
	q := *p
	var left []string
	q.Document.Spec.Guardrails = slices.DeleteFunc(slices.Clone(p.Document.Spec.Guardrails),
		func(g policies.Guardrail) bool {
			_, known := p.Metric(g.Metric)
			if !known {
				left = append(left, g.Name)
			}
			return !known
		})
	if b := p.Document.Spec.Budget; b != nil {
		if _, known := p.Metric(b.Metric); !known {
			q.Document.Spec.Budget = nil
		}
	}
	return &q, left
}

// runCase runs one case. Actions that come before their anchor need a first
// run, which finds out when the anchor will be.
func runCase(f *File, c Case, p *policies.Policy, report *Report) CaseResult {
	res := CaseResult{Name: c.Name}
	play := newSeriesSource(f, c, p)
	plan, left, err := testPlan(p, play.has)
	report.Untested = append(report.Untested, left...)
	if err != nil {
		res.Failures = []string{err.Error()}
		return res
	}
	if play.end().Sub(play.start)/plan.Interval > maxReadings {
		res.Failures = []string{fmt.Sprintf("the series last for more than %d readings of the policy; shorten them",
			maxReadings)}
		return res
	}
	ahead := func(a Action) bool { return a.At.Offset < 0 && a.At.Step+a.At.Gate != "" }
	var anchors map[string]time.Time
	if slices.ContainsFunc(c.Actions, ahead) {
		first := newStage(p, newSeriesSource(f, c, p), slices.DeleteFunc(slices.Clone(c.Actions), ahead), nil)
		first.playOnce(plan, nil)
		anchors = first.anchors
	}
	s := newStage(p, play, c.Actions, report.coverage)
	s.playOnce(plan, anchors)
	res.Timeline, res.Phase, res.Decisions = s.timeline, s.run.State.Phase, len(s.world.Journal)
	res.Notes = s.notes
	for i, e := range c.Expect {
		if why, wrong := s.check(e); why != "" {
			res.Failures = append(res.Failures, fmt.Sprintf("expect[%d] %s: %s", i, e, why))
			if wrong >= 0 && (res.Wrong == nil || wrong < *res.Wrong) {
				res.Wrong = &wrong
			}
		}
	}
	for i, a := range c.Actions {
		if !s.done[i] {
			res.Notes = append(res.Notes, fmt.Sprintf("actions[%d] at %s: the time never came", i, a.At.Text))
		}
	}
	return res
}
