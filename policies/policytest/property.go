package policytest

import (
	"fmt"
	"slices"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/sim"
)

// runProperty plays a policy against many random traces. The load and the rates
// are those at the beginning of the file's series; gates are approved a minute
// after they were asked.
func runProperty(f *File, pr Property, p *policies.Policy) PropertyResult {
	res := PropertyResult{Name: pr.Name, Claim: pr.Expect.Text, Trials: pr.Trials, Phases: map[rollout.Phase]int{}}
	play := newSeriesSource(f, Case{}, p)
	plan, _, err := testPlan(p, play.has)
	if err != nil {
		res.Failure = err.Error()
		return res
	}
	tr := newSyntheticTraffic(play, plan, pr)
	if tr.rps <= 0 {
		res.Failure = "the series tell no traffic: a total of stable or candidate must begin above 0"
		return res
	}
	for i := range pr.Trials {
		run, journal := tr.play(p, uint64(pr.Seed)<<32+uint64(i)) //nolint:gosec // any seed will do
		res.Phases[run.State.Phase]++
		if slices.ContainsFunc(journal, func(l sim.Line) bool {
			return slices.ContainsFunc(l.Decisions, func(d decision.Decision) bool { return d.Kind == pr.Expect.Event })
		}) {
			res.Hits++
		}
	}
	share, want := float64(res.Hits)/float64(pr.Trials), float64(pr.Expect.Share)
	if pr.Expect.AtLeast && share < want || !pr.Expect.AtLeast && share > want {
		res.Failure = fmt.Sprintf("P(%s) was %s", pr.Expect.Event, policies.Fraction(share))
	}
	return res
}

// approveAll lets as many people approve as the gate needs.
func approveAll(w *sim.World, r *sim.Run, gate string) {
	q := r.State.Gates[gate]
	for i := range q.Quorum {
		w.Fold(r, rollout.Event{Kind: rollout.EventAnswered, Gate: gate, Nonce: q.Nonce, Approve: true,
			By: &person.Person{ID: fmt.Sprintf("approver-%d", i+1), Via: "test"}})
	}
}
