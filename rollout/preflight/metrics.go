package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/check"
)

// freshMetrics: every metric that a guardrail judges was seen of stable in the
// last while.
func (r Request) freshMetrics(ctx context.Context, c check.Check) check.Result {
	expected := fmt.Sprintf("samples of %s within %s for every guardrail's metric", r.Stable, c.Within)
	const remedy = "See that the metrics are collected, that their queries name the right series and labels, and " +
		"that the source answers."
	judged := r.judged()
	switch {
	case len(judged) == 0:
		return failed("no guardrail", expected, "Add a guardrail, or take the check out of the policy.")
	case r.Stable == "":
		return failed("no stable deployment whose metrics could be read", expected,
			"Give the deployment that serves now 100% of the traffic.")
	case r.Metrics == nil:
		return failed("no source of metrics", expected, remedy)
	}
	to := time.Now()
	readings := r.Metrics(ctx, to.Add(-c.Within), to)
	var wrong, there, cures []string
	transient := true
	for _, name := range judged {
		i := slices.IndexFunc(readings, func(rd analysis.Reading) bool { return rd.Metric == name })
		if i < 0 {
			wrong, transient = append(wrong, name+" was not read"), false
			continue
		}
		rd := readings[i]
		never, cure := r.neverPasses(rd)
		switch {
		case rd.Status != analysis.StatusOK:
			wrong = append(wrong, fmt.Sprintf("%s could not be read: %s", name, trimStop(rd.Reason)))
			transient = transient && !rd.Permanent
		case !rd.To.After(rd.From):
			wrong = append(wrong, name+" has not been seen for long enough yet")
		case !rd.Stable.Fresh:
			text := "no sample of " + name
			if rd.Reason != "" {
				text += ": " + trimStop(rd.Reason)
			}
			wrong, transient = append(wrong, text), false
		case never != "":
			wrong, cures, transient = append(wrong, never), append(cures, cure), false
		default:
			there = append(there, fmt.Sprintf("%s up to %s ago", name, to.Sub(rd.To).Round(time.Second))+r.broken(rd))
		}
	}
	if len(wrong) > 0 {
		if len(cures) < len(wrong) {
			cures = append(cures, remedy)
		}
		out := failed(strings.Join(wrong, "; "), expected, strings.Join(cures, " "))
		out.Transient = transient
		return out
	}
	return passed(strings.Join(there, ", "), expected)
}

// neverPasses says which guardrails no release as good as stable could pass, by the reading,
// and what would help. What a step does not need to end is let be.
func (r Request) neverPasses(rd analysis.Reading) (never, cure string) {
	var whys, cures []string
	for k := range r.Plan.Panel.Guardrails {
		g := &r.Plan.Panel.Guardrails[k]
		i := slices.IndexFunc(r.Plan.Panel.Metrics, func(m analysis.Metric) bool { return m.Name == rd.Metric })
		if g.Metric != rd.Metric || i < 0 || g.Evidence != analysis.EvidenceRequired {
			continue
		}
		if why, cure := g.NeverPasses(&r.Plan.Panel.Metrics[i], &rd.Stable); why != "" {
			whys = append(whys, fmt.Sprintf("no release as good as stable can pass %s (%s): %s", g.Name, g.Limit.Text, why))
			cures = append(cures, cure)
		}
	}
	return strings.Join(whys, "; "), strings.Join(slices.Compact(cures), " ")
}

// broken says which guardrails stable itself breaks, by the reading. It refuses nothing: a
// release may be there to mend just that.
func (r Request) broken(rd analysis.Reading) string {
	i := slices.IndexFunc(r.Plan.Panel.Metrics, func(m analysis.Metric) bool { return m.Name == rd.Metric })
	if i < 0 {
		return ""
	}
	var out strings.Builder
	for k := range r.Plan.Panel.Guardrails {
		g := &r.Plan.Panel.Guardrails[k]
		if g.Metric != rd.Metric {
			continue
		}
		if how := g.Broken(&r.Plan.Panel.Metrics[i], &rd.Stable); how != "" {
			fmt.Fprintf(&out, " (stable itself breaks %s: %s)", g.Name, how)
		}
	}
	return out.String()
}

// judged are the names of the metrics that guardrails and the budget use, once
// each.
func (r Request) judged() []string {
	var out []string
	for _, g := range r.Plan.Panel.Guardrails {
		out = append(out, g.Metric)
	}
	if b := r.Plan.Panel.Budget; b != nil {
		out = append(out, b.Metric)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func trimStop(s string) string { return strings.TrimSuffix(s, ".") }
