package policies

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
)

// TestReport is what became of a test file.
type TestReport struct {
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
func (r *TestReport) Passed() bool {
	return !slices.ContainsFunc(r.Cases, func(c CaseResult) bool { return len(c.Failures) > 0 }) &&
		!slices.ContainsFunc(r.Properties, func(p PropertyResult) bool { return p.Failure != "" })
}

// Text writes the report for people: a line per case; failed ones with their
// timeline, the first wrong decision marked.
func (r *TestReport) Text(w io.Writer) error {
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
		fmt.Fprintf(&b, "  %-4s  %s: %s, %d of %d trials (%s)\n", outcome, p.Name, p.Claim, p.Hits, p.Trials, p.phases())
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

// JUnit writes the reports as JUnit XML.
func JUnit(w io.Writer, reports []*TestReport) error {
	type failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Failure *failure `xml:"failure,omitempty"`
	}
	type suite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	type suites struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []suite
	}
	var out suites
	for _, r := range reports {
		s := suite{Name: r.File}
		add := func(name string, failures []string, timeline []Decided) {
			tc := testcase{Name: name, Class: r.Policy}
			if len(failures) > 0 {
				var lines []string
				for _, d := range timeline {
					lines = append(lines, d.String())
				}
				tc.Failure = &failure{Message: failures[0], Text: strings.Join(slices.Concat(failures, lines), "\n")}
				s.Failures++
			}
			s.Tests++
			s.Cases = append(s.Cases, tc)
		}
		for _, c := range r.Cases {
			add(c.Name, c.Failures, c.Timeline)
		}
		for _, p := range r.Properties {
			var failures []string
			if p.Failure != "" {
				failures = []string{p.Failure}
			}
			add(p.Name, failures, nil)
		}
		out.Suites = append(out.Suites, s)
	}
	b, err := xml.MarshalIndent(out, "", "  ")
	if err == nil {
		_, err = io.WriteString(w, xml.Header+string(b)+"\n")
	}
	if err != nil {
		return fmt.Errorf("write junit: %w", err)
	}
	return nil
}

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
}

func newCoverage(p *Policy) *coverage {
	c := &coverage{seen: map[string]map[string]int{}}
	for _, g := range p.Document.Spec.Guardrails {
		c.guardrails = append(c.guardrails, g.Name)
		c.seen[g.Name] = map[string]int{}
	}
	return c
}

func (c *coverage) see(verdicts []analysis.Verdict, decisions []rollout.Decision) {
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
func (r *TestReport) Coverage(w io.Writer) error {
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
