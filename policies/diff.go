package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/policies/document"
)

// Direction is what a change does to the safety of releases.
type Direction string

// The directions.
const (
	// Same: nothing changed.
	Same Direction = "SAME"
	// Tighter: a bad release is stopped sooner or less of it is let through.
	Tighter Direction = "TIGHTER"
	// Looser: a bad release gets further than before.
	Looser Direction = "LOOSER"
	// Different: neither follows; a person has to look.
	Different Direction = "DIFFERENT"
)

// A Difference is one difference between two policies.
type Difference struct {
	Direction Direction `json:"direction"`
	// Subject is what changed, for people: "guardrail failures".
	Subject string `json:"subject"`
	// Path is where, below spec, with names for guardrails, approvals and steps:
	// guardrails.failures.limit.
	Path string `json:"path"`
	// Old and New are empty where there was nothing or is nothing any more.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
	// Why says what the direction means here.
	Why string `json:"why,omitempty"`
}

// String is the change on one line.
func (c Difference) String() string {
	kind, name, _ := strings.Cut(c.Subject, " ")
	what := strings.TrimPrefix(c.Path, document.Join(sections[kind], name)+".")
	what = strings.TrimPrefix(what, c.Subject+".")
	switch {
	case c.Direction == Same:
		return fmt.Sprintf("%-9s %s", c.Direction, c.Subject)
	case c.Old == "":
		return strings.TrimRight(fmt.Sprintf("%-9s %s: added %s%s", c.Direction, c.Subject, c.New, c.why()), " ")
	case c.New == "":
		return strings.TrimRight(fmt.Sprintf("%-9s %s: removed %s%s", c.Direction, c.Subject, c.Old, c.why()), " ")
	}
	return fmt.Sprintf("%-9s %s: %s %s → %s%s", c.Direction, c.Subject, what, c.Old, c.New, c.why())
}

// sections are where the policy has what a subject is one of.
var sections = map[string]string{"guardrail": "guardrails", "gate": "approvals", "step": "steps", "check": "preflight"}

func (c Difference) why() string {
	if c.Why == "" {
		return ""
	}
	return " (" + c.Why + ")"
}

// Diff compares two policies, and names every guardrail, gate and step that
// stayed the same as well.
func Diff(from, to *Policy) []Difference {
	d := &differ{}
	d.spec(from, to)
	d.guardrails(from, to)
	d.gates(&from.Document.Spec, &to.Document.Spec)
	d.steps(&from.Document.Spec, &to.Document.Spec)
	d.preflight(&from.Document.Spec, &to.Document.Spec)
	d.windows(from, to)
	return d.changes
}

// Loosened reports whether any change is looser.
func Loosened(changes []Difference) bool {
	return slices.ContainsFunc(changes, func(c Difference) bool { return c.Direction == Looser })
}

type differ struct{ changes []Difference }

func (d *differ) add(dir Direction, subject, path, from, to, why string) {
	d.changes = append(d.changes, Difference{dir, subject, path, from, to, why})
}

// same adds that a subject did not change, unless changes were added since.
func (d *differ) same(before int, subject, path string) {
	if len(d.changes) == before {
		d.add(Same, subject, path, "", "", "")
	}
}

// ordered adds a change of a value of which more is tighter, or less.
func ordered[T cmp.Ordered](
	d *differ, subject, path string, from, to T, moreIsTighter bool, text func(T) string, why string,
) {
	if from == to {
		return
	}
	dir := Looser
	if (to > from) == moreIsTighter {
		dir = Tighter
	}
	d.add(dir, subject, path, text(from), text(to), why)
}

func (d *differ) duration(subject, path string, from, to time.Duration, longerIsTighter bool, why string) {
	ordered(d, subject, path, from, to, longerIsTighter, document.FormatDuration, why)
}

// ranked adds a change between words that are ordered from loose to tight.
func (d *differ) ranked(subject, path, from, to string, ranks ...string) {
	if from == to {
		return
	}
	a, b := slices.Index(ranks, from), slices.Index(ranks, to)
	switch {
	case a < 0 || b < 0:
		d.add(Different, subject, path, from, to, "")
	case b > a:
		d.add(Tighter, subject, path, from, to, "")
	default:
		d.add(Looser, subject, path, from, to, "")
	}
}

// set adds a change of a set of names of which more is tighter, or less.
func (d *differ) set(subject, path string, from, to []string, moreIsTighter bool, why string) {
	gone, come := minus(from, to), minus(to, from)
	if len(gone)+len(come) == 0 {
		return
	}
	dir := Different
	switch {
	case len(gone) == 0:
		dir = pick(moreIsTighter, Tighter, Looser)
	case len(come) == 0:
		dir = pick(moreIsTighter, Looser, Tighter)
	}
	d.add(dir, subject, path, list(from), list(to), why)
}

// other adds a change that has no order.
func (d *differ) other(subject, path, from, to, why string) {
	if from != to {
		d.add(Different, subject, path, orNone(from), orNone(to), why)
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func pick[T any](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}

func list(names []string) string { return "[" + strings.Join(names, ", ") + "]" }

func minus(a, b []string) []string {
	var out []string
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

// spec compares what belongs to the whole policy.
func (d *differ) spec(p, q *Policy) {
	a, b := &p.Document.Spec, &q.Document.Spec
	const subject = "policy"
	d.other(subject, "endpoint", a.Endpoint.Router+"/"+a.Endpoint.Name, b.Endpoint.Router+"/"+b.Endpoint.Name,
		"another endpoint")
	d.other(subject, "endpoint.stable", a.Endpoint.Stable, b.Endpoint.Stable, "")
	d.other(subject, "endpoint.onForeignChange", string(a.Endpoint.OnForeignChange),
		string(b.Endpoint.OnForeignChange), "")
	d.other(subject, "concurrency", string(a.Concurrency), string(b.Concurrency), "")
	d.duration(subject, "interval", a.Interval, b.Interval, false, "how often guardrails are read")
	d.duration(subject, "settle", a.Settle, b.Settle, true, "nothing passes while settling")
	if a.MaxExtend != b.MaxExtend {
		dir := Different
		if a.OnUndecided == b.OnUndecided && b.OnUndecided != "hold" {
			dir = pick((b.MaxExtend > a.MaxExtend) == (b.OnUndecided == "promote"), Tighter, Looser)
		}
		d.add(dir, subject, "maxExtend", document.FormatDuration(a.MaxExtend), document.FormatDuration(b.MaxExtend),
			"how long a step may wait for evidence")
	}
	d.ranked(subject, "onUndecided", string(a.OnUndecided), string(b.OnUndecided), "promote", "hold", "rollback")
	d.missing("onNoData", a.OnNoData, b.OnNoData)
	d.missing("onSourceError", a.OnSourceError, b.OnSourceError)
	d.ranked(subject, "onSharedBreach", string(a.OnSharedBreach), string(b.OnSharedBreach), "hold", "rollback")
	ordered(d, subject, "falseRollback", a.FalseRollback, b.FalseRollback, true, Fraction.String,
		"more false alarms, sooner real ones")
	d.budget(a.Budget, b.Budget)
	d.duration("rollback", "rollback.verifyWithin", a.Rollback.VerifyWithin, b.Rollback.VerifyWithin, false, "")
	d.duration("rollback", "rollback.cooldown", a.Rollback.Cooldown, b.Rollback.Cooldown, true, "")
	d.set("people", "page", a.Page, b.Page, true, "who is called")
	d.set("people", "notify", a.Notify, b.Notify, true, "who is told")
	d.other("people", "owner", p.Document.Metadata.Owner, q.Document.Metadata.Owner, "")
}

func (d *differ) missing(path string, a, b Missing) {
	const subject = "policy"
	d.duration(subject, path+".after", a.After, b.After, false, "")
	d.ranked(subject, path+".then", string(a.Then), string(b.Then), "page", "hold", "rollback")
	never := func(p Patience) time.Duration { return pick(p == 0, document.MaxDuration+1, time.Duration(p)) }
	ordered(d, subject, path+".rollbackAfter", never(a.RollbackAfter), never(b.RollbackAfter), false,
		func(t time.Duration) string {
			return pick(t > document.MaxDuration, "never", document.FormatDuration(t))
		}, "")
}

func (d *differ) budget(a, b *Budget) {
	text := func(b *Budget) string {
		return fmt.Sprintf("at most %s of %s", document.FormatNumber(b.AtMost), b.Metric)
	}
	switch {
	case a == nil && b == nil:
	case a == nil:
		d.add(Tighter, "budget", "budget", "", text(b), "")
	case b == nil:
		d.add(Looser, "budget", "budget", text(a), "", "")
	case a.Metric != b.Metric:
		d.other("budget", "budget.metric", a.Metric, b.Metric, "")
	default:
		ordered(d, "budget", "budget.atMost", a.AtMost, b.AtMost, false, document.FormatNumber, "")
	}
}
