package policies

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/rollout"
)

// KindTest is the kind of policy tests.
const KindTest = "PolicyTest"

// TestFile is a file of policy tests: series of readings, and the decisions
// that they must lead to.
type TestFile struct {
	APIVersion string            `yaml:"apiVersion" required:"true" enum:"belay/v1" doc:"The version of the policy language."`
	Kind       string            `yaml:"kind" required:"true" enum:"PolicyTest" doc:"PolicyTest."`
	Policy     string            `yaml:"policy" required:"true" doc:"The policy that is tested, relative to this file."`
	Interval   time.Duration     `yaml:"interval" default:"1m" doc:"The time between two values of a series."`
	Start      Instant           `yaml:"start" default:"2026-01-06T10:00:00Z" doc:"When the rollout starts, with its offset."`
	Series     map[string]Series `yaml:"series" doc:"METRIC/PART@stable or @candidate, to promtool's notation: axN is N+1 values of a, a+bxN rises by b, _ is missing."`
	Cases      []TestCase        `yaml:"cases" doc:"What must happen."`
	Properties []Property        `yaml:"properties" doc:"What must hold over many random traces."`
}

// TestCase is one story: what the metrics show, what people do, what must come.
type TestCase struct {
	Name    string            `yaml:"name" required:"true" doc:"What the case shows."`
	Series  map[string]Series `yaml:"series" doc:"Series that replace those of the file."`
	Actions []TestAction      `yaml:"actions" doc:"What people, other writers and failures do."`
	Expect  []Expectation     `yaml:"expect" required:"true" doc:"What must have happened."`
}

// TestAction is what somebody or something does at a time.
type TestAction struct {
	At            When           `yaml:"at" required:"true" doc:"Since the start: 40m; since a step's confirmed weight: canary+5m; since a gate was asked: asked:product-owner+1m."`
	By            string         `yaml:"by" doc:"Who does it. An answer counts where the gate's from names the person, or one of the groups."`
	Groups        []string       `yaml:"groups" doc:"The groups that the person is in, as the config or the messenger would say."`
	Approve       string         `yaml:"approve" oneof:"act" doc:"The gate that is approved."`
	Reject        string         `yaml:"reject" oneof:"act" doc:"The gate that is rejected."`
	Command       string         `yaml:"command" oneof:"act" enum:"pause,resume,rollback,promote,skip,extend,ack" doc:"A command."`
	ExternalWrite map[string]int `yaml:"externalWrite" oneof:"act" doc:"Somebody else sets the weights; blue is stable, green the candidate."`
	SourceDown    time.Duration  `yaml:"sourceDown" oneof:"act" doc:"The metric sources do not answer for this long."`
	Restart       time.Duration  `yaml:"restart" oneof:"act" doc:"The daemon is away for this long."`
	To            string         `yaml:"to" doc:"With command: skip: the step that comes next."`
	For           time.Duration  `yaml:"for" doc:"With command: extend: by how much; 30m when not given."`
	Reason        string         `yaml:"reason" doc:"What the person says."`
}

// Expectation is what must have happened.
type Expectation struct {
	Event     rollout.DecisionKind `yaml:"event" oneof:"what" enum:"start,queue,refuse,step,confirm,ask,answer,void,hold,resume,extend,breach,rollback,page,promote,foreign-change,no-data,source-error,budget,ack" doc:"A decision that must be among those made."`
	Never     rollout.DecisionKind `yaml:"never" oneof:"what" enum:"start,queue,refuse,step,confirm,ask,answer,void,hold,resume,extend,breach,rollback,page,promote,foreign-change,no-data,source-error,budget,ack" doc:"A decision that must not be made."`
	Finally   rollout.Phase        `yaml:"finally" oneof:"what" enum:"promoted,rolled-back,stopped,refused,held,paused,waiting,baking,rolling-back,suspect,queued,scheduled,preflight,shifting" doc:"The phase in which the rollout is at the end."`
	Notified  string               `yaml:"notified" oneof:"what" doc:"A notifier that must have got a message."`
	Guardrail string               `yaml:"guardrail" doc:"With event or never: the guardrail to blame."`
	Reason    rollout.Reason       `yaml:"reason" doc:"With event or never: the reason."`
	Step      string               `yaml:"step" doc:"With event or never: the step."`
	After     *When                `yaml:"after" doc:"With event or never: not before."`
	Before    *When                `yaml:"before" doc:"With event or never: not later."`
	Weight    *Percent             `yaml:"weight" doc:"With finally: the candidate's weight at the end."`
	Within    *When                `yaml:"within" doc:"With finally: by when the phase was reached."`
}

// Property is what must hold over many random traces.
type Property struct {
	Name      string      `yaml:"name" required:"true" doc:"What the property shows."`
	Trials    int         `yaml:"trials" default:"100" doc:"How many traces."`
	Seed      int         `yaml:"seed" default:"1" doc:"The same seed gives the same traces."`
	Trace     string      `yaml:"trace" default:"healthy" enum:"healthy,regression" doc:"healthy: the candidate is as good as stable's series; regression: a guardrail's metric is as bad as its detect."`
	Guardrail string      `yaml:"guardrail" doc:"With regression: which guardrail's metric is bad; the first one when not given."`
	From      string      `yaml:"from" doc:"With regression: the step in which it begins; the first one when not given."`
	Expect    Probability `yaml:"expect" required:"true" doc:"P(EVENT) <= 2% or P(EVENT) >= 90%."`
}

// Instant is a time with its offset.
type Instant time.Time

// UnmarshalText reads RFC 3339.
func (i *Instant) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return errors.New("must be a time with its offset, like 2026-11-24T10:00:00+01:00")
	}
	*i = Instant(t)
	return nil
}

// When is a time in a test: an offset from the start, a step or a question.
type When struct {
	// Step or Gate name the anchor; both are empty for the start.
	Step, Gate string
	Offset     time.Duration
	Text       string
}

var whenText = regexp.MustCompile(`^(.*?)(([+-])([0-9][0-9a-z.]*))?$`)

// UnmarshalText reads "40m", "canary+5m" or "asked:product-owner+1m".
func (w *When) UnmarshalText(b []byte) error {
	w.Text = strings.TrimSpace(string(b))
	if d, err := parseDuration(strings.TrimPrefix(w.Text, "+")); err == nil {
		w.Offset = d
		return nil
	}
	m := whenText.FindStringSubmatch(w.Text)
	if m == nil || m[1] == "" {
		return errors.New("must be a time since the start (40m), a step (canary+5m) or a question (asked:GATE+1m)")
	}
	if m[4] != "" {
		d, err := parseDuration(m[4])
		if err != nil {
			return err
		}
		w.Offset = d
		if m[3] == "-" {
			w.Offset = -d
		}
	}
	if gate, ok := strings.CutPrefix(m[1], "asked:"); ok {
		w.Gate = gate
		return nil
	}
	w.Step = m[1]
	return nil
}

// Probability is a claim about how often an event comes.
type Probability struct {
	Event   rollout.DecisionKind
	AtLeast bool
	Share   Share
	Text    string
}

var probabilityText = regexp.MustCompile(`^P\(([a-z-]+)\) *(<=|>=) *(\S+)$`)

// UnmarshalText reads "P(rollback) <= 2%".
func (p *Probability) UnmarshalText(b []byte) error {
	m := probabilityText.FindStringSubmatch(string(b))
	if m == nil || !slices.Contains(testEvents(), m[1]) {
		return errors.New("must be like P(rollback) <= 2%, with an event of policy tests")
	}
	p.Event, p.AtLeast, p.Text = rollout.DecisionKind(m[1]), m[2] == ">=", string(b)
	return p.Share.UnmarshalText([]byte(m[3]))
}

// testEvents are the events that expectations may name.
func testEvents() []string {
	f, _ := fieldNamed(reflect.TypeFor[Expectation](), "event")
	return f.enum
}

// loadTest reads a test file and the policy that it names. The policy's metrics
// that only a config could define get the shape that the series give them.
func loadTest(fsys fs.FS, name string, env *Environment) (*TestFile, *Policy, Problems) {
	data, err := readFile(fsys, name)
	if err != nil {
		return nil, nil, Problems{problemAt(start(name), "", CodeFile, err.Error())}
	}
	tree, ps := readTree(name, data, MaxPolicyNodes)
	if tree == nil {
		return nil, nil, ps
	}
	f := &TestFile{}
	at, more := decodeTree(tree, f, false)
	if ps = append(ps, more...); ps.HasErrors() {
		return nil, nil, ps.sorted()
	}
	file := path.Join(path.Dir(name), f.Policy)
	if !fs.ValidPath(file) {
		return nil, nil, Problems{problemAt(at["policy"], "policy", CodeFile, "must lie in the test's folder or below it").got(f.Policy)}
	}
	p, pps := ParseStandIn(fsys, file, env, f.shapes())
	if p == nil {
		return nil, nil, append(ps, pps...).sorted()
	}
	c := &testChecker{at: at, problems: ps, file: f, policy: p}
	c.check()
	ps = c.problems.sorted()
	if ps.HasErrors() {
		return nil, nil, ps
	}
	return f, p, ps
}

// CheckFile says what is wrong with a policy, a base or a policy test: whatever
// kind the file says it is. For a test that includes the policy that it names.
func CheckFile(fsys fs.FS, name string, env *Environment) Problems {
	if data, err := readFile(fsys, name); err == nil && bytes.Contains(data, []byte(KindTest)) {
		if tree, _ := readTree(name, data, MaxPolicyNodes); tree != nil && tree.word("kind") == KindTest {
			_, _, ps := loadTest(fsys, name, env)
			return ps
		}
	}
	_, ps := Parse(fsys, name, env)
	return ps
}

// testChecker checks the names in a test file against the policy.
type testChecker struct {
	at       index
	problems Problems
	file     *TestFile
	policy   *Policy
}

func (c *testChecker) report(path, why, got string) {
	p := problemAt(c.at.nearest(path), path, CodeName, why)
	if got != "" {
		p.Got = shorten(got)
	}
	c.problems = append(c.problems, p)
}

func (c *testChecker) check() {
	if c.policy.Base {
		c.report("policy", "is a "+KindBase+", which does not run", c.file.Policy)
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

func (c *testChecker) action(at string, a TestAction) {
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
	if e.Event == "" && e.Never == "" && (e.Guardrail != "" || e.Reason != "" || e.Step != "" || e.After != nil || e.Before != nil) {
		c.report(at, "guardrail, reason, step, after and before belong to event and never", "")
	}
}

func (c *testChecker) guardrailName(at, name string) {
	if name != "" && !slices.ContainsFunc(c.policy.Document.Spec.Guardrails, func(g Guardrail) bool { return g.Name == name }) {
		c.report(at, "the policy has no such guardrail", name)
	}
}

func (c *testChecker) gate(at, name string) {
	if !slices.ContainsFunc(c.policy.Document.Spec.Approvals, func(a Approval) bool { return a.Name == name }) {
		c.report(at, "the policy has no such approval", name)
	}
}

func (c *testChecker) when(at string, w When) {
	if w.Gate != "" {
		c.gate(at, w.Gate)
	}
	if w.Step != "" && !slices.ContainsFunc(c.policy.Document.Spec.Steps, func(s Step) bool { return s.Name == w.Step }) {
		c.report(at, "the policy has no such step", w.Step)
	}
}

func (Instant) jsonSchema() map[string]any {
	return map[string]any{"type": "string", "format": "date-time", "examples": []string{"2026-11-24T10:00:00+01:00"}}
}

func (When) jsonSchema() map[string]any {
	return map[string]any{"type": "string", "examples": []string{"40m", "canary+5m", "asked:product-owner+1m"}}
}

func (Probability) jsonSchema() map[string]any {
	return textSchema(`^P\([a-z-]+\) *(<=|>=) *\S+%$`, "P(rollback) <= 2%")
}
