package analysis

import (
	"fmt"
	"time"
)

// A Guardrail is a metric with a limit.
type Guardrail struct {
	Name string `json:"name"`
	// Metric names one of the panel's metrics.
	Metric string `json:"metric"`
	// Quantile is set for histogram metrics: 0.95 for p95.
	Quantile float64 `json:"quantile,omitempty"`
	Limit    Limit   `json:"limit"`
	// Detect is the smallest regression that must be caught, in the units of
	// Limit.Value, always filled in by the policy compiler. For an absolute
	// quantile limit it is a latency in seconds when DetectLatency is true, and
	// otherwise the share of requests slower than the limit (0.10 for a p95).
	// For a relative quantile limit it is the ratio of the tail shares (2).
	Detect        float64 `json:"detect"`
	DetectLatency bool    `json:"detectLatency,omitempty"`
	// PassFloor is, of a relative limit on counts, the share whose absence lets a step
	// pass as well as that of Detect does; 0: there is none.
	PassFloor float64  `json:"passFloor,omitempty"`
	OnBreach  Action   `json:"onBreach"`
	Evidence  Required `json:"evidence"`
	Test      Test     `json:"test"`
	// BreachAfter, for thresholds: K of the last N readings beyond the limit.
	BreachAfter KofN `json:"breachAfter,omitzero"`
	// Steps are the indices of the steps in which the guardrail is judged.
	Steps []int `json:"steps"`
}

// A Limit is what a guardrail's metric must keep: at most or at least Value,
// where a relative limit's Value multiplies stable's own figure.
type Limit struct {
	AtLeast  bool    `json:"atLeast,omitempty"`
	Relative bool    `json:"relative,omitempty"`
	Value    float64 `json:"value"`
	// Floor is, of a relative limit on counts from above, the share below which it need
	// not be kept: "<= 1.2x stable or 1%". 0: there is none.
	Floor float64 `json:"floor,omitempty"`
	// Text is the limit as the policy wrote it: "<= 1.2x stable".
	Text string `json:"text"`
}

// KofN is a rule of k out of the last n.
type KofN struct {
	K int `json:"k,omitempty"`
	N int `json:"n,omitempty"`
}

// Action is what a breach leads to.
type Action string

// The actions of onBreach.
const (
	ActionRollback Action = "rollback"
	ActionHold     Action = "hold"
	ActionPage     Action = "page"
)

// Required says what a step needs of a guardrail before it may end.
type Required string

// The kinds of evidence a step may need.
const (
	// EvidenceRequired: the step ends only on pass.
	EvidenceRequired Required = "required"
	// EvidenceOptional: pass or undecided is enough, no-data and error never.
	EvidenceOptional Required = "optional"
)

// Test says how a guardrail is judged.
type Test string

// The tests.
const (
	// TestSequential judges counts, quantiles and means by anytime-valid
	// evidence; the default.
	TestSequential Test = "sequential"
	// TestThreshold compares each reading with the limit, with BreachAfter.
	TestThreshold Test = "threshold"
)

// A Panel is everything the judge needs to know of a plan; it is fixed for the
// life of a rollout.
type Panel struct {
	Metrics    []Metric    `json:"metrics"`
	Guardrails []Guardrail `json:"guardrails"`
	// Alpha bounds the chance that a release within all limits is ever rolled
	// back (the policy's falseRollback); Beta the chance per step that a release
	// at or beyond detect is promoted.
	Alpha float64 `json:"alpha"`
	Beta  float64 `json:"beta"`
	// Steps is the number of steps of the ladder.
	Steps int `json:"steps"`
	// Interval is the time between readings.
	Interval time.Duration `json:"interval"`
	// OnSharedBreach says what a breach does that stable shows as well; rollback
	// or hold.
	OnSharedBreach Action `json:"onSharedBreach"`
	// Budget bounds the failures that a rollout may cost; nil when unset.
	Budget *Budget `json:"budget,omitempty"`
}

// A Budget bounds the bad events in excess of stable's rate, over the whole
// rollout.
type Budget struct {
	Metric string  `json:"metric"`
	AtMost float64 `json:"atMost"`
}

// A Moment is when and under what circumstances readings are judged.
type Moment struct {
	At time.Time `json:"at"`
	// Step is the index of the current step and StepStart when its weight was
	// read back from the endpoint.
	Step      int       `json:"step"`
	StepStart time.Time `json:"stepStart"`
	// Settling: counts may breach but never pass; quantiles and means rest.
	Settling bool `json:"settling,omitempty"`
	// StableWeight and CandidateWeight are the confirmed split in percent;
	// Mirror is the candidate's share of mirrored traffic.
	StableWeight    int `json:"stableWeight"`
	CandidateWeight int `json:"candidateWeight"`
	Mirror          int `json:"mirror,omitempty"`
	// Serving: the endpoint served requests in this interval, as far as is known.
	// A deployment with weight that reports nothing while the endpoint serves is
	// no-data. It is true unless something said that the endpoint is idle.
	Serving bool `json:"serving"`
}

// Broken says how a deployment like the sample would break the guardrail's limit by its
// figure alone: "0.31%, beyond <= 0.1%". It is "" where it would not, where the limit is
// relative, and where the sample tells nothing. Of stable it is worth saying before a
// rollout: a release that is as good breaks the limit too.
func (g *Guardrail) Broken(m *Metric, x *Sample) string {
	if g.Limit.Relative || !x.Fresh || m.Rate() || m.Kind() == KindHistogram && len(x.Buckets) == 0 {
		return ""
	}
	f, known := g.figure(m, x)
	if !known || !g.violates(f, g.Limit.Value) {
		return ""
	}
	unit := map[Kind]string{KindCounts: "share", KindHistogram: "s", KindMean: "mean", KindValue: "value"}[m.Kind()]
	return fmt.Sprintf("%s, beyond %s", figure(unit, f), g.Limit.Text)
}
