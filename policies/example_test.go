package policies_test

import (
	"fmt"
	"os"
	"testing/fstest"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout"
)

// A policy is read, and compiled for one release.
func ExampleParse() {
	p, problems := policies.Parse(os.DirFS("examples"), "relative.yaml", nil)
	if p == nil {
		fmt.Print(problems.Text())
		return
	}
	plan, err := p.Compile(rollout.Release{Candidate: "green", Version: "17"}, "rollout-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range plan.Steps {
		fmt.Println(s.Name, s.Bake)
	}
	for _, g := range plan.Panel.Guardrails {
		fmt.Println(g.Name, g.Limit.Text, g.Steps)
	}
	// Output:
	// 5% 30m0s
	// 25% 30m0s
	// 60% 30m0s
	// 95% 1h0m0s
	// 100% 10m0s
	// failures <= 1.2x stable [0 1 2 3 4]
	// p95 <= 1.2x stable [0 1 2 3 4]
	// ceiling <= 2% [4]
}

// Everything that is wrong is said at once.
func ExampleProblems_Text() {
	files := fstest.MapFS{"recs.yaml": {Data: []byte("apiVersion: belay/v1\nkind: PolicyBase\nspec: {bake: 30, settel: 1m}\n")}}
	_, problems := policies.Parse(files, "recs.yaml", nil)
	fmt.Print(problems.Text())
	// Output:
	// recs.yaml:3:14: spec.bake: a duration needs a unit (ms, s, m or h), for example 30m (got 30)
	//     3 | spec: {bake: 30, settel: 1m}
	//       |              ^
	// recs.yaml:3:18: spec.settel: no such key; did you mean settle?
	//     3 | spec: {bake: 30, settel: 1m}
	//       |                  ^
}

// What a change does to the safety of releases, in words.
func ExampleDiff() {
	read := func(limit string) *policies.Policy {
		files := fstest.MapFS{"p.yaml": {Data: fmt.Appendf(nil, `apiVersion: belay/v1
kind: RolloutPolicy
metadata: {name: recs, owner: team}
spec:
  endpoint: {router: edge, name: recs}
  steps: [5%%, 100%%]
  bake: 30m
  guardrails: [{name: failures, metric: builtin/demo/failures, source: prom, limit: %q, detect: "5%%"}]
`, limit)}}
		p, _ := policies.Parse(files, "p.yaml", nil)
		return p
	}
	for _, c := range policies.Diff(read("<= 1%"), read("<= 2%")) {
		fmt.Println(c)
	}
	// Output:
	// LOOSER    guardrail failures: limit <= 1% → <= 2%
	// SAME      step 5%
	// SAME      step 100%
}
