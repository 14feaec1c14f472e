package analysis

import (
	"math"

	"github.com/belayd/belay/analysis/sequential"
)

// Spending is what a rollout has cost: bad events beyond those that stable
// would have had.
type Spending struct {
	// Excess is the signed sum; chance makes it waver around 0 while the
	// candidate is as good as stable.
	Excess float64 `json:"excess"`
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
func (b *Spending) spend(m *Metric, at Moment, r *Reading) {
	if m.Counts == nil || at.StableWeight <= 0 || at.CandidateWeight <= 0 {
		b.Pending = sequential.Tally{}
		return
	}
	t := sequential.Tally{NC: r.Candidate.N, KC: bad(m, &r.Candidate)}
	if r.Stable.Fresh {
		t.NB, t.KB = r.Stable.N, bad(m, &r.Stable)
	}
	b.Pending = b.Pending.Add(t)
	if b.Pending.Enough() {
		b.Excess += b.Pending.KC - b.Pending.KB/b.Pending.NB*b.Pending.NC
		b.Pending = sequential.Tally{}
	}
}

// bad is how many of the sample's events were bad.
func bad(m *Metric, x *Sample) float64 {
	k := math.Min(x.K, x.N)
	if m.Counts.Good != "" {
		return x.N - k
	}
	return k
}

// spent is what the rollout has cost so far, at least 0.
func (e *Evidence) spent() float64 {
	if e.Spending == nil {
		return 0
	}
	return math.Max(0, e.Spending.Excess)
}
