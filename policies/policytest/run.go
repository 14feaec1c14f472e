package policytest

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/sim"
)

// Run runs the cases and properties of a test file against the policy that
// it names, through the same Next and Judge as the daemon. Only those whose
// name wanted accepts are run; a nil wanted accepts all. The report is nil when
// the problems contain an error. A nil env takes the metrics' shapes from the
// series where the policy does not define them.
func Run(fsys fs.FS, name string, env *policies.Environment, wanted func(name string) bool) (*Report, document.Problems) {
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
		Policy: p.Document.Metadata.Name, Candidate: candidateOf(p), Version: "candidate", Requester: rollout.Person{ID: requester},
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
	q.Document.Spec.Guardrails = slices.DeleteFunc(slices.Clone(p.Document.Spec.Guardrails), func(g policies.Guardrail) bool {
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

// A stage is one run of one case.
type stage struct {
	policy   *policies.Policy
	play     *playback
	world    *sim.World
	run      *sim.Run
	actions  []Action
	done     []bool
	anchors  map[string]time.Time
	timeline []Decided
	notes    []string
	coverage *coverage
}

// runCase runs one case. Actions that come before their anchor need a first
// run, which finds out when the anchor will be.
func runCase(f *File, c Case, p *policies.Policy, report *Report) CaseResult {
	res := CaseResult{Name: c.Name}
	play := newPlayback(f, c, p)
	plan, left, err := testPlan(p, play.has)
	report.Untested = append(report.Untested, left...)
	if err != nil {
		res.Failures = []string{err.Error()}
		return res
	}
	if play.end().Sub(play.start)/plan.Interval > maxReadings {
		res.Failures = []string{fmt.Sprintf("the series last for more than %d readings of the policy; shorten them", maxReadings)}
		return res
	}
	ahead := func(a Action) bool { return a.At.Offset < 0 && a.At.Step+a.At.Gate != "" }
	var anchors map[string]time.Time
	if slices.ContainsFunc(c.Actions, ahead) {
		first := newStage(p, newPlayback(f, c, p), slices.DeleteFunc(slices.Clone(c.Actions), ahead), nil)
		first.play1(plan, nil)
		anchors = first.anchors
	}
	s := newStage(p, play, c.Actions, report.coverage)
	s.play1(plan, anchors)
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

func newStage(p *policies.Policy, play *playback, actions []Action, cov *coverage) *stage {
	return &stage{policy: p, play: play, actions: actions, done: make([]bool, len(actions)), anchors: map[string]time.Time{}, coverage: cov}
}

// play1 plays the case once.
func (s *stage) play1(plan *rollout.Plan, anchors map[string]time.Time) {
	stable := stableOf(s.policy)
	s.world = sim.New(sim.Config{Start: arrival(plan, s.play.start), Split: rollout.Split{Weights: map[string]int{stable: 100}}, Source: s.play})
	s.world.Watch = s.watch
	for i, a := range s.actions {
		switch at, known := anchors[anchorOf(a.At)]; {
		case anchorOf(a.At) == "":
			s.schedule(i, s.play.start.Add(a.At.Offset))
		case known && a.At.Offset < 0:
			s.schedule(i, at.Add(a.At.Offset))
		}
	}
	s.run = s.world.Begin(plan)
	s.world.Run(s.play.end())
}

// arrival is when the release comes: at the start of the test, or a second
// before it where that is the instant of the policy's schedule.
func arrival(plan *rollout.Plan, start time.Time) time.Time {
	if plan.Schedule == nil {
		return start
	}
	if before := start.Add(-time.Second); plan.Schedule.Next(before).Equal(start) {
		return before
	}
	return start
}

// anchorOf names what a time counts from; "" is the start.
func anchorOf(w When) string {
	switch {
	case w.Gate != "":
		return "asked:" + w.Gate
	case w.Step != "":
		return "step:" + w.Step
	}
	return ""
}

// watch notes every decision and starts what counts from it.
func (s *stage) watch(_ *sim.World, r *sim.Run, l sim.Line) {
	blamed := ""
	for _, d := range l.Decisions {
		if d.Kind == rollout.DecisionBreach {
			blamed = d.Guardrail
		} else if d.Guardrail == "" && d.Reason != "" && blamed != "" {
			d.Guardrail = blamed // what a breach led to is that guardrail's
		}
		s.timeline = append(s.timeline, Decided{At: document.Span(l.Event.At.Sub(s.play.start)), Decision: d})
		switch d.Kind { //nolint:exhaustive // only these are anchors
		case rollout.DecisionConfirm:
			s.anchor("step:"+d.Step, l.Event.At)
		case rollout.DecisionAsk:
			s.anchor("asked:"+d.Gate, l.Event.At)
		}
	}
	if s.coverage != nil {
		s.coverage.see(r.State.Verdicts, l.Decisions)
	}
}

// anchor notes the first time of an anchor and schedules what counts from it.
func (s *stage) anchor(name string, at time.Time) {
	if _, again := s.anchors[name]; again {
		return
	}
	s.anchors[name] = at
	for i, a := range s.actions {
		if anchorOf(a.At) == name && a.At.Offset >= 0 {
			s.schedule(i, at.Add(a.At.Offset))
		}
	}
}

func (s *stage) schedule(i int, at time.Time) {
	s.world.At(at, func(w *sim.World) {
		s.done[i] = true
		if why := s.act(w, s.actions[i]); why != "" {
			s.notes = append(s.notes, fmt.Sprintf("actions[%d] at %s: %s", i, s.actions[i].At.Text, why))
		}
	})
}

// order hands over what a person wants where the policy lets them, as the daemon does;
// it returns why not. The roles are belayd's to give: here everybody has them.
func (s *stage) order(w *sim.World, by *rollout.Person, ev rollout.Event) string {
	everything := []access.Grant{{Roles: []access.Role{access.RoleApprove, access.RoleOperate}}}
	if why := access.Forbids(s.run.Plan, &s.run.State, access.Actor{Person: *by, Grants: everything}, ev); why != "" {
		return why
	}
	w.Fold(s.run, ev)
	return ""
}

// act does what an action says; it returns why it could not.
func (s *stage) act(w *sim.World, a Action) string {
	by := &rollout.Person{ID: a.By, Name: a.By, Via: "test", Groups: a.Groups}
	switch {
	case a.Approve != "" || a.Reject != "":
		gate := a.Approve + a.Reject
		q, asked := s.run.State.Gates[gate]
		if !asked || q.State != rollout.QuestionOpen {
			return "no question about " + gate + " is open"
		}
		return s.order(w, by, rollout.Event{Kind: rollout.EventAnswered, Gate: gate, Nonce: q.Nonce, Approve: a.Approve != "", By: by, Reason: a.Reason})
	case a.Command != "":
		ev := rollout.Event{Kind: rollout.EventCommanded, Command: rollout.Command(a.Command), By: by, Reason: cmp.Or(a.Reason, "test")}
		if ev.Command == rollout.CommandExtend {
			ev.Extend = cmp.Or(a.For, 30*time.Minute)
		}
		ev.To = a.To
		return s.order(w, by, ev)
	case a.ExternalWrite != nil:
		w.Write(rollout.Split{Weights: a.ExternalWrite})
		return ""
	case a.SourceDown > 0:
		s.play.down = append(s.play.down, silence{w.Now, w.Now.Add(a.SourceDown)})
		return ""
	case a.Restart > 0:
		w.Away(a.Restart)
		return ""
	}
	return s.run.State.Last.Ignored
}
