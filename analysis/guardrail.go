package analysis

import (
	"fmt"
	"math"
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
	// ActionNote is a dry run: the breach is counted, shown and journalled, and nothing
	// rests on the guardrail.
	ActionNote Action = "note"
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

// A StepContext is when and under what circumstances readings are judged.
type StepContext struct {
	At time.Time `json:"at"`
	// Step is the index of the current step and StepStart when its weight was
	// read back from the endpoint.
	Step      int       `json:"step"`
	StepStart time.Time `json:"stepStart"`
	// Until is when the step ends at the latest if nothing delays it, extended as far as
	// the policy lets it; zero where it has no end.
	Until time.Time `json:"until,omitzero"`
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

// NeverPasses says why no release that is as good as the sample could pass the guardrail,
// and what would help, where that is so although the sample keeps the limit: by the layout
// of its buckets, or by the level of its mean. Both are "" where it could pass, and where
// the sample tells too little. Of stable it is worth refusing a release for: every one
// would end undecided.
func (g *Guardrail) NeverPasses(m *Metric, x *Sample) (why, cure string) {
	switch how := g.method(m); {
	case !x.Fresh || how == methodThreshold:
	case how == methodMean && g.Limit.Relative && x.N >= meanEvents && x.Sum <= 0:
		return fmt.Sprintf("stable's mean is %s, and a share of that is no limit", number(x.Sum/x.N)),
			"Write an absolute limit."
	case how == methodQuantile && len(x.Buckets) > 0 && g.Limit.Relative:
		return g.coarse(x)
	case how == methodQuantile && len(x.Buckets) > 0:
		return g.between(x)
	}
	return "", ""
}

// coarse is NeverPasses of a quantile relative to stable's.
func (g *Guardrail) coarse(x *Sample) (why, cure string) {
	t := &TailTest{}
	t.learn(g, x)
	switch t.Aim = t.aim(g); {
	case t.Aim == nil && !t.known(g), t.Aim != nil && t.Aim.Healthy < t.Aim.PassLimit:
		return "", ""
	case t.Aim != nil, x.slower(x.last()) <= (1-g.Quantile)*x.N:
		return fmt.Sprintf("stable's buckets are too coarse around its %s", quantileName(g.Quantile)),
			"Add bucket bounds there, or write an absolute limit on one."
	}
	return fmt.Sprintf("the histogram's last bucket ends at %s, below stable's %s", latency(x.last()),
		quantileName(g.Quantile)), "Add higher buckets, or take a lower quantile."
}

// between is NeverPasses of an absolute quantile, which a pass judges at the bucket bound
// inside the limit.
func (g *Guardrail) between(x *Sample) (why, cure string) {
	b, ok := g.Effective(x)
	if !ok {
		return fmt.Sprintf("the histogram's last bucket ends at %s, below the limit", latency(x.last())),
			fmt.Sprintf("Put the limit at %s or lower, or add buckets beyond it.", latency(x.last()))
	}
	test := g.quantileTest()
	most := test.PassLimit * x.N
	if b.Pass == b.Breach || g.beyond(x, b.Pass) < most+2*math.Sqrt(most) || g.beyond(x, b.Breach) > test.Limit*x.N {
		return "", ""
	}
	side := "slower"
	if g.Limit.AtLeast {
		side = "faster"
	}
	return fmt.Sprintf("%s of stable's are %s than %s, the bucket bound at which a pass is judged",
			figure("share", g.beyond(x, b.Pass)/x.N), side, latency(b.Pass)),
		fmt.Sprintf("Put the limit on a bucket bound, like %s, or add one.", latency(b.Breach))
}
