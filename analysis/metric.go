package analysis

import (
	"cmp"
	"time"
)

// A Metric says what to ask a source. Exactly one of Counts, Histogram, Mean
// and Value is set. The expressions are in the language of the source and may
// contain ${endpoint}, ${deployment}, ${stable}, ${candidate} and ${window};
// the adapter substitutes them, escaped for that language (see Names).
type Metric struct {
	Name      string     `json:"name"`
	Source    string     `json:"source"`
	Counts    *Counts    `json:"counts,omitempty"`
	Histogram *Histogram `json:"histogram,omitempty"`
	Mean      *Mean      `json:"mean,omitempty"`
	Value     *Value     `json:"value,omitempty"`
	// Roles says what ${role} stands for where that is not stable and candidate,
	// by these two; Deployments under which names the source knows
	// deployments that it does not call as the router does.
	Roles       map[string]string `json:"roles,omitempty"`
	Deployments map[string]string `json:"deployments,omitempty"`
}

// NamesDeployment says whether an expression holds something that only one of the
// two deployments is called.
func NamesDeployment(uses func(variable string) bool) bool {
	return uses("deployment") || uses("role") || uses("version")
}

// Counts are exact counters: Bad of Total, or Good of Total. Exactly one of
// Bad and Good is set, and exactly one of Total and Per.
type Counts struct {
	Total string `json:"total,omitempty"`
	// Per makes a rate of Bad: how often it happens in that much of the time of one
	// instance, or of the deployment where Instance is empty. The counter has to stand
	// there while nothing happens: one that comes with its first event says neither that
	// there was none, nor whether that event is new.
	Per  time.Duration `json:"per,omitempty"`
	Bad  string        `json:"bad,omitempty"`
	Good string        `json:"good,omitempty"`
	// Deployment is the label that names the deployment, Instance the label
	// that tells instances apart; Instance may be empty.
	Deployment string `json:"deployment"`
	Instance   string `json:"instance,omitempty"`
}

// Trials is how many trials a rate's Per is: each is a moment in which the event happens
// or does not, so that a rate is judged as a share of moments. The N of a rate's
// samples are trials, and its limits are shares of them.
const Trials = 1e6

// Rate says whether the metric counts events against time.
func (m *Metric) Rate() bool { return m.Counts != nil && m.Counts.Per > 0 }

// Marked is the expression of the events that are meant.
func (c *Counts) Marked() string { return cmp.Or(c.Bad, c.Good) }

// TrialsIn is how many trials of a rate the time of one instance holds.
func (c *Counts) TrialsIn(d time.Duration) float64 { return d.Seconds() / c.Per.Seconds() * Trials }

// Histogram is a classic or native histogram of latencies. Series is the name
// (with matchers) without the _bucket suffix.
type Histogram struct {
	Series string `json:"series"`
	// Unit is the unit of the bucket bounds: "s" or "ms". Adapters convert:
	// a Sample's bounds are always seconds.
	Unit       string `json:"unit"`
	Deployment string `json:"deployment"`
	Instance   string `json:"instance,omitempty"`
}

// Mean is a mean by its sums: how many, their sum and, where it is known, the sum of
// their squares. Without it SumOfSquares is empty, and how much the values spread is
// estimated from how the means of instances and scrapes differ.
type Mean struct {
	Count        string `json:"count"`
	Sum          string `json:"sum"`
	SumOfSquares string `json:"sumOfSquares,omitempty"`
	Deployment   string `json:"deployment"`
	Instance     string `json:"instance,omitempty"`
}

// Value is a plain number for one deployment: ${deployment} stands in Query.
// Only thresholds can be judged on it.
type Value struct {
	Query string `json:"query"`
}

// Kind is the shape of a metric's readings.
type Kind string

// The kinds of metrics.
const (
	KindCounts    Kind = "counts"
	KindHistogram Kind = "histogram"
	KindMean      Kind = "mean"
	KindValue     Kind = "value"
)

// Kind is the shape of the metric; it is empty when nothing is set.
func (m Metric) Kind() Kind {
	switch {
	case m.Counts != nil:
		return KindCounts
	case m.Histogram != nil:
		return KindHistogram
	case m.Mean != nil:
		return KindMean
	case m.Value != nil:
		return KindValue
	}
	return ""
}
