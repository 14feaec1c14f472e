// Package undo makes the plan that takes a promoted rollout back, and says what can be
// done once a rollout has ended.
package undo

import (
	"fmt"
	"slices"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/deployment"
	"github.com/belayd/belay/rollout/split"
)

// Plan is the plan of the rollout id that puts the deployment back which was stable
// before this one was promoted, under the same policy as it was then. version is what
// that deployment serves, "" where nobody tells. Released is who asks, and why.
func Plan(p *rollout.Plan, s *rollout.State, id, version string, released rollout.Release) *rollout.Plan {
	if version == "" {
		version = s.Versions[s.Stable]
	}
	if version == "" {
		version = "before " + p.Release.Version
	}
	out := *p
	out.ID, out.Stable = id, p.Release.Candidate
	out.Release = released
	out.Release.Policy, out.Release.Candidate, out.Release.Version = p.Release.Policy, s.Stable, version
	out.Release.Undoes = &rollout.Undone{Rollout: p.ID, Version: p.Release.Version}
	// It goes before nobody and waits for nobody: what has the endpoint since then is
	// not to be undone unasked.
	out.Concurrency, out.Schedule = rollout.ConcurrencyRefuse, nil
	return &out
}

// AtOnce is the plan without a ladder: all traffic in one step, with neither gate,
// window nor guardrail, for a release that takes another back in an emergency. That the
// deployment is ready is still checked.
func AtOnce(p *rollout.Plan) *rollout.Plan {
	out := *p
	last := p.Steps[len(p.Steps)-1]
	out.Steps = []rollout.Step{{Name: last.Name, Share: last.Share}}
	out.Settle, out.Windows, out.Schedule = 0, nil, nil
	out.Approvals = nil
	out.Panel.Guardrails, out.Panel.Budget, out.Panel.Steps = nil, nil, 1
	out.Preflight = slices.DeleteFunc(slices.Clone(p.Preflight), func(c check.Check) bool { return c.Kind != "ready" })
	return &out
}

// Refused says why the promoted rollout cannot be undone as its endpoint shows itself
// now; "" when it can. A deployment of which the router tells nothing may be there.
func Refused(p *rollout.Plan, s *rollout.State, live split.Split, told map[string]deployment.Fact) string {
	switch {
	case !s.Phase.Terminal():
		return "it has not ended: `belay rollback " + p.ID + " --reason '…'` puts " + s.Stable + " back"
	case s.Phase != rollout.PhasePromoted:
		return fmt.Sprintf("it ended %s: %s never lost the traffic to it, or has it back", s.Phase, s.Stable)
	case live.Weights[p.Release.Candidate] != 100:
		return fmt.Sprintf("%s/%s shows %s, not %s at 100%%: something else has changed it since", p.Endpoint.Router,
			p.Endpoint.Name, live, p.Release.Candidate)
	}
	f, there := told[s.Stable]
	if len(told) > 0 && !there {
		return fmt.Sprintf("deployment %s is gone from %s/%s", s.Stable, p.Endpoint.Router, p.Endpoint.Name)
	}
	if why := f.Unfit(); why != "" {
		return s.Stable + " " + why
	}
	return ""
}

// Instead says what an order to a rollout that has ended can be instead.
func Instead(p *rollout.Plan, s *rollout.State) string {
	if s.Phase == rollout.PhasePromoted {
		return fmt.Sprintf("it was promoted; `belay undo %s --reason '…'` brings %s back", p.ID, s.Stable)
	}
	return fmt.Sprintf("it was %s; `belay retry %s` starts its release again", s.Phase, p.ID)
}
