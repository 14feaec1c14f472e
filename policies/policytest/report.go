package policytest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout"
)

// Report is what became of a test file.
type Report struct {
	File       string           `json:"file"`
	Policy     string           `json:"policy"`
	Cases      []CaseResult     `json:"cases,omitempty"`
	Properties []PropertyResult `json:"properties,omitempty"`
	// Untested are the guardrails that had no series.
	Untested []string `json:"untested,omitempty"`

	coverage *coverage
}

// CaseResult is what became of one case; it passed when there are no failures.
type CaseResult struct {
	Name     string   `json:"name"`
	Failures []string `json:"failures,omitempty"`
	// Timeline are the decisions; Wrong is the index of the first wrong one.
	Timeline []Decided     `json:"timeline"`
	Wrong    *int          `json:"wrong,omitempty"`
	Phase    rollout.Phase `json:"phase"`
	// Decisions counts the events that were folded.
	Decisions int `json:"events"`
	// Notes are the actions that did nothing, and why.
	Notes []string `json:"notes,omitempty"`
}

// PropertyResult is what became of one property.
type PropertyResult struct {
	Name    string `json:"name"`
	Claim   string `json:"claim"`
	Trials  int    `json:"trials"`
	Hits    int    `json:"hits"`
	Failure string `json:"failure,omitempty"`
	// Phases counts how the trials ended.
	Phases map[rollout.Phase]int `json:"phases"`
}

// Passed reports whether every case and property passed.
func (r *Report) Passed() bool {
	return !slices.ContainsFunc(r.Cases, func(c CaseResult) bool { return len(c.Failures) > 0 }) &&
		!slices.ContainsFunc(r.Properties, func(p PropertyResult) bool { return p.Failure != "" })
}

// Text writes the report for people: a line per case; failed ones with their
// timeline, the first wrong decision marked.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (policy %s)\n", r.File, r.Policy)
	for _, c := range r.Cases {
		if len(c.Failures) == 0 {
			fmt.Fprintf(&b, "  ok    %s\n", c.Name)
		} else {
			fmt.Fprintf(&b, "  FAIL  %s\n", c.Name)
		}
		for _, n := range c.Notes {
			fmt.Fprintf(&b, "          note: %s\n", n)
		}
		if len(c.Failures) == 0 {
			continue
		}
		for _, f := range c.Failures {
			fmt.Fprintf(&b, "          %s\n", f)
		}
		for i, d := range c.Timeline {
			mark := "  "
			if c.Wrong != nil && *c.Wrong == i {
				mark = ">>"
			}
			fmt.Fprintf(&b, "        %s%s\n", mark, d)
		}
	}
	for _, p := range r.Properties {
		outcome := "ok"
		if p.Failure != "" {
			outcome = "FAIL"
		}
		fmt.Fprintf(&b, "  %-4s  %s: %s, %d of %d trials (%s)\n", outcome, p.Name, p.Claim, p.Hits, p.Trials,
			p.phases())
		if p.Failure != "" {
			fmt.Fprintf(&b, "          %s\n", p.Failure)
		}
	}
	if len(r.Untested) > 0 {
		fmt.Fprintf(&b, "  untested guardrails (no series): %s\n", strings.Join(r.Untested, ", "))
	}
	_, err := io.WriteString(w, b.String())
	if err != nil {
		return fmt.Errorf("write test report: %w", err)
	}
	return nil
}

func (p PropertyResult) phases() string {
	var out []string
	for _, ph := range slices.Sorted(maps.Keys(p.Phases)) {
		out = append(out, fmt.Sprintf("%s %d", ph, p.Phases[ph]))
	}
	return strings.Join(out, ", ")
}
