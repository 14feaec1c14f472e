package analysis

import (
	"math"
	"slices"
)

// An AATest is how often guardrails would have been broken by a release that
// was none: instances of stable that took the candidate's part.
type AATest struct {
	// Trials is how many instances took the part, and Broken names those for
	// which the evidence reached the level of a rollback.
	Trials int
	Broken []string
	// Phi is by how much events cluster, at most: 1 is not at all. 0: too little was seen.
	Phi float64
}

// Rate is the share of trials in which a guardrail was broken; it should not be
// above the panel's α. It is 0 when nothing was tried.
func (p AATest) Rate() float64 {
	return float64(len(p.Broken)) / math.Max(1, float64(p.Trials))
}

// AATest replays readings of stable alone, in which its instances are told
// apart: each instance in turn plays the candidate against all others. It shows
// whether the traffic is fit for the tests (failures cluster, instances differ)
// before anything depends on them. Readings must be in order of time. It is
// pure, and changes nothing.
func (p Panel) AATest(rs []Reading) AATest {
	var names []string
	for i := range rs {
		for j := range rs[i].Stable.Instances {
			names = append(names, rs[i].Stable.Instances[j].Name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	out := AATest{Trials: len(names)}
	if len(names) < 2 {
		return AATest{}
	}
	for _, name := range names {
		if p.broken(rs, name) {
			out.Broken = append(out.Broken, name)
		}
	}
	out.Phi = p.clusters(rs)
	return out
}

// clusters is the greatest dispersion of stable's events, of all guardrails.
func (p *Panel) clusters(rs []Reading) float64 {
	e := Evidence{}.clone(len(p.Guardrails))
	greatest := 0.0
	for j := range p.Guardrails {
		g, s := &p.Guardrails[j], &e.Standings[j]
		m := p.metric(g.Metric)
		for i := range rs {
			if m != nil && rs[i].Metric == m.Name && rs[i].Status == StatusOK {
				s.learn(g, m, &rs[i].Stable)
			}
		}
		if s.Dispersion.Freedom >= 5 {
			greatest = math.Max(greatest, s.Dispersion.Phi())
		}
	}
	return greatest
}

// broken reports whether the instance, in the candidate's part, would have been
// rolled back.
func (p *Panel) broken(rs []Reading, name string) bool {
	e := Evidence{}.clone(len(p.Guardrails))
	at := StepContext{Step: p.firstStep(), StableWeight: 50, CandidateWeight: 50, Serving: true}
	if len(rs) > 0 {
		at.StepStart = rs[0].From
	}
	e.begin(p, at)
	b := brought{read: make([]bool, len(p.Guardrails)), idle: make([]bool, len(p.Guardrails))}
	for i := range rs {
		r := rs[i]
		at.At = r.To
		if r.Status != StatusOK || !r.swap(name) {
			continue
		}
		e.ingest(p, at, &r, &b)
		sum := 0.0
		for j := range p.Guardrails {
			if p.sequential(&p.Guardrails[j]) {
				sum += math.Exp(math.Min(700, e.Standings[j].Breach.LogE()))
			}
		}
		if sum >= 1/p.share() {
			return true
		}
	}
	return false
}

// firstStep is the first step in which a guardrail is judged.
func (p *Panel) firstStep() int {
	first := math.MaxInt
	for i := range p.Guardrails {
		if s := p.Guardrails[i].Steps; len(s) > 0 {
			first = min(first, slices.Min(s))
		}
	}
	return first
}

// swap gives the instance's part of stable to the candidate; ok is false where
// the reading does not tell it apart.
func (r *Reading) swap(name string) (ok bool) {
	all := r.Stable.Instances
	at := slices.IndexFunc(all, func(i Instance) bool { return i.Name == name })
	if at < 0 || len(all) < 2 {
		return false
	}
	r.Candidate = all[at].Sample
	r.Candidate.Fresh = true
	rest := Sample{Fresh: true}
	for i := range all {
		if i != at {
			rest.join(&all[i].Sample)
			rest.Instances = append(rest.Instances, all[i])
		}
	}
	r.Stable = rest
	return true
}

// join adds another sample's events; both have the same bounds, as instances of
// one sample do.
func (x *Sample) join(y *Sample) {
	x.N += y.N
	x.K += y.K
	x.Sum += y.Sum
	x.SumSq += y.SumSq
	x.Batches += y.Batches
	if x.Buckets == nil {
		x.Buckets = slices.Clone(y.Buckets)
		return
	}
	for i := range min(len(x.Buckets), len(y.Buckets)) {
		x.Buckets[i].Count += y.Buckets[i].Count
	}
}
