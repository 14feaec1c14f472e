package analysis

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// Names are the only things that may be substituted in a metric's expressions.
type Names struct {
	Endpoint  string `json:"endpoint"`
	Stable    string `json:"stable"`
	Candidate string `json:"candidate"`
	// StableVersion and CandidateVersion are the versions that run, as far as
	// somebody tells them.
	StableVersion    string `json:"stableVersion,omitempty"`
	CandidateVersion string `json:"candidateVersion,omitempty"`
}

// A Query asks for the increments of one metric, of both deployments, in the
// interval (From, To].
type Query struct {
	Metric Metric    `json:"metric"`
	Names  Names     `json:"names"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	// Cuts are the latencies, in seconds, that the judge will test. An adapter
	// must return at least the bucket bounds next to each cut on both sides and
	// may leave out the others. No cuts: every bucket is wanted.
	Cuts []float64 `json:"cuts,omitempty"`
}

// Named is the query with the deployments under the names that the source knows
// them by, which adapters ask with.
func (q Query) Named() Query {
	q.Names.Stable = cmp.Or(q.Metric.Deployments[q.Names.Stable], q.Names.Stable)
	q.Names.Candidate = cmp.Or(q.Metric.Deployments[q.Names.Candidate], q.Names.Candidate)
	return q
}

// Vars are the substitutions for one of the query's two deployments; window is
// added by whoever asks. A version that nobody tells is not among them.
func (q Query) Vars(deployment string) map[string]string {
	n := q.Names
	vars := map[string]string{"endpoint": n.Endpoint, "stable": n.Stable, "candidate": n.Candidate,
		"deployment": deployment}
	role, version := "stable", n.StableVersion
	if deployment != n.Stable {
		role, version = "candidate", n.CandidateVersion
	}
	vars["role"] = cmp.Or(q.Metric.Roles[role], role)
	if version != "" {
		vars["version"] = version
	}
	return vars
}

// A Source answers questions about metrics. Implementations are safe for
// concurrent use and keep no cursor.
type Source interface {
	// Read asks many questions at once so that an adapter can merge them.
	// len(readings) == len(qs), and readings[i] answers qs[i]; the failure of one
	// question stands in its Reading. An error is returned only when nothing
	// could be asked at all (the context ended, the adapter is closed).
	//
	// Increments of (From, To] are deltas of the samples whose own timestamp
	// lies in it, counted from the last sample at or before From, so that
	// consecutive intervals tile exactly. A source that lags answers up to the
	// instant it is sure of and says so in Reading.To; one that cannot look back
	// answers the part it saw and says so in Reading.From.
	Read(ctx context.Context, qs []Query) ([]Reading, error)
}

// Status says whether a source answered.
type Status string

// The three ways a question ends.
const (
	// StatusOK: the source answered. A deployment may still be missing in the
	// answer: see Sample.Fresh.
	StatusOK Status = "ok"
	// StatusError: the source did not answer, or only partly (a time-out, a
	// warning of partial data, too many series, nonsense numbers).
	StatusError Status = "error"
)

// A Reading is what a source answered to one Query.
type Reading struct {
	Metric string `json:"metric"`
	// From and To bound what was answered: (From, To], within the query's
	// interval. To not after From means that nothing new is known yet; such a
	// reading adds no evidence and is no sign of missing data by itself.
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Status Status    `json:"status"`
	// Next is when the source expects to know more than this; the zero time where it
	// cannot tell. A look that raises suspicion is followed by one at that instant.
	Next time.Time `json:"next,omitzero"`
	// Reason is one sentence for people when Status is not ok or a deployment is
	// not fresh. It never holds a secret.
	Reason string `json:"reason,omitempty"`
	// Permanent: an error that no retry mends, because what is asked is wrong or not
	// allowed.
	Permanent bool   `json:"permanent,omitempty"`
	Stable    Sample `json:"stable"`
	Candidate Sample `json:"candidate"`
	// Ahead is what the candidate's series alone have counted after To, while the source
	// waits for others: its sums, without instances. It is no evidence, but may be a reason
	// to look again at Next. Sources need not tell it.
	Ahead Sample `json:"ahead,omitzero"`
}

// A Sample holds one deployment's increments in the interval of its Reading.
// All numbers are finite and not negative (Value and Sum may be negative).
type Sample struct {
	// Fresh: the deployment's total series (or value) exists and has a sample
	// that is not stale. Without it the other fields are meaningless.
	Fresh bool `json:"fresh,omitempty"`
	// N is the number of events: requests, plays, observations.
	N float64 `json:"n,omitempty"`
	// K is how many of them were bad (or good, as the metric's Counts says);
	// 0 ≤ K ≤ N.
	K float64 `json:"k,omitempty"`
	// Buckets are the histogram's increments, by increasing bound. Events above
	// the last bound are in N only. Adjacent intervals may have other bounds.
	Buckets []Bucket `json:"buckets,omitempty"`
	// Sum and SumSq are the increments of a Mean's sum and sum of squares.
	Sum   float64 `json:"sum,omitempty"`
	SumSq float64 `json:"sumSq,omitempty"`
	// Batches says, where it is not 0, that the squares are not known: SumSq is then
	// the sum over so many batches of events, an instance's between two scrapes, of
	// the square of the batch's sum divided by its number.
	Batches float64 `json:"batches,omitempty"`
	// Value is a plain number at To.
	Value float64 `json:"value,omitempty"`
	// Instances hold the same increments by instance where the source can tell
	// them apart; their sums equal the sample's. Instances of instances are nil.
	Instances []Instance `json:"instances,omitempty"`
}

// An Instance is one instance's part of a Sample.
type Instance struct {
	Name string `json:"name"`
	// Sample's own Instances are nil.
	Sample
}

// A Bucket counts the events in (bound of the bucket before, Upper].
type Bucket struct {
	// Upper is the inclusive upper bound in seconds; always finite.
	Upper float64 `json:"le"`
	// Count is the number of events in this bucket alone, not cumulated.
	Count float64 `json:"n"`
}

// ErrPermanent is in the chain of an error that no retry mends: see Permanent.
var ErrPermanent = errors.New("what is asked is wrong or not allowed")

// Permanent marks err as one that no retry mends; it says what it said.
func Permanent(err error) error { return permanent{err} }

type permanent struct{ error }

// Unwrap is the error that was marked.
func (p permanent) Unwrap() error { return p.error }

// Is makes a marked error an ErrPermanent.
func (permanent) Is(target error) bool { return target == ErrPermanent }

// FailedReading answers q with what went wrong.
func FailedReading(q Query, err error) Reading {
	r := ErrorReading(q, err.Error())
	r.Permanent = errors.Is(err, ErrPermanent)
	return r
}

// ErrorReading answers q with a failure that a person can read.
func ErrorReading(q Query, reason string) Reading {
	return Reading{Metric: q.Metric.Name, From: q.From, To: q.To, Status: StatusError, Reason: reason}
}
