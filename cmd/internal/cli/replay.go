package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/cmd/internal/version"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/decision"
)

func replayCommand() *command {
	return &command{
		name: "replay", args: "ID", short: "Fold a rollout's journal again and compare.", min: 1, max: 1,
		long: "The same version on the same architecture must give the same states. Where states differ, the\n" +
			"decisions are compared and differences named. With --policy the recorded events are folded under\n" +
			"another policy, up to the first decision that it would have taken differently: from there on the\n" +
			"readings would have been others.",
		examples: []string{"belay replay ID", "belay replay ID --policy stricter.yaml",
			"belay replay ID --store belay.db"},
		setup: func(f *flags) run {
			from := f.source()
			policy := f.file("policy", "fold under the policy in `FILE`")
			config := f.policyConfig()
			output := f.choice("output", "how to print", "table", "json", "yaml")
			return func(ctx context.Context, e *env, args []string) error {
				r, done, err := from.open(e)
				if err != nil {
					return err
				}
				defer func() { _ = done() }() // a store that was only read
				names, err := e.environment(*config)
				if err != nil {
					return err
				}
				return replay(ctx, e, r, args[0], *policy, names, *output)
			}
		},
	}
}

// A replayed is what a replay found.
type replayed struct {
	SchemaVersion int    `json:"schemaVersion"`
	Rollout       string `json:"rollout"`
	Policy        string `json:"policy,omitempty"`
	Entries       int    `json:"entries"`
	// States counts the entries whose state came out the same.
	States int `json:"states"`
	// Same: nothing that was decided differs.
	Same        bool       `json:"same"`
	Differences []differed `json:"differences"`
}

// A differed is an entry that came out differently.
type differed struct {
	Seq      int                 `json:"seq"`
	What     string              `json:"what"`
	Recorded []decision.Decision `json:"recorded,omitempty"`
	Replayed []decision.Decision `json:"replayed,omitempty"`
}

func replay(
	ctx context.Context, e *env, r reader, id, policy string, names *policies.Environment, output string,
) error {
	plan, err := r.Plan(ctx, id)
	if err != nil {
		return err
	}
	other := plan
	if policy != "" {
		if other, err = planFrom(policy, names, plan); err != nil {
			return err
		}
	}
	out, err := refold(ctx, r, plan, other, policy != "")
	if err != nil {
		return err
	}
	out.Policy = policy
	err = e.print(output, out, func(w io.Writer) error { return replayText(e, w, out) }, nil)
	if err == nil && !out.Same {
		return &codeError{code: exitError}
	}
	return err
}

// planFrom compiles a policy's file for a recorded release; names is what
// belayd's config defines, nil without one.
func planFrom(file string, names *policies.Environment, recorded *rollout.Plan) (*rollout.Plan, error) {
	p, ps := policies.Parse(folder.At(filepath.Dir(file)), filepath.Base(file), names)
	if p == nil {
		return nil, &codeError{exitInvalid, fmt.Errorf("policy %s is not valid\n%w", file, ps.Err())}
	}
	plan, err := p.Compile(recorded.Release, recorded.ID)
	if err != nil {
		if names == nil {
			err = fmt.Errorf("%w; what belayd's config defines is found with --config FILE", err)
		}
		return nil, &codeError{exitInvalid, fmt.Errorf("policy %s: %w", file, err)}
	}
	return plan, nil
}

// refold folds the journal under the recorded plan and the other, which may be
// the same, and compares what comes out with what was recorded.
func refold(ctx context.Context, r reader, plan, other *rollout.Plan, stop bool) (replayed, error) {
	out := replayed{SchemaVersion: api.SchemaVersion, Rollout: plan.ID, Same: true, Differences: []differed{}}
	var was, is rollout.State
	for entry, err := range r.Journal(ctx, plan.ID) {
		if err != nil {
			return out, err
		}
		out.Entries++
		var decisions []decision.Decision
		for i, ev := range entry.Events {
			if entry.Seq == 1 && i == 0 {
				was, is = rollout.Start(plan, ev.At), rollout.Start(other, ev.At)
			}
			if mine, ok := addressed(was, is, ev); ok {
				is = rollout.Next(other, is, mine)
				decisions = append(decisions, is.Last.Decisions...)
			}
			was = rollout.Next(plan, was, ev)
		}
		hash, err := stateHash(is)
		if err != nil {
			return out, err
		}
		same := slices.EqualFunc(entry.Decisions, decisions, sameDecision)
		switch {
		case same && hash == entry.State:
			out.States++
		case same && !stop:
			out.Differences = append(out.Differences, differed{Seq: entry.Seq,
				What: "the state differs, the decisions do not"})
			out.Same = out.Same && entry.Version != version.Of()
		case !same:
			out.Same = false
			out.Differences = append(out.Differences, differed{Seq: entry.Seq, What: "the decisions differ",
				Recorded: entry.Decisions, Replayed: decisions})
			if stop {
				return out, nil
			}
		}
	}
	return out, nil
}

// addressed gives an answer to the effect that wants it in another state: the
// one with the same id, else the same kind and purpose. It reports false when
// nothing there wants the answer.
func addressed(was, is rollout.State, ev rollout.Event) (rollout.Event, bool) {
	if ev.Effect == "" || slices.ContainsFunc(is.Outbox, func(f rollout.Effect) bool { return f.ID == ev.Effect }) {
		return ev, true
	}
	i := slices.IndexFunc(was.Outbox, func(f rollout.Effect) bool { return f.ID == ev.Effect })
	if i < 0 {
		return ev, true // nobody wanted it then either
	}
	answered := was.Outbox[i]
	j := slices.IndexFunc(is.Outbox, func(f rollout.Effect) bool {
		return f.Kind == answered.Kind &&
			f.Key == answered.Key
	})
	if j < 0 {
		return ev, false
	}
	ev.Effect, ev.Attempt = is.Outbox[j].ID, is.Outbox[j].Attempt
	return ev, true
}

// sameDecision compares what was decided, not how it was worded.
func sameDecision(a, b decision.Decision) bool {
	split := (a.Split == nil) == (b.Split == nil) && (a.Split == nil || a.Split.Equal(*b.Split))
	return a.Kind == b.Kind && a.Step == b.Step && a.Guardrail == b.Guardrail && a.Gate == b.Gate &&
		a.Reason == b.Reason && a.By == b.By && split
}

func stateHash(s rollout.State) (string, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encode state: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

func replayText(e *env, w io.Writer, out replayed) error {
	for _, d := range out.Differences {
		fmt.Fprintf(w, "entry %d: %s\n", d.Seq, d.What)
		for _, x := range d.Recorded {
			fmt.Fprintf(w, "    recorded  %s %s\n", e.paint(bold, string(x.Kind)), safe(x.Sentence))
		}
		if d.What == "the decisions differ" && len(d.Recorded) == 0 {
			fmt.Fprintln(w, "    recorded  nothing was decided")
		}
		for _, x := range d.Replayed {
			fmt.Fprintf(w, "    replayed  %s %s\n", e.paint(bold, string(x.Kind)), safe(x.Sentence))
		}
		if d.What == "the decisions differ" && len(d.Replayed) == 0 {
			fmt.Fprintln(w, "    replayed  nothing is decided")
		}
	}
	what := "states"
	if out.Policy != "" {
		_, err := fmt.Fprintf(w, "%s under %s: %s\n", out.Rollout, safe(out.Policy), map[bool]string{
			true:  fmt.Sprintf("the same decisions in all %d entries", out.Entries),
			false: fmt.Sprintf("other decisions from entry %d on", out.Entries),
		}[out.Same])
		return err
	}
	_, err := fmt.Fprintf(w, "%s: %d of %d %s are the same%s\n", out.Rollout, out.States, out.Entries, what,
		map[bool]string{true: "", false: "; MISMATCH"}[out.Same])
	return err
}
