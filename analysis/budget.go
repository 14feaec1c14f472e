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
	// Pilot is stable's rate, for the time in which stable has no traffic.
	Pilot sequential.Pilot `json:"pilot,omitzero"`
}

// spend takes a reading of the budget's metric in.
// Mirrored requests cost nobody anything.
func (b *Spending) spend(m *Metric, at Moment, r *Reading) {
	if m.Counts == nil {
		return
	}
	rate, known := 0.0, r.Stable.Fresh && r.Stable.N > 0
	if known {
		rate = bad(m, &r.Stable) / r.Stable.N
	} else if b.Pilot.N > 0 {
		rate = b.Pilot.K / b.Pilot.N
	}
	if at.CandidateWeight > 0 {
		b.Excess += bad(m, &r.Candidate) - rate*r.Candidate.N
	}
	if known {
		b.Pilot.Learn(bad(m, &r.Stable), r.Stable.N)
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
