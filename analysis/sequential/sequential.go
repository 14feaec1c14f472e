// Package sequential holds the statistics of the guardrails: tests that may be
// looked at as often as one likes.
//
// The tool is the e-process: a number that starts at 1 and that, while the
// tested limit is kept, has an expectation of at most 1 at every moment, also
// at a moment chosen by looking at the data. By Ville's inequality the chance
// that it ever reaches 1/α is at most α, however often it is looked at.
//
// The rules of the package:
//   - All evidence is kept as logarithms and is additive over intervals.
//   - What decides how an interval is judged (the pilot, the dispersion, the
//     weights, the merging) is computed from the data before that interval and
//     from its exposures, never from its outcomes.
//   - Evidence is never reset, floored or maximised over windows; a later start
//     is a segment with a weight of its own, and the weights sum to 1.
//
// It knows nothing of guardrails, rollouts or time: package analysis does.
package sequential

import "math"

// Tally counts what happened in one interval: how many events each arm had and
// how many of them were of the counted kind.
type Tally struct {
	// NC and KC are the candidate's events and those that count; NB and KB the
	// baseline's.
	NC float64 `json:"nc,omitempty"`
	KC float64 `json:"kc,omitempty"`
	NB float64 `json:"nb,omitempty"`
	KB float64 `json:"kb,omitempty"`
}

// Add is the tally of both intervals together.
func (t Tally) Add(u Tally) Tally {
	return Tally{NC: t.NC + u.NC, KC: t.KC + u.KC, NB: t.NB + u.NB, KB: t.KB + u.KB}
}

// Enough reports whether both arms have seen so much that a comparison between
// them loses nothing; smaller intervals are merged. It looks at exposures only.
func (t Tally) Enough() bool { return t.NB >= 20 && t.NC >= 5 }

// LogSum is log(e^a + e^b); either may be -Inf.
func LogSum(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}
