// Package preflight makes the checks that must pass before a rollout moves any
// traffic.
//
// The rules of the package:
//   - Every check says what was found, what was expected and what to do about it,
//     in words for people; the results are journal entries.
//   - A fact that the endpoint does not tell fails the check that needs it, and
//     the field is named.
//   - A check that could not be made is Transient; a check that was made and
//     failed is not. A candidate that is not ready yet is Awaited: then what needs
//     one that is ready is not made.
//   - The launch checklist (owner, approval contact, rollback command, and the
//     ability to mirror where a step mirrors) is made always, whatever the policy
//     lists.
//   - Nothing here moves traffic. The sample request goes to the candidate by the
//     router's probe, while the candidate has none of the traffic.
//   - No result repeats what the candidate answered.
//
// Which deployment is stable, and whether the split is one that a rollout may
// start from, is rollout's to say: see split.Split.Stable.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/traffic"
)

// The names of the checks of the launch checklist.
const (
	CheckOwner           = "owner"
	CheckApprovalContact = "approval-contact"
	CheckRollbackCommand = "rollback-command"
	CheckMirror          = "mirror"
)

// maxText bounds what a result says in one field, in bytes; a rollback command
// must fit.
const maxText = 2000

// A Request is what is to be checked.
type Request struct {
	Plan *rollout.Plan
	// Stable is the deployment that serves now; empty when it could not be
	// resolved.
	Stable string
	// Router is for probes alone; Description is what it said of the endpoint, and
	// DescribeErr why it could not.
	Router      traffic.Router
	Description traffic.Description
	DescribeErr error
	// Metrics reads every metric of the plan's panel over (from, to], one reading
	// a metric.
	Metrics func(ctx context.Context, from, to time.Time) []analysis.Reading
}

// Run makes the checks of the plan, in their order, and then the launch
// checklist. When ctx ends, the checks that are left are Transient.
func Run(ctx context.Context, r Request) []check.Result {
	var out []check.Result
	awaited := r.Plan.Patience() > 0 && r.ready().Awaited
	for _, c := range r.Plan.Preflight {
		result := check.Result{Transient: true, Found: "that it is too early", Expected: r.Plan.Release.Candidate +
			" ready first",
			Remedy: "Wait for it: the check is made then."}
		if !awaited || (c.Kind != "capacity" && c.Kind != "invoke") {
			result = r.check(ctx, c)
		}
		out = append(out, finish(ctx, c.Kind, result))
	}
	for _, c := range r.launch() {
		out = append(out, finish(ctx, c.Check, c))
	}
	return out
}

// check makes one check of the plan.
func (r Request) check(ctx context.Context, c check.Check) check.Result {
	switch c.Kind {
	case "ready":
		return r.ready()
	case "rollback-ready":
		return r.rollbackReady()
	case "capacity":
		return r.capacity(c)
	case "tags":
		return r.tags(c)
	case "fresh-metrics":
		return r.freshMetrics(ctx, c)
	case "invoke":
		return r.invoke(ctx, c)
	case "refuses-anonymous":
		return r.refusesAnonymous(ctx)
	}
	return failed("a check of unknown kind",
		"ready, rollback-ready, capacity, fresh-metrics, tags, invoke or refuses-anonymous",
		"Correct spec.preflight of the policy.")
}

// finish names a result and bounds its texts. A failed check of a context that
// has ended could not be made.
func finish(ctx context.Context, name string, c check.Result) check.Result {
	c.Check, c.Awaited = name, c.Awaited && name == "ready"
	c.Found, c.Expected, c.Remedy = shorten(c.Found), shorten(c.Expected), shorten(c.Remedy)
	if c.OK {
		c.Remedy, c.Transient = "", false
	} else if ctx.Err() != nil {
		c.Transient = true
	}
	return c
}

func shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	s = s[:maxText]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

func passed(found, expected string) check.Result {
	return check.Result{OK: true, Found: found, Expected: expected}
}

func failed(found, expected, remedy string) check.Result {
	return check.Result{Found: found, Expected: expected, Remedy: remedy}
}

// early is a check that failed of a deployment that may still become what it asks for.
func early(found, expected, remedy string) check.Result {
	c := failed(found, expected, remedy)
	c.Awaited = true
	return c
}

// unmade is a check that an error kept from being made.
func unmade(err error, expected, remedy string) check.Result {
	c := failed(err.Error(), expected, remedy)
	c.Transient = !errors.Is(err, traffic.ErrPermanent) && !errors.Is(err, traffic.ErrNotFound)
	return c
}

// undescribed is the result of a check that needs the description when there is
// none, or when these fields of it are untold; ok when nothing is missing.
func (r Request) undescribed(expected string, fields ...string) (c check.Result, ok bool) {
	if r.DescribeErr != nil {
		return unmade(r.DescribeErr, expected, "See that the router reaches the endpoint and may read it."), false
	}
	for _, field := range fields {
		if r.untold(field) {
			return failed("the endpoint does not tell "+field, expected,
				fmt.Sprintf("Make the endpoint tell %s, or take the check out of the policy.", field)), false
		}
	}
	return check.Result{}, true
}

// untold reports whether a field, or a field that it is part of, is not told.
func (r Request) untold(field string) bool {
	for _, u := range r.Description.Unknown {
		if field == u || strings.HasPrefix(field, u+".") {
			return true
		}
	}
	return false
}
