package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/policies/policytest"
)

func policyCheckCommand() *command {
	return &command{
		name: "check", args: "FILE...", short: "Say everything that is wrong with policies and their tests, and what " +
			"is unwise.", min: 1, max: -1,
		long: "Errors end with exit code 3; warnings alone are 0.",
		examples: []string{
			"belay policy check recs.yaml --config belayd.yaml", "belay policy check policies/*.yaml --output github " +
				"  # annotations in a pull request",
			"belay policy check recs.yaml --output sarif > belay.sarif",
		},
		setup: func(f *flags) run {
			config := f.policyConfig()
			output := f.choice("output", "how to print", "text", "json", "sarif", "github")
			return func(_ context.Context, e *env, args []string) error {
				env, err := e.environment(*config)
				if err != nil {
					return err
				}
				var all document.Problems
				for _, file := range args {
					dir := filepath.Dir(file)
					all = append(all, below(dir, policytest.Check(folder.At(dir), filepath.Base(file), env))...)
				}
				if err := all.Write(e.stdout, document.Format(*output), policies.Describe); err != nil {
					return err
				}
				if *output == "text" {
					fmt.Fprintf(e.stderr, "%s: %s, %s\n", plural(len(args), "file"), plural(len(all.Errors()), "error"),
						plural(len(all.Warnings()), "warning"))
				}
				if all.HasErrors() {
					return &codeError{code: exitInvalid}
				}
				return nil
			}
		},
	}
}

// plural is a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func policyRenderCommand() *command {
	return &command{
		name: "render", args: "FILE", short: "Write a policy as it runs: every default filled in, each value with " +
			"its origin.", min: 1, max: 1,
		examples: []string{"belay policy render recs.yaml",
			"belay policy render recs.yaml --no-origins > resolved.yaml"},
		setup: func(f *flags) run {
			config := f.policyConfig()
			bare := f.Bool("no-origins", false, "leave the origins out")
			return func(_ context.Context, e *env, args []string) error {
				p, err := e.onePolicy(args[0], *config)
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(e.stdout, p.Render(!*bare))
				return err
			}
		},
	}
}

// A policyDiff is what diff prints as JSON.
type policyDiff struct {
	SchemaVersion int                   `json:"schemaVersion"`
	Looser        bool                  `json:"looser"`
	Changes       []policies.Difference `json:"changes"`
}

func policyDiffCommand() *command {
	return &command{
		name: "diff", args: "OLD NEW", short: "Say in words what a change does to the safety of releases.", min: 2,
		max:      2,
		long:     "Every guardrail, gate and step is LOOSER, TIGHTER, DIFFERENT or SAME.",
		examples: []string{"belay policy diff old.yaml new.yaml --fail-on looser"},
		setup: func(f *flags) run {
			config := f.policyConfig()
			failOn := f.choice("fail-on", "end with exit code 3 when a change is", "never", "looser")
			output := f.choice("output", "how to print", "table", "json", "yaml")
			return func(_ context.Context, e *env, args []string) error {
				from, err := e.onePolicy(args[0], *config)
				if err != nil {
					return err
				}
				to, err := e.onePolicy(args[1], *config)
				if err != nil {
					return err
				}
				return e.printDiff(policies.Diff(from, to), *output, *failOn)
			}
		},
	}
}

func (e *env) printDiff(changes []policies.Difference, output, failOn string) error {
	d := policyDiff{SchemaVersion: 1, Looser: policies.Loosened(changes), Changes: changes}
	var err error
	switch output {
	case "json":
		err = printJSON(e.stdout, d)
	case "yaml":
		err = printYAML(e.stdout, d)
	default:
		colors := map[policies.Direction]string{policies.Looser: red, policies.Tighter: green,
			policies.Different: yellow, policies.Same: faint}
		for _, c := range changes {
			fmt.Fprintln(e.stdout, e.paint(colors[c.Direction], c.String()))
		}
		if !slices.ContainsFunc(changes, func(c policies.Difference) bool { return c.Direction != policies.Same }) {
			fmt.Fprintln(e.stderr, "nothing changed")
		}
	}
	if err == nil && d.Looser && failOn == "looser" {
		return &codeError{code: exitInvalid}
	}
	return err
}

func policySchemaCommand() *command {
	return &command{
		name: "schema", short: "Write the JSON Schema of policies, or of their tests, for editors.", max: 0,
		examples: []string{"belay policy schema > policy.schema.json",
			"belay policy schema --test > policytest.schema.json"},
		setup: func(f *flags) run {
			tests := f.Bool("test", false, "the schema of policy tests")
			return func(_ context.Context, e *env, _ []string) error {
				schema := policies.JSONSchema()
				if *tests {
					schema = policytest.JSONSchema()
				}
				_, err := e.stdout.Write(schema)
				return err
			}
		},
	}
}
