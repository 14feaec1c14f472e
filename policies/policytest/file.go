// Package policytest plays policies: against the series of a policy test, against many
// random traces, against what a source recorded, and it writes a test out of a rollout
// that really happened.
//
// All of it drives rollout.Next and analysis.Judge through rollout/sim; nothing is
// decided here a second time. The package is pure but for Record, which asks the source
// that it is given.
package policytest

import (
	"io/fs"
	"path"
	"time"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
)

// File is a file of policy tests: series of readings, and the decisions
// that they must lead to.
type File struct {
	APIVersion string            `yaml:"apiVersion" required:"true" enum:"belay/v1" doc:"The version of the policy language."`
	Kind       string            `yaml:"kind" required:"true" enum:"PolicyTest" doc:"PolicyTest."`
	Policy     string            `yaml:"policy" required:"true" doc:"The policy that is tested, relative to this file."`
	Interval   time.Duration     `yaml:"interval" default:"1m" doc:"The time between two values of a series."`
	Start      Instant           `yaml:"start" default:"2026-01-06T10:00:00Z" doc:"When the rollout starts, with its offset."`
	Series     map[string]Series `yaml:"series" doc:"METRIC/PART@stable or @candidate, to promtool's notation: axN is N+1 values of a, a+bxN rises by b, _ is missing."`
	Cases      []Case            `yaml:"cases" doc:"What must happen."`
	Properties []Property        `yaml:"properties" doc:"What must hold over many random traces."`
}

// Case is one story: what the metrics show, what people do, what must come.
type Case struct {
	Name    string            `yaml:"name" required:"true" doc:"What the case shows."`
	Series  map[string]Series `yaml:"series" doc:"Series that replace those of the file."`
	Actions []Action          `yaml:"actions" doc:"What people, other writers and failures do."`
	Expect  []Expectation     `yaml:"expect" required:"true" doc:"What must have happened."`
}

// Action is what somebody or something does at a time.
type Action struct {
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
	Event     decision.Kind     `yaml:"event" oneof:"what" enum:"start,queue,refuse,step,confirm,ask,answer,void,hold,resume,extend,breach,rollback,page,promote,foreign-change,no-data,source-error,budget,ack" doc:"A decision that must be among those made."`
	Never     decision.Kind     `yaml:"never" oneof:"what" enum:"start,queue,refuse,step,confirm,ask,answer,void,hold,resume,extend,breach,rollback,page,promote,foreign-change,no-data,source-error,budget,ack" doc:"A decision that must not be made."`
	Finally   rollout.Phase     `yaml:"finally" oneof:"what" enum:"promoted,rolled-back,stopped,refused,held,paused,waiting,baking,rolling-back,suspect,queued,scheduled,preflight,shifting" doc:"The phase in which the rollout is at the end."`
	Notified  string            `yaml:"notified" oneof:"what" doc:"A notifier that must have got a message."`
	Guardrail string            `yaml:"guardrail" doc:"With event or never: the guardrail to blame."`
	Reason    decision.Reason   `yaml:"reason" doc:"With event or never: the reason."`
	Step      string            `yaml:"step" doc:"With event or never: the step."`
	After     *When             `yaml:"after" doc:"With event or never: not before."`
	Before    *When             `yaml:"before" doc:"With event or never: not later."`
	Weight    *policies.Percent `yaml:"weight" doc:"With finally: the candidate's weight at the end."`
	Within    *When             `yaml:"within" doc:"With finally: by when the phase was reached."`
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

// loadTest reads a test file and the policy that it names. The policy's metrics
// that only a config could define get the shape that the series give them.
func loadTest(fsys fs.FS, name string, env *policies.Environment) (*File, *policies.Policy, document.Problems) {
	data, err := document.ReadFile(fsys, name)
	if err != nil {
		return nil, nil, document.Problems{document.ProblemAt(document.Start(name), "", document.CodeFile, err.Error())}
	}
	tree, ps := document.Read(name, data, policies.MaxPolicyNodes)
	if tree == nil {
		return nil, nil, ps
	}
	f := &File{}
	at, more := document.DecodeTree(tree, f, false)
	if ps = append(ps, more...); ps.HasErrors() {
		return nil, nil, ps.Sorted()
	}
	file := path.Join(path.Dir(name), f.Policy)
	if !fs.ValidPath(file) {
		return nil, nil, document.Problems{document.ProblemAt(at["policy"], "policy", document.CodeFile,
			"must lie in the test's folder or below it").WithGot(f.Policy)}
	}
	p, pps := policies.ParseStandIn(fsys, file, env, f.shapes())
	if p == nil {
		return nil, nil, append(ps, pps...).Sorted()
	}
	c := &testChecker{at: at, problems: ps, file: f, policy: p}
	c.check()
	ps = c.problems.Sorted()
	if ps.HasErrors() {
		return nil, nil, ps
	}
	return f, p, ps
}
