package analysis

import (
	"math"

	"github.com/belayd/belay/analysis/sequential"
)

// Spending is what a rollout has cost: bad events beyond those that stable
// would have had.
type Spending struct {
	// Excess is the signed sum; chance makes it waver around 0 while the candidate is
	// as good as stable. Variance is what chance adds up to in it.
	Excess   float64 `json:"excess"`
	Variance float64 `json:"variance,omitempty"`
	// Dispersion is how much the metric's bad events cluster.
	Dispersion sequential.Dispersion `json:"dispersion,omitzero"`
	// Pending are the events of both that wait until stable has seen enough to be
	// compared with; B is stable's arm.
	Pending sequential.Tally `json:"pending,omitzero"`
	// Trouble is no-data or error when the last reading could not be used.
	Trouble Outcome `json:"trouble,omitempty"`
}

// spend takes a reading of the budget's metric in. What the candidate does is
// compared with what stable did meanwhile, in portions that are large enough; while
// stable has no traffic there is nothing to compare with, and nothing is counted.
// Mirrored requests cost nobody anything.
func (b *Spending) spend(m *Metric, at StepContext, r *Reading) {
	if m.Counts == nil || at.StableWeight <= 0 || at.CandidateWeight <= 0 || !r.Stable.Fresh {
		b.Pending = sequential.Tally{}
		return
	}
	events := func(x *Sample) float64 { return bad(m, x) }
	b.Pending = b.Pending.Add(sequential.Tally{NC: r.Candidate.N, KC: events(&r.Candidate), NB: r.Stable.N,
		KB: events(&r.Stable)})
	if t := b.Pending; t.Enough() {
		b.Excess += t.KC - t.KB/t.NB*t.NC
		// Both arms together tell how much chance there is in the difference.
		rate := (t.KC + t.KB) / (t.NC + t.NB)
		b.Variance += b.Dispersion.Of(t.NC) * t.NC * rate * (1 - rate) * (1 + t.NC/t.NB)
		b.Pending = sequential.Tally{}
	}
	disperse(&b.Dispersion, &r.Stable, events)
}

// proven is how many bad events in excess are beyond chance, however often it is looked
// at: with chance 1−α the true excess is never below it. The bound is narrowest where
// chance alone would come to as much as the budget allows.
func (b *Spending) proven(atMost, alpha float64) float64 {
	if b == nil {
		return 0
	}
	return math.Max(0, b.Excess-sequential.SumHalfWidth(b.Variance, atMost, alpha))
}

// bad is how many of the sample's events were bad.
func bad(m *Metric, x *Sample) float64 {
	k := math.Min(x.K, x.N)
	if m.Counts.Good != "" {
		return x.N - k
	}
	return k
}

// spent is what the rollout has provably cost so far.
func (e *Evidence) spent(p *Panel) float64 {
	if p.Budget == nil {
		return 0
	}
	return e.Spending.proven(p.Budget.AtMost, p.share())
}

// breachBudget says that the budget is spent, if it is.
func (e *Evidence) breachBudget(p *Panel, v *Verdicts) {
	if v.Spent = e.spent(p); p.Budget == nil || v.Spent <= p.Budget.AtMost {
		return
	}
	v.Breaches = append(v.Breaches, Breach{
		Action: ActionRollback, Group: ActionRollback, Cause: CauseCandidate, Budget: true,
		Sentence: budgetSentence(p.Budget, v.Spent),
	})
}
