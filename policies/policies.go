// Package policies is the language that SREs write and review: it reads
// policies, says everything that is wrong with them at once, and compiles them
// to plans.
//
// The rules of the package:
//   - It is pure. Files come in as an io/fs.FS; there is no clock, no network, no
//     goroutine. The same files and environment give the same plan.
//   - It is strict. Unknown, duplicate and misspelt keys, missing units, falling
//     weights and names that nothing defines are errors. All problems are
//     reported together, each with file, line, column, path and remedy.
//   - Input is bounded (256 KiB, 4,000 lines and values, 32 levels), and YAML's anchors, aliases, merge
//     keys and tags are refused: what a reviewer reads is what runs.
//   - Every value of a resolved policy knows where it came from: a line of a
//     file, of one that it extends, or a default.
//   - Tests and plans drive rollout.Next and analysis.Judge through rollout/sim;
//     nothing is decided here a second time.
//
// The package does not know whether an endpoint, a metric source or a notifier
// exists: an Environment says which names belayd's config defines.
package policies

import (
	"io/fs"
	"path"
	"time"

	"github.com/belayd/belay/policies/document"
)

// An Environment is what belayd's config defines and policies may name. A nil
// *Environment means that no config is at hand: names that only a config could
// define are then warnings.
type Environment struct {
	// Routers, Sources and Notifiers map the names of the config to the kind of
	// adapter behind them: "prom" to "prometheus".
	Routers   map[string]string
	Sources   map[string]string
	Notifiers map[string]string
	// Dialects are the languages of sources that differ from their kind's: "prom" to
	// "metricsql".
	Dialects map[string]string
	// Lags are how old the youngest reading of a source always is, where that is known.
	Lags map[string]time.Duration
	// Groups are how many people are in each group; nil where others than the config say
	// who is in which: an OIDC issuer, Slack.
	Groups map[string]int
	// Anonymous: nobody has to say who they are, and no notifier takes answers, so that
	// every answer is one actor's, local.
	Anonymous bool
	// Now is when the policy is read; zero where nothing shall depend on it.
	Now time.Time
	// Metrics are the definitions that all policies share.
	Metrics map[string]Metric
}

// A Policy is a policy that was read, resolved with everything it extends and
// found free of errors.
type Policy struct {
	// Document is the policy with every default filled in.
	Document Document
	// Name is the file it was read from.
	Name string
	// Base: the file is a PolicyBase, for others to extend; it cannot run.
	Base bool

	text    string
	tree    *document.Node
	at      document.Index
	metrics map[string]resolvedMetric
	files   map[string][]byte
	windows *windows
}

// Parse reads the policy called name from fsys, with what it extends and the
// files that its preflight checks name, all relative to the policy's folder.
// The policy is nil when the problems contain an error; warnings never make it
// nil. A nil env means that no config is at hand.
func Parse(fsys fs.FS, name string, env *Environment) (*Policy, document.Problems) {
	return ParseStandIn(fsys, name, env, nil)
}

// ParseStandIn is Parse with metrics that stand in for those of a config that is
// not at hand.
func ParseStandIn(fsys fs.FS, name string, env *Environment, standIns map[string]Metric) (*Policy, document.Problems) {
	l := &loader{fsys: fsys}
	tree, text := l.load(name)
	if tree == nil {
		return nil, l.problems.Sorted()
	}
	if tree.Word("kind") == KindTest {
		p := document.ProblemAt(tree.Child("kind"), "kind", document.CodeMeaning,
			"this is a policy test and no policy").WithHint("run it with belay policy test")
		return nil, append(l.problems, p).Sorted()
	}
	c := &checker{fsys: fsys, dir: path.Dir(name), env: env, standIns: standIns}
	p := c.read(name, tree, tree.Word("kind") == KindBase)
	c.problems = append(c.problems, l.enforceLocks(p, env)...)
	c.lint(append(l.problems.Errors(), c.problems.Errors()...))
	ps := append(l.problems, c.problems...).Sorted()
	if ps.HasErrors() {
		return nil, ps
	}
	p.text = text
	if p.text == "" {
		p.text = p.Render(true)
	}
	return p, ps
}

// read decodes a merged tree and checks what it means.
func (c *checker) read(name string, tree *document.Node, base bool) *Policy {
	p := &Policy{Name: name, Base: base, tree: tree}
	c.policy = p
	p.at, c.problems = document.DecodeTree(tree, &p.Document, base)
	c.check()
	return p
}
