// Package sight keeps when each thing that is judged was last seen. Blindness is an age: the
// time since then, whatever kept the readings away. The labels only choose whose rule
// applies. It is a value without a clock; what follows from blindness is decided in rollout.
package sight

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
)

// A Sight says when one thing that is judged was last seen. A reading that is later than
// onNoData allows shows nothing.
type Sight struct {
	// Name is a guardrail's, analysis.BudgetName, or Split.
	Name string `json:"name"`
	// Seen is the instant of the last usable reading, or from when on one was due. Due is
	// later where a deployment's series are still to appear for the first time: their
	// absence counts from there.
	Seen time.Time `json:"seen"`
	Due  time.Time `json:"due,omitzero"`
	// Lacks is why the last reading was of no use: OutcomeNoData or OutcomeError; ""
	// when it was of use, or brought nothing new.
	Lacks analysis.Outcome `json:"lacks,omitempty"`
	// Late: since then a reading came that is later than onNoData allows.
	Late bool `json:"late,omitempty"`
	// Read: a usable reading came in the present step.
	Read bool `json:"read,omitempty"`
	// Optional: the step may end without it.
	Optional bool `json:"optional,omitempty"`
	// NotifiedAt is when the rule was last applied to this spell; zero when it was not. What
	// was told stays missing until it is seen, whatever is said of it meanwhile.
	NotifiedAt time.Time `json:"told,omitzero"`
}

// Split is the endpoint's split among the things that are seen; no guardrail can be called
// so.
const Split = "the split"

// unreadAfter is how long the endpoint may be unreadable before the rollout is held.
const unreadAfter = 2 * time.Minute

// MissingPolicy says what happens when readings are missing: after After,
// Then; and RollbackAfter later (0 is never).
type MissingPolicy struct {
	After         time.Duration   `json:"after"`
	Then          analysis.Action `json:"then"`
	RollbackAfter time.Duration   `json:"rollbackAfter,omitempty"`
}

// An Absence is why something is not seen.
type Absence string

// The causes, by the names that reasons have for them.
const (
	AbsentNoData Absence = "no-data"
	AbsentSource Absence = "source-error"
	AbsentRouter Absence = "router"
)

// Rules are a policy's for what is missing.
type Rules struct {
	NoData, SourceError MissingPolicy
	// Overdue: the reading that is wanted has been due for an interval and has not come.
	Overdue bool
}

// Of is whose `after`, `then` and `rollbackAfter` apply to a sight, and why it is missing:
// absent and late data and readings that bring nothing new are no data; everything else
// that keeps a reading away is an error of the source.
func (r Rules) Of(v Sight) (MissingPolicy, Absence) {
	switch {
	case v.Name == Split:
		return MissingPolicy{After: unreadAfter, Then: analysis.ActionHold}, AbsentRouter
	case v.Lacks == analysis.OutcomeError, v.Lacks == "" && r.Overdue:
		return r.SourceError, AbsentSource
	}
	return r.NoData, AbsentNoData
}

// missing reports whether the thing has not been seen for longer than the rule allows,
// counted from `from` where that is later.
func (v Sight) missing(rule MissingPolicy, at, from time.Time) bool {
	since := later(v.Seen, from)
	if v.Lacks != analysis.OutcomeError {
		since = later(since, v.Due)
	}
	return at.Sub(since) >= rule.After || v.NotifiedAt.After(from)
}

// Sights are everything that must be seen now.
type Sights []Sight

// Keep makes the list one of the split and of what is judged. What is new in it is due from
// now on; a deployment's series appear with its first requests, so that until settled their
// absence does not count.
func (l Sights) Keep(judged []analysis.Sighting, now, settled time.Time) Sights {
	kept := make(Sights, 0, len(judged)+1)
	keep := func(name string, optional bool, due time.Time) {
		v := Sight{Name: name, Seen: now, Due: due}
		if old := l.Of(name); old != nil {
			v = *old
		}
		v.Optional = optional
		kept = append(kept, v)
	}
	keep(Split, true, time.Time{})
	for _, thing := range judged {
		keep(thing.Name, thing.Optional, settled)
	}
	return kept
}

// Of is the thing's, to be changed; nil when it need not be seen.
func (l Sights) Of(name string) *Sight {
	i := slices.IndexFunc(l, func(v Sight) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return &l[i]
}

// SeenTo notes a reading that ends at `to`. One that is older than most is of no use: what
// it tells of is over, and the thing stays missing for as long as it was.
func (v *Sight) SeenTo(to, now time.Time, most time.Duration) {
	v.Due, v.Lacks = time.Time{}, ""
	if v.Late = v.Name != Split && now.Sub(to) >= most; v.Late {
		return
	}
	v.Seen, v.NotifiedAt = later(v.Seen, now), time.Time{}
}

// Notify notes that it was said what is missing; first is true when that was not said of
// any of it yet.
func (l Sights) Notify(names []string, now time.Time) (first bool) {
	first = true
	for i := range l {
		if v := &l[i]; slices.Contains(names, v.Name) {
			first = first && v.NotifiedAt.IsZero()
			v.NotifiedAt = now
		}
	}
	return first
}

// Unread reports whether something that the step needs has not been read in it, or is
// missing now.
func (l Sights) Unread(r Rules, now time.Time) bool {
	judged, read := 0, 0
	for _, v := range l {
		if v.Name == Split {
			continue
		}
		judged++
		if v.Read {
			read++
		} else if !v.Optional {
			return true
		}
		if rule, _ := r.Of(v); !v.Optional && v.missing(rule, now, time.Time{}) {
			return true
		}
	}
	return judged > 0 && read == 0
}

// Times are the instants at which time alone makes something missing too long; excused is
// from when the rules count.
func (l Sights) Times(r Rules, excused time.Time, at func(time.Time)) {
	for _, v := range l {
		rule, _ := r.Of(v)
		due := later(v.Seen, excused).Add(rule.After)
		at(v.Seen.Add(rule.After))
		at(due)
		at(v.Due.Add(rule.After))
		if rule.RollbackAfter > 0 {
			at(due.Add(rule.RollbackAfter))
		}
	}
}

// A Blindness is what has not been seen for longer than its rule allows.
type Blindness struct {
	// Since is the oldest sight's; Names are all that are missing for the same cause;
	// Late is true when one of them came too late.
	Since time.Time
	Names []string
	Late  bool
	Cause Absence
	Rule  MissingPolicy
}

// Blind are the things that have not been seen for longer than their rules allow,
// counted from `from` where that is later, by cause.
func (l Sights) Blind(r Rules, at, from time.Time) []Blindness {
	var bs []Blindness
	for _, v := range l {
		rule, cause := r.Of(v)
		if !v.missing(rule, at, from) {
			continue
		}
		i := slices.IndexFunc(bs, func(b Blindness) bool { return b.Cause == cause })
		if i < 0 {
			bs = append(bs, Blindness{Since: v.Seen, Cause: cause, Rule: rule})
			i = len(bs) - 1
		}
		b := &bs[i]
		b.Names, b.Late = append(b.Names, v.Name), b.Late || v.Late
		if v.Seen.Before(b.Since) {
			b.Since = v.Seen
		}
	}
	return bs
}

// Sentence says what is missing since when, in words that stay as they are while it
// is missing.
func (b Blindness) Sentence() string {
	since, what := b.Since.UTC().Format("15:04:05 UTC"), strings.Join(b.Names, ", ")
	switch {
	case b.Cause == AbsentRouter:
		return fmt.Sprintf("The endpoint could not be read since %s.", since)
	case b.Cause == AbsentNoData && b.Late:
		return fmt.Sprintf("What the source answers is %s old or older since %s (%s): it is behind, or this host's "+
			"clock is ahead.",
			b.Rule.After, since, what)
	case b.Cause == AbsentNoData:
		return fmt.Sprintf("The candidate is missing in what the source answers since %s (%s).", since, what)
	}
	return fmt.Sprintf("The source does not answer, or only partly, since %s (%s).", since, what)
}

// Text is the rule as the policy writes it.
func (b Blindness) Text() string {
	name := ""
	switch b.Cause {
	case AbsentRouter:
		return "the split is read at every interval"
	case AbsentNoData:
		name = "onNoData"
	case AbsentSource:
		name = "onSourceError"
	}
	never := "never"
	if b.Rule.RollbackAfter != 0 {
		never = b.Rule.RollbackAfter.String()
	}
	return fmt.Sprintf("%s: {after: %s, then: %s, rollbackAfter: %s}", name, b.Rule.After, b.Rule.Then, never)
}

// later is the later of two instants.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
