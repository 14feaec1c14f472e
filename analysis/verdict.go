package analysis

// Outcome is the result of judging one guardrail.
type Outcome string

// The outcomes of a guardrail.
const (
	// OutcomePass: within the limit, on evidence; it latches within its step.
	OutcomePass Outcome = "pass"
	// OutcomeBreach: beyond the limit, on evidence.
	OutcomeBreach Outcome = "breach"
	// OutcomeUndecided: not enough evidence yet.
	OutcomeUndecided Outcome = "undecided"
	// OutcomeNoData: the source answered and the candidate was missing.
	OutcomeNoData Outcome = "no-data"
	// OutcomeError: the source did not answer, or only partly.
	OutcomeError Outcome = "error"
	// OutcomeResting: stable has no traffic to compare with, or the guardrail is
	// not judged in this step.
	OutcomeResting Outcome = "resting"
)

// Cause says whose fault a breach looks like.
type Cause string

// The causes of a breach.
const (
	CauseCandidate      Cause = "candidate"
	CauseShared         Cause = "shared"
	CauseSingleInstance Cause = "single-instance"
)

// An Estimate is a figure with its anytime-valid 95% interval, in the
// guardrail's own unit: a share, seconds, or a mean.
type Estimate struct {
	N     float64 `json:"n"`
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// Known is false when there is nothing to estimate from.
	Known bool `json:"known,omitempty"`
}

// A Verdict is the judgement of one guardrail at one moment.
type Verdict struct {
	Guardrail string  `json:"guardrail"`
	Outcome   Outcome `json:"outcome"`
	// Candidate and Stable are measured over the current step.
	Candidate Estimate `json:"candidate"`
	Stable    Estimate `json:"stable"`
	// Unit is "share", "rate", "s", "mean" or "value": how to print the estimates.
	Unit string `json:"unit"`
	// Limit is the policy's text; Effective says what is really judged where the
	// buckets or the method differ from it, else it is empty.
	Limit     string `json:"limit"`
	Effective string `json:"effective,omitempty"`
	// LogE is the natural logarithm of the evidence for a breach, LogEPass of
	// that for a pass; with the thresholds at which they decide.
	LogE          float64 `json:"logE"`
	LogEThreshold float64 `json:"logEThreshold"`
	LogEPass      float64 `json:"logEPass"`
	LogEPassNeeds float64 `json:"logEPassNeeds"`
	// Needed says what is still missing, for people; empty when decided.
	Needed string `json:"needed,omitempty"`
	// Sentence says the verdict and why, for people.
	Sentence string `json:"sentence"`
	Cause    Cause  `json:"cause,omitempty"`
	// Instance names the bad instance of a single-instance breach.
	Instance string `json:"instance,omitempty"`
	// Read: this moment brought a usable reading for the guardrail.
	Read bool `json:"read,omitempty"`
}

// leap is by how much one reading raises the logarithm of the evidence when it is
// suspicious whatever was seen before. Evidence that good hours have pushed down stands
// on the share of segments that are still to start; one capped reading lifts it from there
// by about this much, and readings of a release within its limit hardly ever.
const leap = 1

// Suspicious reports whether the reading after the verdict before has raised the evidence
// for a breach to where another look is worth its cost as soon as there is more to see: by
// a leap, or to a quarter of the way to the threshold.
func (v Verdict) Suspicious(before Verdict) bool {
	open := v.Outcome == OutcomeUndecided || v.Outcome == OutcomePass
	if !open || !v.Read || v.LogEThreshold <= 0 || v.LogE <= before.LogE {
		return false
	}
	return v.LogE-before.LogE >= leap || v.LogE >= v.LogEThreshold/4
}

// A Breach is a group of guardrails with equal onBreach whose evidence crossed
// the threshold, or the budget spent.
type Breach struct {
	// Action is what the policy wants, after the rules for shared and
	// single-instance breaches: rollback, hold or page.
	Action Action `json:"action"`
	// Group is the onBreach of the guardrails that share the average; evidence
	// is restarted by group.
	Group Action `json:"group"`
	// Guardrail is to blame: the largest share of the average. It is empty when
	// the budget is spent.
	Guardrail string `json:"guardrail,omitempty"`
	Cause     Cause  `json:"cause"`
	Budget    bool   `json:"budget,omitempty"`
	Sentence  string `json:"sentence"`
}

// Verdicts are the judgement of a whole rollout at one moment.
type Verdicts struct {
	// Each has one verdict per guardrail, in the panel's order.
	Each []Verdict `json:"each"`
	// Breaches are the groups that broke their limit now; at most one per action
	// group and one for the budget, the gravest action first.
	Breaches []Breach `json:"breaches,omitempty"`
	// Over are the groups of which nothing is broken by the release, and whose limits
	// the endpoint has kept for some minutes: a common incident is over.
	Over []Action `json:"over,omitempty"`
	// Watched: everything required that is judged in the step was read, and something
	// was if nothing is required.
	Watched bool `json:"watched"`
	// MayEnd: every required guardrail of the step passes, the budget is seen, and no
	// optional guardrail is no-data or error.
	MayEnd bool `json:"mayEnd"`
	// Sights say, for each thing that is judged in the step, what this moment brought.
	Sights []Sight `json:"sights,omitempty"`
	// Spent is the number of bad events in excess of stable's rate so far, as many as are
	// beyond chance.
	Spent float64 `json:"spent,omitempty"`
}

// A Sight is what one moment brought for one thing that is judged in the step: a
// guardrail that does not rest, or the budget.
type Sight struct {
	// Name is the guardrail's, or BudgetName.
	Name string `json:"name"`
	// Optional: the step may end without it.
	Optional bool `json:"optional,omitempty"`
	// Read: a usable reading came. Idle: the source answered that the endpoint served
	// nothing, so that there was nothing to read.
	Read bool `json:"read,omitempty"`
	Idle bool `json:"idle,omitempty"`
	// Trouble is why the last reading was of no use: OutcomeNoData or OutcomeError; ""
	// when it was, or when there was none.
	Trouble Outcome `json:"trouble,omitempty"`
}

// BudgetName is the budget's among the things that are judged; no guardrail can be
// called so.
const BudgetName = "the budget"
