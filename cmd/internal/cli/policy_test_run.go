package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/policytest"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/split"
)

func policyTestCommand() *command {
	return &command{
		name: "test", args: "FILE...", short: "Run policy tests, or write one out of a rollout that happened.", min: 0,
		max: -1,
		long: "A failing case prints its decisions with the first wrong one marked >>. Exit code 3 when a case fails.\n" +
			"With --from-rollout the test is written to standard output and nothing is run.",
		examples: []string{
			"belay policy test recs.test.yaml", "belay policy test *.test.yaml --run latency --coverage --junit " +
				"report.xml",
			"belay policy test --from-rollout ID --policy recs.yaml --store belay.db > incident.test.yaml",
		},
		setup: func(f *flags) run {
			config := f.policyConfig()
			pattern := f.String("run", "", "only cases and properties whose name matches the `REGEXP`")
			junit := f.file("junit", "write the results to `FILE` as JUnit XML as well")
			coverage := f.Bool("coverage", false, "show which verdicts and actions the cases met, per guardrail")
			output := f.choice("output", "how to print", "text", "json")
			id := f.String("from-rollout", "", "write a test out of the rollout `ID`")
			policy := f.String("policy", "", "the policy `FILE` that the written test names (default: NAME.yaml)")
			from := f.source()
			return func(ctx context.Context, e *env, args []string) error {
				if *id != "" {
					return e.fromRollout(ctx, from, *id, *policy, args)
				}
				if len(args) == 0 {
					return usageError("want FILE... or --from-rollout ID")
				}
				wanted, err := regexp.Compile(*pattern)
				if err != nil {
					return usageError("--run: %v", err)
				}
				env, err := e.environment(*config)
				if err != nil {
					return err
				}
				return e.runTests(args, env, wanted, *output, *junit, *coverage)
			}
		},
	}
}

// A testRun is what test prints as JSON.
type testRun struct {
	SchemaVersion int                  `json:"schemaVersion"`
	Passed        bool                 `json:"passed"`
	Reports       []*policytest.Report `json:"reports"`
}

func (e *env) runTests(
	files []string, env *policies.Environment, wanted *regexp.Regexp, output, junit string, coverage bool,
) error {
	all := testRun{SchemaVersion: 1, Passed: true, Reports: []*policytest.Report{}}
	for _, file := range files {
		dir := filepath.Dir(file)
		r, ps := policytest.Run(folder.At(dir), filepath.Base(file), env, wanted.MatchString)
		if r == nil {
			fmt.Fprint(e.stderr, below(dir, ps).Text())
			all.Passed = false
			continue
		}
		r.File = file
		all.Passed = all.Passed && r.Passed()
		all.Reports = append(all.Reports, r)
		if output == "json" {
			continue
		}
		if err := r.Text(e.stdout); err != nil {
			return err
		}
		if coverage {
			if err := r.Coverage(e.stdout); err != nil {
				return err
			}
		}
	}
	if output == "json" {
		if err := printJSON(e.stdout, all); err != nil {
			return err
		}
	}
	if junit != "" {
		if err := writeJUnit(junit, all.Reports); err != nil {
			return err
		}
	}
	if !all.Passed {
		return &codeError{code: exitInvalid}
	}
	return nil
}

func writeJUnit(file string, reports []*policytest.Report) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write junit: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("write junit: %w", cerr)
		}
	}()
	return policytest.JUnit(f, reports)
}

// fromRollout writes a test out of a rollout's journal.
func (e *env) fromRollout(ctx context.Context, from *source, id, policy string, args []string) error {
	if len(args) > 0 {
		return usageError("--from-rollout writes a test and runs no FILE")
	}
	r, done, err := from.open(e)
	if err != nil {
		return err
	}
	defer func() { _ = done() }() // a store that was only read
	return e.writeRegression(ctx, r, id, policy)
}

func (e *env) writeRegression(ctx context.Context, r reader, id, policy string) error {
	now, err := r.Rollout(ctx, id)
	if err != nil {
		return err
	}
	plan, err := r.Plan(ctx, id)
	if err != nil {
		return err
	}
	var entries []journal.Entry
	for entry, err := range r.Journal(ctx, id) {
		if err != nil {
			return err
		}
		entries = append(entries, entry)
	}
	if policy == "" {
		policy = plan.Policy.Name + ".yaml"
	}
	last := rollout.State{Phase: now.Phase, Stable: now.Stable,
		Confirmed: &split.Split{Weights: now.Weights.Confirmed}}
	text, err := policytest.Regression(plan, entries, last, policy)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(e.stdout, text)
	return err
}
