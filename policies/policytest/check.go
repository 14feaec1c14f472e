package policytest

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
)

// seriesNames checks the names of series against the policy's metrics.
func (c *testChecker) seriesNames(at string, series map[string]Series) {
	for name := range series {
		path := document.Join(at, name)
		metric, part, deployment, ok := splitSeries(name)
		m, known := c.policy.Metric(metric)
		switch {
		case !ok || deployment != "stable" && deployment != "candidate":
			c.report(path, "a series is called METRIC/PART@stable or @candidate", name)
		case !slices.Contains(seriesParts, part):
			c.report(path, "a series gives "+document.OneOf(seriesParts), part)
		case !known:
			c.report(path, "the policy uses no such metric", metric)
		case !slices.Contains(partsOf[string(m.Kind())], part):
			c.report(path, fmt.Sprintf("the metric is a %s and has %s", policies.DescribeKind(m.Kind()),
				document.OneOf(partsOf[string(m.Kind())])), part)
		}
	}
}

// Check says what is wrong with a policy, a base or a policy test: whatever
// kind the file says it is. For a test that includes the policy that it names.
func Check(fsys fs.FS, name string, env *policies.Environment) document.Problems {
	if data, err := document.ReadFile(fsys, name); err == nil && bytes.Contains(data, []byte(policies.KindTest)) {
		if tree, _ := document.Read(name, data, policies.MaxPolicyNodes); tree != nil &&
			tree.Word("kind") == policies.KindTest {
			_, _, ps := loadTest(fsys, name, env)
			return ps
		}
	}
	_, ps := policies.Parse(fsys, name, env)
	return ps
}

// testChecker checks the names in a test file against the policy.
type testChecker struct {
	at       document.Index
	problems document.Problems
	file     *File
	policy   *policies.Policy
}

func (c *testChecker) report(path, why, got string) {
	p := document.ProblemAt(c.at.Nearest(path), path, document.CodeName, why)
	if got != "" {
		p.Got = document.Shorten(got)
	}
	c.problems = append(c.problems, p)
}

func (c *testChecker) check() {
	if c.policy.Base {
		c.report("policy", "is a "+policies.KindBase+", which does not run", c.file.Policy)
		return
	}
	if c.file.Interval < time.Second {
		c.report("interval", "must be at least 1s", "")
	}
	if len(c.file.Cases)+len(c.file.Properties) == 0 {
		c.report("", "has neither cases nor properties", "")
	}
	c.seriesNames("series", c.file.Series)
	names := map[string]bool{}
	for i, tc := range c.file.Cases {
		at := fmt.Sprintf("cases[%d]", i)
		if names[tc.Name] {
			c.report(at+".name", "the name is given twice", tc.Name)
		}
		names[tc.Name] = true
		c.seriesNames(at+".series", tc.Series)
		for j, a := range tc.Actions {
			c.action(fmt.Sprintf("%s.actions[%d]", at, j), a)
		}
		if len(tc.Expect) == 0 {
			c.report(at+".expect", "expects nothing", "")
		}
		for j, e := range tc.Expect {
			c.expectation(fmt.Sprintf("%s.expect[%d]", at, j), e)
		}
	}
	for i, p := range c.file.Properties {
		at := fmt.Sprintf("properties[%d]", i)
		if p.Trials < 1 || p.Trials > 100_000 {
			c.report(at+".trials", "must be from 1 to 100000", "")
		}
		c.guardrailName(at+".guardrail", p.Guardrail)
		c.when(at+".from", When{Step: p.From})
	}
}

func (c *testChecker) action(at string, a Action) {
	c.when(at+".at", a.At)
	for key, gate := range map[string]string{"approve": a.Approve, "reject": a.Reject} {
		if gate != "" {
			c.gate(at+"."+key, gate)
		}
	}
	if a.By == "" && (a.Approve != "" || a.Reject != "" || a.Command != "") {
		c.report(at, "a person acts here: add by: NAME", "")
	}
	if a.For != 0 && a.Command != string(rollout.CommandExtend) {
		c.report(at+".for", "belongs to command: extend", "")
	}
	if (a.To != "") != (a.Command == string(rollout.CommandSkip)) {
		c.report(at+".to", "command: skip takes the name of a later step, and nothing else does", "")
	}
}

func (c *testChecker) expectation(at string, e Expectation) {
	c.guardrailName(at+".guardrail", e.Guardrail)
	c.when(at+".step", When{Step: e.Step})
	for key, w := range map[string]*When{"after": e.After, "before": e.Before, "within": e.Within} {
		if w != nil {
			c.when(at+"."+key, *w)
		}
	}
	if e.Finally == "" && (e.Weight != nil || e.Within != nil) {
		c.report(at, "weight and within belong to finally", "")
	}
	if e.Event == "" && e.Never == "" && (e.Guardrail != "" || e.Reason != "" || e.Step != "" || e.After != nil ||
		e.Before != nil) {
		c.report(at, "guardrail, reason, step, after and before belong to event and never", "")
	}
}

func (c *testChecker) guardrailName(at, name string) {
	if name != "" && !slices.ContainsFunc(c.policy.Document.Spec.Guardrails,
		func(g policies.Guardrail) bool { return g.Name == name }) {
		c.report(at, "the policy has no such guardrail", name)
	}
}

func (c *testChecker) gate(at, name string) {
	if !slices.ContainsFunc(c.policy.Document.Spec.Approvals,
		func(a policies.Approval) bool { return a.Name == name }) {
		c.report(at, "the policy has no such approval", name)
	}
}

func (c *testChecker) when(at string, w When) {
	if w.Gate != "" {
		c.gate(at, w.Gate)
	}
	if w.Step != "" && !slices.ContainsFunc(c.policy.Document.Spec.Steps,
		func(s policies.Step) bool { return s.Name == w.Step }) {
		c.report(at, "the policy has no such step", w.Step)
	}
}
