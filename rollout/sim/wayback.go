package sim

import (
	"strings"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/deployment"
)

// A told keeps account of what the router told of the deployments.
type told struct {
	facts map[string]deployment.Fact
	// served is with how many instances stable served everything.
	served *int
	// changed is since when a deployment is another version than the one that was
	// measured, and people have not gone on since.
	changed time.Time
	// unread: the last read of the endpoint did not show it.
	unread bool
	// fit counts the descriptions in a row by which nothing bars a step.
	fit int
}

// unfit reports whether the deployment cannot serve, by what was told of it.
func (t *told) unfit(name string) bool {
	f := t.facts[name]
	return f.Ready == deployment.NotReady || f.Instances != nil && *f.Instances < 1
}

// short reports whether stable has fewer instances than it served everything with.
func (t *told) short(stable string) bool {
	has := t.facts[stable].Instances
	return has != nil && t.served != nil && *has < *t.served
}

// describe takes an event in.
func (i *Invariants) describe(w *World, r *Run, a *account, l Line) {
	t, s, ev := &a.told, r.State, l.Event
	cand := r.Plan.Release.Candidate
	if ev.Kind == rollout.EventTraffic && l.Ignored == "" {
		t.unread = ev.Split == nil
	}
	if ev.Deployments != nil && l.Ignored == "" && s.Stable != "" {
		was := t.facts
		t.facts = ev.Deployments
		if ev.Kind == rollout.EventPreflighted {
			t.served = t.facts[s.Stable].Instances
		}
		for _, name := range []string{s.Stable, cand} {
			if old, now := was[name].Version, t.facts[name].Version; old != "" && now != "" && old != now && exposed(s) {
				t.changed = w.Now
				i.checkVoid(w, r, name)
			}
		}
		if t.fit++; t.unfit(s.Stable) || t.unfit(cand) || t.short(s.Stable) {
			t.fit = 0
		}
	}
	if went(l) {
		t.changed = time.Time{}
	}
	if !exposed(s) {
		return
	}
	if t.unfit(s.Stable) && s.Hold == nil {
		i.fail(w, r, StableDown, "%s cannot serve, and the rollout is %s", s.Stable, s.Phase)
	}
	barred := s.Hold != nil && s.Hold.Self &&
		(s.Hold.Reason == decision.ReasonNotReady || s.Hold.Reason == decision.ReasonWayBack)
	if barred && s.Phase == rollout.PhaseHeld && t.fit > 1 && a.seesAll(r) && s.At.Sub(s.Hold.Since) > r.Plan.Interval {
		i.fail(w, r, SelfHold, "held since %s: %s", s.Hold.Since.UTC().Format("15:04:05"), s.Hold.Sentence)
	}
}

// exposed reports whether the candidate may have traffic by the rollout's doing.
func exposed(s rollout.State) bool {
	return s.Asked != nil && s.Phase != rollout.PhaseRollingBack && !s.Phase.Terminal()
}

// checkVoid: what was measured of another version counts no more.
func (i *Invariants) checkVoid(w *World, r *Run, name string) {
	if s := r.State; s.Hold == nil || s.MayEnd || s.Bake.Watched > 0 {
		i.fail(w, r, OtherVersion, "%s became another version, and the rollout is %s, with %s watched", name, s.Phase,
			s.Bake.Watched)
	}
}

// checkWayBack: a step begins while stable and the candidate can serve, stable could take
// everything back unless a person has said to go on, and the candidate is what the
// release says.
func (i *Invariants) checkWayBack(w *World, r *Run, a *account, d decision.Decision, byHand bool) {
	t, s, release := &a.told, r.State, r.Plan.Release
	first := s.Step == 0 // the checks of preflight looked at what is ready
	switch {
	case !first && (t.unfit(s.Stable) || t.unfit(release.Candidate)):
		i.fail(w, r, NoWayBack, "step %s begins, and a deployment that must serve cannot: %v", d.Step, t.facts)
	case !first && !byHand && t.short(s.Stable):
		i.fail(w, r, NoWayBack, "step %s begins, and %s has %d instances of %d", d.Step, s.Stable,
			*t.facts[s.Stable].Instances, *t.served)
	case !t.changed.IsZero():
		i.fail(w, r, OtherVersion, "step %s begins, and a deployment became another version since %s", d.Step,
			t.changed.UTC().Format("15:04:05"))
	}
	if v := t.facts[release.Candidate].Version; first && !strings.HasSuffix(v, strings.TrimPrefix(release.Version, "v")) &&
		v != "" {
		i.fail(w, r, OtherVersion, "step %s begins with %s at version %s, and the release is of %s", d.Step,
			release.Candidate, v, release.Version)
	}
}

// checkBudget: while stable has no traffic there is nothing of which failures could be
// in excess.
func (i *Invariants) checkBudget(w *World, r *Run) {
	if s := r.State; s.Confirmed != nil && s.Confirmed.Share(s.Stable).None() {
		i.fail(w, r, LoneBudget, "the budget is spent while %s has nothing", s.Stable)
	}
}
