package analysis

import (
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis/sequential"
)

// Judge decides for the whole rollout: it takes the readings into the evidence
// and says how every guardrail of the panel stands at the moment. Readings are
// matched to guardrails by their metric; a metric without a reading leaves its
// guardrails as they were, not read. It is a pure function: the evidence it is
// given is not changed, and equal arguments give equal results.
func Judge(p Panel, e Evidence, at StepContext, rs []Reading) (Evidence, Verdicts) {
	e = e.clone(len(p.Guardrails))
	if !e.Begun || e.Step != at.Step {
		e.begin(&p, at)
	}
	b := brought{read: make([]bool, len(p.Guardrails)), idle: make([]bool, len(p.Guardrails))}
	for i := range rs {
		e.ingest(&p, at, &rs[i], &b)
	}
	return e, e.verdicts(&p, at, &b)
}

// brought is what the readings of one moment brought: which guardrails got a usable
// one, for which the source said that nothing was served, and the same of the budget.
type brought struct {
	read, idle             []bool
	budgetRead, budgetIdle bool
}

// ingest takes one reading in; e must be a clone.
func (e *Evidence) ingest(p *Panel, at StepContext, r *Reading, b *brought) {
	m := p.metric(r.Metric)
	if m == nil {
		return
	}
	trouble, why, usable := e.validate(m, at, r)
	idle := trouble == "" && !usable && r.Status == StatusOK && r.To.After(e.Cursors[r.Metric]) && !r.Candidate.Fresh
	for i := range p.Guardrails {
		g, s := &p.Guardrails[i], &e.Standings[i]
		if g.Metric != r.Metric || !slices.Contains(g.Steps, at.Step) || g.rests(at) {
			continue
		}
		if trouble != "" {
			s.Trouble, s.Reason = trouble, why
			continue
		}
		if b.idle[i] = idle; usable || idle { // where nothing is served nothing is missing
			s.Trouble, s.Reason = "", ""
		}
		if !usable {
			continue
		}
		if g.Limit.Relative && !r.Stable.Fresh {
			s.Trouble, s.Reason = OutcomeError, orElse(r.Reason, "stable reported nothing to compare with")
			continue
		}
		s.update(p, g, m, at, r)
		b.read[i] = s.Trouble == ""
	}
	if p.Budget != nil && p.Budget.Metric == r.Metric {
		if e.Spending == nil {
			e.Spending = &Spending{}
		}
		b.budgetRead, b.budgetIdle = usable, idle
		if e.Spending.Trouble = trouble; usable {
			e.Spending.spend(m, at, r)
		}
	}
	if !usable {
		return
	}
	e.Cursors[r.Metric] = r.To
}

// validate decides what a reading is worth: trouble and why, or whether it can
// be consumed. A reading that brings nothing new is neither.
func (e *Evidence) validate(m *Metric, at StepContext, r *Reading) (trouble Outcome, why string, usable bool) {
	if r.Status != StatusOK {
		return OutcomeError, orElse(r.Reason, "the source did not answer"), false
	}
	cursor := e.Cursors[r.Metric]
	if !r.To.After(cursor) || !r.To.After(r.From) {
		return "", "", false
	}
	if r.From.Before(cursor) {
		return OutcomeError, "the source answered for a time that was already counted", false
	}
	if !r.Candidate.Fresh {
		if at.Serving && (at.CandidateWeight > 0 || at.Mirror > 0) {
			return OutcomeNoData, orElse(r.Reason, "the candidate reported nothing"), false
		}
		return "", "", false
	}
	kind := m.Kind()
	if bad := r.Candidate.check(kind); bad != "" {
		return OutcomeError, "the candidate's numbers make no sense: " + bad, false
	}
	if r.Stable.Fresh {
		if bad := r.Stable.check(kind); bad != "" {
			return OutcomeError, "stable's numbers make no sense: " + bad, false
		}
	}
	return "", "", true
}

// update takes a usable reading into the guardrail's state.
func (s *GuardrailState) update(p *Panel, g *Guardrail, m *Metric, at StepContext, r *Reading) {
	how := g.method(m)
	if counted := how == methodCounts || how == methodThreshold && m.Kind() == KindCounts; at.Settling && !counted {
		s.learn(g, m, &r.Stable) // stable has nothing to settle
		return
	}
	if r.From.Before(at.StepStart) && !slices.Contains(g.Steps, at.Step-1) {
		s.learn(g, m, &r.Stable) // the candidate's part is from steps that are not judged
		return
	}
	s.restart(g, at, r.From, p.Interval)
	v := observation{
		panel: p, guardrail: g, metric: m, reading: r,
		late: !r.To.After(at.StepStart), weight: float64(at.CandidateWeight), step: at.Step,
	}
	v.ends, v.left = !at.Until.Before(r.To), at.Until.Sub(r.To)
	if v.passes = !at.Settling && !r.From.Before(at.StepStart); v.passes && how != methodThreshold {
		s.PassN += r.Candidate.N
		s.PassSeconds += r.To.Sub(r.From).Seconds()
	}
	switch how {
	case methodCounts:
		s.updateCounts(&v)
	case methodQuantile:
		s.updateQuantile(&v)
	case methodMean:
		s.mean(&v)
	case methodThreshold:
		s.threshold(&v)
	}
}

// An observation is one reading on its way into one guardrail's state.
type observation struct {
	panel     *Panel
	guardrail *Guardrail
	metric    *Metric
	reading   *Reading
	// passes: the interval may count towards a pass. late: it was over before the
	// step began, and only came in now.
	passes, late bool
	// weight is the candidate's, in percent.
	weight float64
	step   int
	// ends: the step has an end that is still to come; left is the time until then.
	ends bool
	left time.Duration
}

// count adds an interval to the step's tally.
func (s *GuardrailState) count(v *observation, t sequential.Tally) {
	if !v.late {
		s.Step = s.Step.Add(t)
	}
}

// Pending is what small intervals add up to until both arms have seen enough to be
// compared. It is decided on exposures only, and judged by what was known before its
// first interval.
type Pending struct {
	// Breach counts against the limit; Pass the intervals that may count towards
	// a pass.
	Breach sequential.Tally `json:"breach"`
	Pass   sequential.Tally `json:"pass,omitzero"`
	// Phi is the dispersion before the first interval.
	Phi float64 `json:"phi"`
}

// tallied is one interval of counted events on its way into the evidence.
type tallied struct {
	test sequential.Hypotheses
	// breach counts against the limit and pass for the pass: they differ where buckets
	// are coarse.
	breach, pass sequential.Tally
	// events counts one instance's.
	events func(*Sample) float64
}

// updateBinomial takes an interval of counted events in.
func (s *GuardrailState) updateBinomial(v *observation, c tallied) {
	if !v.passes {
		c.pass = sequential.Tally{}
	}
	s.Alone = !v.reading.Stable.Fresh
	s.countApart(v, c.breach, c.events)
	phi := s.phi(&v.reading.Candidate)
	if c.test.Relative {
		s.floors(v, c, phi)
	} else {
		s.absolute(v.panel, c, phi)
	}
	if c.test.Relative || v.reading.Stable.Fresh {
		if s.Pending == nil {
			s.Pending = &Pending{Phi: phi}
		}
		s.Pending.Breach = s.Pending.Breach.Add(c.breach)
		s.Pending.Pass = s.Pending.Pass.Add(c.pass)
		s.Pending.Phi = math.Max(s.Pending.Phi, phi)
		if s.Pending.Breach.Enough() {
			s.commit(v.panel, v.guardrail, v.metric, v.weight)
		}
	}
	if v.passes {
		s.pass(v)
	}
}

// phi is what the candidate's increments are divided by: its instances may have more
// requests each than those of stable, of which the dispersion is known.
func (s *GuardrailState) phi(candidate *Sample) float64 {
	size := candidate.N
	if len(candidate.Instances) > 1 {
		sum, squares := 0.0, 0.0
		for i := range candidate.Instances {
			n := candidate.Instances[i].N
			sum, squares = sum+n, squares+n*n
		}
		if sum > 0 {
			size = squares / sum
		}
	}
	return s.Dispersion.Of(size)
}

// absolute takes an interval in that is judged by itself, without waiting for stable.
func (s *GuardrailState) absolute(p *Panel, c tallied, phi float64) {
	limit := sequential.Cap(p.share(), s.Breach.Newest)
	inc := func(t sequential.Tally) sequential.Increments { return c.test.Breach(t, s.Pilot) }
	d := inc(c.breach)
	s.Breach.Add(d, phi, limit)
	s.Apart.add(s.Breach, d, func(w *Without) sequential.Increments { return inc(w.countLess(c.breach)) }, phi, limit,
		c.breach.KC)
	s.Pass.Add(c.test.Pass(c.pass, s.Pilot), phi)
	if c.breach.NB > 0 {
		s.Shared.Add(inc(sequential.Tally{NC: c.breach.NB, KC: c.breach.KB}), s.Dispersion.Phi(), limit)
	}
}

// commit takes what waited to be merged into the evidence, at the candidate's weight.
func (s *GuardrailState) commit(p *Panel, g *Guardrail, m *Metric, weight float64) {
	w := s.Pending
	if w == nil || m == nil {
		return
	}
	s.Pending = nil
	test, pilot := s.test(g, m)
	limit := sequential.Cap(p.share(), s.Breach.Newest)
	if test.Relative {
		inc := func(t sequential.Tally) sequential.Increments { return test.Breach(t, pilot) }
		d := inc(w.Breach)
		s.Breach.Add(d, w.Phi, limit)
		s.Apart.add(s.Breach, d, func(x *Without) sequential.Increments { return inc(x.countLess(w.Breach)) }, w.Phi, limit,
			w.Breach.KC)
		passing, _ := s.test(g.passing(weight), m)
		s.Pass.Add(passing.Pass(w.Pass, pilot), w.Phi)
		s.Due += passing.Due(w.Pass, pilot) / w.Phi
	} else {
		s.Worse.Add(worse.Breach(w.Breach, pilot), w.Phi, limit)
	}
	s.Pilot.Learn(w.Breach.KB, w.Breach.NB)
}

// worse is the test of a candidate that does no worse than stable at the same time.
var worse = sequential.Relative(1, 2, 1)

// test is the test of a guardrail on counted events, with the pilot that it is
// made with.
func (s *GuardrailState) test(g *Guardrail, m *Metric) (sequential.Hypotheses, sequential.Pilot) {
	if g.method(m) == methodQuantile {
		if g.Limit.Relative {
			return s.Tail.test(g)
		}
		return g.quantileTest(), s.Pilot
	}
	return g.countsTest(), s.Pilot
}

// orElse is s, or else t.
func orElse(s, t string) string {
	if s == "" {
		return t
	}
	return s
}
