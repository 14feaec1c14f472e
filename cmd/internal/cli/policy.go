package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
)

func policyCommand() *command {
	return &command{
		name: "policy", short: "Check, render, test and compare policies; list and show those in force.",
		sub: []*command{policyListCommand(), policyShowCommand(), policyCheckCommand(), policyRenderCommand(),
			policyTestCommand(), policyDiffCommand(),
			policySchemaCommand()},
	}
}

// policyConfig declares --config for commands that read policies.
func (f *flags) policyConfig() *string {
	return f.file("config", "belayd's config `FILE`: what it defines may be named; without it such names are warnings")
}

// environment is what a config file defines; nil without one. Problems of the
// file end the command.
func (e *env) environment(file string) (*policies.Environment, error) {
	if file == "" {
		return nil, nil
	}
	c, err := config.Read(file)
	if ps, ok := errors.AsType[*config.ProblemsError](err); ok {
		fmt.Fprint(e.stderr, ps.Problems.Text())
		return nil, &codeError{code: exitInvalid}
	} else if err != nil {
		return nil, err
	}
	return c.Environment(), nil
}

// readPolicy parses one file; the problems name files as they were given.
func readPolicy(file string, env *policies.Environment) (*policies.Policy, document.Problems) {
	dir := filepath.Dir(file)
	p, ps := policies.Parse(folder.At(dir), filepath.Base(file), env)
	return p, below(dir, ps)
}

// below puts a folder before the files of problems.
func below(dir string, ps document.Problems) document.Problems {
	for i := range ps {
		ps[i].File = filepath.Join(dir, ps[i].File)
	}
	return ps
}

// onePolicy reads a policy for commands that need a good one: its problems go to
// standard error and errors end the command.
func (e *env) onePolicy(file, config string) (*policies.Policy, error) {
	env, err := e.environment(config)
	if err != nil {
		return nil, err
	}
	p, ps := readPolicy(file, env)
	if p == nil {
		fmt.Fprint(e.stderr, ps.Text())
		return nil, &codeError{code: exitInvalid}
	}
	return p, nil
}

// compiled reads a policy and compiles it for a candidate.
func (e *env) compiled(file, config, candidate string) (*policies.Policy, *rollout.Plan, error) {
	p, err := e.onePolicy(file, config)
	if err != nil {
		return nil, nil, err
	}
	plan, err := p.Compile(rollout.Release{Policy: p.Document.Metadata.Name, Candidate: candidate}, "plan")
	if errors.Is(err, policies.ErrUnresolved) && config == "" {
		return nil, nil, &codeError{exitInvalid, fmt.Errorf("%w; belayd's config defines it: add --config FILE", err)}
	} else if err != nil {
		return nil, nil, &codeError{exitInvalid, err}
	}
	return p, plan, nil
}

func policyListCommand() *command {
	return &command{
		name: "list", short: "List the policies in force.",
		examples: []string{"belay policy list", "belay policy list --output name"},
		setup: asking(func(ctx context.Context, c *api.Client, _ []string) (api.PolicyList, error) {
			return c.Policies(ctx)
		}, (*env).printPolicies),
	}
}

func policyShowCommand() *command {
	return &command{
		name: "show", args: "POLICY", short: "Show a policy in force as it runs, each value with its origin.", min: 1,
		max:      1,
		examples: []string{"belay policy show recs", "belay policy show recs > in-force.yaml   # and belay policy diff"},
		setup: asking(func(ctx context.Context, c *api.Client, args []string) (api.PolicyDetail, error) {
			return c.Policy(ctx, args[0])
		}, (*env).printPolicy),
	}
}

func (e *env) printPolicies(output string, l api.PolicyList) error {
	return e.print(output, l, func(w io.Writer) error {
		t := &table{}
		t.add("POLICY", "ENDPOINT", "OWNER", "FILE", "HASH")
		for _, p := range l.Policies {
			t.add(safe(p.Name), safe(p.Endpoint.Router+"/"+p.Endpoint.Name), safe(p.Owner), safe(p.File),
				p.Hash[:min(len(p.Hash), 12)])
		}
		return t.print(w)
	}, func(w io.Writer) error {
		for _, p := range l.Policies {
			fmt.Fprintln(w, safe(p.Name))
		}
		return nil
	})
}

func (e *env) printPolicy(output string, p api.PolicyDetail) error {
	return e.print(output, p, func(w io.Writer) error {
		_, err := fmt.Fprint(w, p.Text)
		return err
	}, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, safe(p.Policy.Name))
		return err
	})
}
