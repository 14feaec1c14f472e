package rollout

import (
	"fmt"
	"slices"
)

// Undone says of a release that it takes back what a promoted rollout brought.
type Undone struct {
	// Rollout is the one that was promoted, Version what it had brought: that is in its
	// cooldown once this release is promoted.
	Rollout string `json:"rollout"`
	Version string `json:"version"`
}

// again says which rollout the release undoes or retries, and why.
func (r Release) again() string {
	said := ""
	switch {
	case r.Undoes != nil:
		said = fmt.Sprintf(", to undo %s (version %s)", r.Undoes.Rollout, r.Undoes.Version)
	case r.Retries != "":
		said = ", again after " + r.Retries
	}
	if r.Reason != "" {
		said += ": " + r.Reason
	}
	return said
}

// Undo is the plan of the rollout id that puts the deployment back which was stable
// before this one was promoted, under the same policy as it was then. version is what
// that deployment serves, "" where nobody tells. Released is who asks, and why.
func (p *Plan) Undo(s *State, id, version string, released Release) *Plan {
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
	out.Release.Undoes = &Undone{Rollout: p.ID, Version: p.Release.Version}
	// It goes before nobody and waits for nobody: what has the endpoint since then is
	// not to be undone unasked.
	out.Concurrency, out.Schedule = ConcurrencyRefuse, nil
	return &out
}

// AtOnce is the plan without a ladder: all traffic in one step, with neither gate,
// window nor guardrail, for a release that takes another back in an emergency. That the
// deployment is ready is still checked.
func (p *Plan) AtOnce() *Plan {
	out := *p
	last := p.Steps[len(p.Steps)-1]
	out.Steps = []Step{{Name: last.Name, Share: last.Share}}
	out.Settle, out.Windows, out.Schedule = 0, nil, nil
	out.Approvals = nil
	out.Panel.Guardrails, out.Panel.Budget, out.Panel.Steps = nil, nil, 1
	out.Preflight = slices.DeleteFunc(slices.Clone(p.Preflight), func(c Check) bool { return c.Kind != "ready" })
	return &out
}

// Undoable says why the promoted rollout cannot be undone as its endpoint shows itself
// now; "" when it can. A deployment of which the router tells nothing may be there.
func (p *Plan) Undoable(s *State, live Split, told map[string]DeploymentFact) string {
	switch {
	case !s.Phase.Terminal():
		return "it has not ended: `belay rollback " + p.ID + " --reason '…'` puts " + s.Stable + " back"
	case s.Phase != PhasePromoted:
		return fmt.Sprintf("it ended %s: %s never lost the traffic to it, or has it back", s.Phase, s.Stable)
	case live.Weights[p.Release.Candidate] != 100:
		return fmt.Sprintf("%s/%s shows %s, not %s at 100%%: something else has changed it since", p.Endpoint.Router, p.Endpoint.Name, live, p.Release.Candidate)
	}
	f, there := told[s.Stable]
	if len(told) > 0 && !there {
		return fmt.Sprintf("deployment %s is gone from %s/%s", s.Stable, p.Endpoint.Router, p.Endpoint.Name)
	}
	if why := f.unfit(); why != "" {
		return s.Stable + " " + why
	}
	return ""
}

// OnceEnded says what an order to a rollout that has ended can be instead.
func (p *Plan) OnceEnded(s *State) string {
	if s.Phase == PhasePromoted {
		return fmt.Sprintf("it was promoted; `belay undo %s --reason '…'` brings %s back", p.ID, s.Stable)
	}
	return fmt.Sprintf("it was %s; `belay retry %s` starts its release again", s.Phase, p.ID)
}

// unguarded: nothing is judged, as a person ordered with AtOnce; no policy says so.
func (p *Plan) unguarded() bool { return len(p.Panel.Guardrails) == 0 && p.Panel.Budget == nil }
