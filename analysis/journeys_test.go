package analysis

import (
	"math"
	"slices"
	"time"
)

// clients shares the requests out by client: each has a rate of its own, most of them
// none, and stays with the deployment that its bucket belongs to.
func (s *seasonRun) clients(per, w, p float64) (stable, candidate Sample) {
	const buckets = 100
	if s.heads == nil {
		s.heads = map[string][]float64{}
		load, fail := make([]float64, s.sticky), make([]float64, s.sticky)
		sum, bad := 0.0, 0.0
		for i := range load {
			load[i] = math.Exp(1.5 * s.r.NormFloat64())
			if fail[i] = 0.1; s.r.Float64() < 0.1 {
				fail[i] = 9.1
			}
			sum, bad = sum+load[i], bad+load[i]*fail[i]
		}
		for i := range load {
			fail[i] *= sum / bad
			load[i] /= sum
		}
		s.heads["load"], s.heads["fail"] = load, fail
	}
	stable, candidate = Sample{Fresh: true}, Sample{Fresh: true}
	each := make([]Sample, buckets)
	for i, load := range s.heads["load"] {
		n := pois(s.r, per*load)
		if n == 0 {
			continue
		}
		x := &each[i%buckets]
		x.Fresh = true
		x.N += n
		x.K += binom(s.r, n, math.Min(0.9, p*s.heads["fail"][i]))
	}
	for i := range each {
		x, arm := each[i], &stable
		if float64((i*37)%buckets) < 100*w {
			arm = &candidate
		}
		arm.N, arm.K = arm.N+x.N, arm.K+x.K
		if s.buckets && x.N > 0 {
			arm.Instances = append(arm.Instances, Instance{Name: "bucket-" + string(rune('A'+i/26)) + string(rune('a'+i%26)), Sample: x})
		}
	}
	if w >= 1 {
		stable = Sample{}
	}
	return stable, candidate
}

// travel carries one release up the ladder, with the rules of the rollout: people do not
// answer, so that what asks them is where it ends.
func travel(p Panel, l seasonLadder, c season, seed uint64) (j journey) {
	s := &seasonRun{season: c, r: seeded(seed), local: map[string]*incident{}}
	e := Evidence{}.clone(len(p.Guardrails))
	b := brought{read: make([]bool, len(p.Guardrails)), idle: make([]bool, len(p.Guardrails))}
	held := time.Duration(-1)
	for step, w := range l.weights {
		at := StepContext{Step: step, StepStart: epoch.Add(s.now), CandidateWeight: w, StableWeight: 100 - w, Serving: true}
		e.begin(&p, at)
		for watched := time.Duration(0); ; {
			s.now += simTick
			at.At = epoch.Add(s.now)
			at.Settling = at.At.Sub(at.StepStart) < time.Minute
			at.Until = at.At.Add(l.bake + l.extend - watched - simTick)
			for _, r := range s.readings(at, step, step == len(l.weights)-1) {
				e.ingest(&p, at, &r, &b)
			}
			if mutate != nil {
				mutate(&e)
			}
			v := e.quick(&p, at)
			j.took = s.now
			switch breach := breachOf(v); {
			case breach != nil && breach.Action == ActionRollback:
				j.end, j.cause, j.flip = endBack, breach.Guardrail, held >= 0
				return j
			case breach != nil && breach.Cause == CauseSingleInstance:
				j.end, j.cause = endAsks, string(breach.Cause)
				return j
			case breach != nil && held < 0:
				held = s.now
				j.shared++
			}
			if held >= 0 {
				if s.now-held > 12*time.Hour {
					j.end, j.cause = endAsks, string(CauseShared)
					return j
				}
				if s.now-held >= CalmFor && slices.Contains(v.Over, ActionRollback) {
					e, held = e.Restart(p, ActionRollback, at), -1
				}
				continue
			}
			if watched += simTick; watched < l.bake {
				continue
			}
			if e.mayEnd(&p, at, v) {
				break
			}
			if watched >= l.bake+l.extend {
				j.end, j.cause = endAsks, "undecided"
				return j
			}
		}
	}
	j.end = endPromoted
	return j
}

// mutate breaks the judge for a test of the tests; nil but there.
var mutate func(e *Evidence)

// breachOf is the gravest breach.
func breachOf(v *Verdicts) *Breach {
	if len(v.Breaches) == 0 {
		return nil
	}
	return &v.Breaches[0]
}

// quick is what verdicts decide, without the figures and sentences for people.
func (e *Evidence) quick(p *Panel, at StepContext) *Verdicts {
	v := &Verdicts{Each: make([]Verdict, len(p.Guardrails))}
	for i := range v.Each {
		g := &p.Guardrails[i]
		v.Each[i] = Verdict{Guardrail: g.Name, Outcome: OutcomeUndecided, LogEThreshold: math.Log(1 / p.share())}
		if !slices.Contains(g.Steps, at.Step) || g.rests(at) {
			v.Each[i].Outcome = OutcomeResting
		}
	}
	e.attribute(p, at, ActionRollback, v)
	if e.over(p, at, ActionRollback) {
		v.Over = []Action{ActionRollback}
	}
	e.breachBudget(p, v)
	return v
}

// mayEnd reports whether every guardrail passes that is judged.
func (e *Evidence) mayEnd(p *Panel, at StepContext, v *Verdicts) bool {
	for i := range p.Guardrails {
		g, s := &p.Guardrails[i], &e.Standings[i]
		if v.Each[i].Outcome == OutcomeResting {
			continue
		}
		if v.Each[i].Outcome == OutcomeBreach || !s.Passed || s.contradicted(g) || s.Trouble != "" || v.Each[i].Needed != "" {
			return false
		}
	}
	return true
}
