package policytest

import (
	"fmt"
	"io"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout/decision"
)

// coverage counts, per guardrail, which verdicts and actions the cases met.
type coverage struct {
	guardrails []string
	seen       map[string]map[string]int
}

// coverageColumns are the verdicts, then the decisions that blame a guardrail.
var coverageColumns = []string{
	string(analysis.OutcomePass), string(analysis.OutcomeBreach), string(analysis.OutcomeUndecided),
	string(analysis.OutcomeNoData), string(analysis.OutcomeError), string(analysis.OutcomeResting),
	"→" + string(analysis.ActionRollback), "→" + string(analysis.ActionHold), "→" + string(analysis.ActionPage),
	"→" + string(analysis.ActionNote),
}

func newCoverage(p *policies.Policy) *coverage {
	c := &coverage{seen: map[string]map[string]int{}}
	for _, g := range p.Document.Spec.Guardrails {
		c.guardrails = append(c.guardrails, g.Name)
		c.seen[g.Name] = map[string]int{}
	}
	return c
}

func (c *coverage) see(verdicts []analysis.Verdict, decisions []decision.Decision) {
	for _, v := range verdicts {
		if m := c.seen[v.Guardrail]; m != nil {
			m[string(v.Outcome)]++
		}
	}
	for _, d := range decisions {
		if m := c.seen[d.Guardrail]; m != nil {
			m["→"+string(d.Kind)]++
		}
	}
}

// Coverage writes which verdicts and actions the cases met, per guardrail; a dot
// is one that none met.
func (r *Report) Coverage(w io.Writer) error {
	var b strings.Builder
	width := len("guardrail")
	for _, g := range r.coverage.guardrails {
		width = max(width, len(g))
	}
	fmt.Fprintf(&b, "%-*s", width, "guardrail")
	for _, col := range coverageColumns {
		fmt.Fprintf(&b, "  %9s", col)
	}
	b.WriteString("\n")
	for _, g := range r.coverage.guardrails {
		fmt.Fprintf(&b, "%-*s", width, g)
		for _, col := range coverageColumns {
			mark := "."
			if r.coverage.seen[g][col] > 0 {
				mark = "x"
			}
			fmt.Fprintf(&b, "  %9s", mark)
		}
		b.WriteString("\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write coverage: %w", err)
	}
	return nil
}
