package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/view"
)

// policyMax bounds a policy that is sent along, in bytes.
const policyMax = 256 << 10

func startCommand() *command {
	return &command{
		name: "start", short: "Start a rollout.",
		long: "Without --wait it returns when the rollout is durable. With it the rollout's progress goes to " +
			"standard error,\n" +
			"after its id and the way back; standard output has the outcome alone: with --output json one document, the\n" +
			"rollout and the exit code as `exit`. --policy takes the name of a policy that\n" +
			"belayd has, or a file (something with a / or ending in .yaml), which needs the role admin: its text\n" +
			"is journalled. The same --idempotency-key is the same rollout.",
		examples: []string{
			"belay start --policy recommendations --candidate green --version 2026.11.2",
			"belay start --policy recommendations --candidate green --version 2026.11.2 --wait --timeout 4h",
			"belay start --policy recommendations --candidate green --version 2026.11.2 --wait --output json > " +
				"rollout.json",
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
			begin := f.begin()
			return func(ctx context.Context, e *env, _ []string) error {
				if *policy == "" || in.Candidate == "" || in.Version == "" {
					return usageError("want --policy, --candidate and --version")
				}
				var err error
				if in.Labels, err = pairs(*labels); err != nil {
					return err
				}
				if err := setPolicy(&in, *policy); err != nil {
					return err
				}
				return begin.run(ctx, e, conn, func(c *api.Client, key string) (view.Rollout, bool, error) {
					return c.Start(ctx, key, in)
				})
			}
		},
	}
}

func undoCommand() *command {
	return &command{
		name: "undo", args: "ID", short: "Take a promoted rollout back: a new one releases what was stable before.",
		min: 1, max: 1,
		long: "The new rollout goes up the same policy's ladder under its guardrails, as they were then. With --now " +
			"all traffic\n" +
			"goes back in one step, with neither gate, window nor guardrail. It takes the role operate. What was " +
			"undone is in its\n" +
			"cooldown afterwards. While another rollout has the endpoint, or where that deployment is gone, nothing " +
			"is started.",
		examples: []string{
			"belay undo kq3x7m2p5j4dhz6wvnra --reason 'orders are missing' --now",
			"belay undo ID --reason 'slower on Mondays' --wait",
		},
		setup: func(f *flags) run {
			conn := f.connection()
			f.ended = true
			var in api.UndoRequest
			f.StringVar(&in.Reason, "reason", "", "`WHY`; it is journalled")
			f.BoolVar(&in.Now, "now", false, "in one step, without the ladder")
			begin := f.begin()
			return func(ctx context.Context, e *env, args []string) error {
				if in.Reason == "" {
					return usageError("--reason: say why; it is journalled")
				}
				return begin.run(ctx, e, conn, func(c *api.Client, key string) (view.Rollout, bool, error) {
					return c.Undo(ctx, args[0], key, in)
				})
			}
		},
	}
}

func retryCommand() *command {
	return &command{
		name: "retry", args: "ID", short: "Start the release of a rollout that has ended once more.", min: 1, max: 1,
		long: "The policy is taken as it is now. A version in its cooldown is refused: `belay cooldown clear` ends that.",
		examples: []string{
			"belay retry kq3x7m2p5j4dhz6wvnra",
			"belay retry ID --wait --timeout 4h",
		},
		setup: func(f *flags) run {
			conn, begin := f.connection(), f.begin()
			f.ended = true
			return func(ctx context.Context, e *env, args []string) error {
				return begin.run(ctx, e, conn, func(c *api.Client, key string) (view.Rollout, bool, error) {
					return c.Retry(ctx, args[0], key)
				})
			}
		},
	}
}

// A beginning is how a command that starts a rollout goes on.
type beginning struct {
	wait        *bool
	timeout     *time.Duration
	key, output *string
}

// begin declares the flags of a command that starts a rollout.
func (f *flags) begin() beginning {
	return beginning{
		wait:    f.Bool("wait", false, "follow the rollout to its end; the exit code is the rollout's"),
		timeout: f.Duration("timeout", 0, "with --wait: stop waiting after this `DURATION`; exit code 7"),
		key:     f.String("idempotency-key", "", "the same `KEY` is the same rollout (a new one each time)"),
		output:  f.choice("output", "how to print", "table", "json", "yaml", "name"),
	}
}

// run asks for the rollout, prints it and, if wanted, follows it.
func (b beginning) run(
	ctx context.Context, e *env, conn *connection, ask func(*api.Client, string) (view.Rollout, bool, error),
) error {
	wait, timeout, output := *b.wait, *b.timeout, *b.output
	if timeout != 0 && !wait {
		return usageError("--timeout: only with --wait")
	}
	c, err := conn.client(e)
	if err != nil {
		return err
	}
	r, created, err := ask(c, cmp.Or(*b.key, rand.Text()))
	if err != nil {
		return err
	}
	word := "started"
	if !created {
		word = "was started before"
	}
	said := fmt.Sprintf("%s %s: %s %s of %s\nfollow     %s\nroll back  %s\n", r.ID, word, safe(r.Candidate),
		safe(r.Version), safe(r.Policy),
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
