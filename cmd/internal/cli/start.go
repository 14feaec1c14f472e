package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/api"
)

// policyMax bounds a policy that is sent along, in bytes.
const policyMax = 256 << 10

func startCommand() *command {
	return &command{
		name: "start", short: "Start a rollout.",
		long: "Without --wait it returns when the rollout is durable. With it the rollout's progress goes to standard error,\n" +
			"after its id and the way back; standard output has the outcome alone: with --output json one document, the\n" +
			"rollout and the exit code as `exit`. --policy takes the name of a policy that\n" +
			"belayd has, or a file (something with a / or ending in .yaml), which needs the role admin: its text\n" +
			"is journalled. The same --idempotency-key is the same rollout.",
		examples: []string{
			"belay start --policy recommendations --candidate green --version 2026.11.2",
			"belay start --policy recommendations --candidate green --version 2026.11.2 --wait --timeout 4h",
			"belay start --policy recommendations --candidate green --version 2026.11.2 --wait --output json > rollout.json",
		},
		setup: func(f *flags) run {
			conn := f.connection()
			var in api.StartRequest
			policy := f.named("POLICY", "policy", "`NAME` of a policy, or a file")
			f.StringVar(&in.Candidate, "candidate", "", "`DEPLOYMENT` to release")
			f.StringVar(&in.Version, "version", "", "`VERSION` that it serves")
			f.StringVar(&in.RequestedBy, "requested-by", "", "on behalf of `WHOM`")
			f.StringVar(&in.Artifact, "artifact", "", "`ID` of the artifact, for events")
			f.StringVar(&in.Environment, "environment", "", "`NAME` of the environment, for events")
			labels := f.String("labels", "", "`K=V,…` for people and events")
			wait := f.Bool("wait", false, "follow the rollout to its end; the exit code is the rollout's")
			timeout := f.Duration("timeout", 0, "with --wait: stop waiting after this `DURATION`; exit code 7")
			key := f.String("idempotency-key", "", "the same `KEY` is the same rollout (a new one each time)")
			output := f.choice("output", "how to print", "table", "json", "yaml", "name")
			return func(ctx context.Context, e *env, _ []string) error {
				if *policy == "" || in.Candidate == "" || in.Version == "" {
					return usageError("want --policy, --candidate and --version")
				}
				if *timeout != 0 && !*wait {
					return usageError("--timeout: only with --wait")
				}
				var err error
				if in.Labels, err = pairs(*labels); err != nil {
					return err
				}
				if err := setPolicy(&in, *policy); err != nil {
					return err
				}
				if *key == "" {
					*key = rand.Text()
				}
				c, err := conn.client(e)
				if err != nil {
					return err
				}
				return start(ctx, e, c, *key, in, *wait, *timeout, *output)
			}
		},
	}
}

// start asks for the rollout, prints it and, if wanted, follows it.
func start(ctx context.Context, e *env, c *api.Client, key string, in api.StartRequest, wait bool, timeout time.Duration, output string) error {
	r, created, err := c.Start(ctx, key, in)
	if err != nil {
		return err
	}
	word := "started"
	if !created {
		word = "was started before"
	}
	said := fmt.Sprintf("%s %s: %s %s of %s\nfollow     %s\nroll back  %s\n", r.ID, word, safe(r.Candidate), safe(r.Version), safe(r.Policy),
		e.belay("watch", r.ID), e.belay("rollback", r.ID, "--reason '…'"))
	switch {
	case !wait && output == "table":
		_, err := io.WriteString(e.stdout, said)
		return err
	case !wait:
		return e.printOutcome(output, r, exitOK)
	}
	// A job that is cut off here has left the id and the way back in its log.
	fmt.Fprint(e.stderr, said)
	if output == "table" && e.tty {
		_, err = watch(ctx, e, c, r.ID, timeout)
		return err
	}
	return await(ctx, e, c, r.ID, timeout, output)
}

// setPolicy tells a policy's name from a file.
func setPolicy(in *api.StartRequest, policy string) error {
	if !strings.ContainsAny(policy, `/\`) && !strings.HasSuffix(policy, ".yaml") && !strings.HasSuffix(policy, ".yml") {
		in.Policy = policy
		return nil
	}
	info, err := os.Stat(policy)
	if err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	if info.Size() > policyMax {
		return fmt.Errorf("read policy %s: it has %d bytes, at most %d are allowed", policy, info.Size(), policyMax)
	}
	text, err := os.ReadFile(policy)
	if err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	in.PolicyText = string(text)
	return nil
}

// pairs reads K=V,….
func pairs(s string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	out := map[string]string{}
	for p := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, usageError("--labels: want K=V,… (got %q)", p)
		}
		out[k] = v
	}
	return out, nil
}
