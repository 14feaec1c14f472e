package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/view"
)

// An act is a command that orders something of a rollout.
type act struct {
	verb, short, long string
	// reason: one must be given. gate: it answers an approval. extend: it takes a
	// duration. to: it takes a step.
	reason, gate, extend, to bool
	example                  string
}

func approveCommand() *command {
	return actCommand(act{verb: "approve", short: "Say yes to an approval.", gate: true,
		example: "belay approve ID --gate product-owner"})
}

func rejectCommand() *command {
	return actCommand(act{verb: "reject", short: "Say no to an approval; the rollout is rolled back.", gate: true,
		reason: true, example: "belay reject ID --reason 'wrong week'"})
}

func pauseCommand() *command {
	return actCommand(act{verb: "pause", short: "Stop a rollout where it is; its guardrails go on.", reason: true,
		example: "belay pause ID --reason 'incident elsewhere'"})
}

func resumeCommand() *command {
	return actCommand(act{verb: "resume", short: "Let a paused, held or suspect rollout go on.", reason: true,
		long: "After a breach that held, resume restarts the broken guardrail's evidence and is journalled as an " +
			"override.", example: "belay resume ID --reason 'the alert was a deploy of the exporter'"})
}

func rollbackCommand() *command {
	return actCommand(act{verb: "rollback", short: "Put the stable deployment back to 100%.", reason: true,
		long:    "Repeated, it overwrites a split that somebody else made.",
		example: "belay rollback ID --reason 'customers complain'"})
}

func promoteCommand() *command {
	return actCommand(act{verb: "promote", short: "End this step's wait: its bake, an undecided guardrail, a hold.",
		reason: true,
		long:   "It opens no approval and no window.", example: "belay promote ID --reason 'the night has too little " +
			"traffic to decide'"})
}

func skipCommand() *command {
	return actCommand(act{verb: "skip", short: "End this step's wait and leave out the steps before another one.",
		reason: true, to: true,
		long: "It opens no approval and no window: those of the steps that are left out are needed all the same. " +
			"The guardrails go on.",
		example: "belay skip ID --to full --reason 'a fix that cannot wait'"})
}

func extendCommand() *command {
	return actCommand(act{verb: "extend", short: "Lengthen this step's bake.", reason: true, extend: true,
		long:    "A bake that is over goes on from now. It ends no hold and no pause: see resume.",
		example: "belay extend ID --by 30m --reason 'wait for the batch job'"})
}

func ackCommand() *command {
	return actCommand(act{verb: "ack", short: "Acknowledge a page: say that you have taken charge.",
		long:    "It moves nothing and ends no hold; everybody whom the page reached sees who has it.",
		example: "belay ack ID --reason 'looking into it'"})
}

// left says what an order has not done that one may have hoped for.
func (e *env) left(verb string, r view.Rollout) string {
	switch {
	case verb == "promote" && r.Phase == rollout.PhaseWaiting:
		return "it opens no approval and no window; the rollout still waits for " + e.told(r.WaitingFor)
	case verb != "extend" || r.Phase != rollout.PhaseHeld && r.Phase != rollout.PhasePaused &&
		r.Phase != rollout.PhaseSuspect:
		return ""
	case r.WaitingFor != "a person":
		return fmt.Sprintf("the bake is longer; the rollout stays %s and waits for %s", r.Phase, e.told(r.WaitingFor))
	}
	return fmt.Sprintf("the bake is longer, but the rollout stays %s: `%s` lets it go on", r.Phase,
		e.belay("resume", r.ID, "--reason '…'"))
}

func actCommand(a act) *command {
	return &command{
		name: a.verb, args: "ID", short: a.short, long: a.long, examples: []string{a.example}, min: 1, max: 1,
		setup: func(f *flags) run {
			conn := f.connection()
			in := api.Act{}
			f.StringVar(&in.Reason, "reason", "", "`WHY`; it is journalled")
			if a.gate {
				f.StringVar(&in.Gate, "gate", "", "`NAME` of the approval; may be left out when one is open")
			}
			if a.to {
				f.StringVar(&in.To, "to", "", "`STEP` that comes next")
			}
			by := new(time.Duration)
			if a.extend {
				by = f.Duration("by", 0, "how much longer, a `DURATION` like 30m")
			}
			key := f.String("idempotency-key", "", "the same `KEY` is the same act")
			output := f.choice("output", "how to print", "table", "json", "yaml", "name")
			return func(ctx context.Context, e *env, args []string) error {
				switch {
				case a.reason && in.Reason == "":
					return usageError("--reason: say why; it is journalled")
				case a.to && in.To == "":
					return usageError("--to: want the name of a later step; belay status shows them")
				case a.extend && *by <= 0:
					return usageError("--by: want a duration like 30m")
				case a.extend:
					in.Extend = by.String()
				}
				if *key == "" {
					*key = rand.Text()
				}
				c, err := conn.client(e)
				if err != nil {
					return err
				}
				r, err := c.Act(ctx, args[0], a.verb, *key, in)
				if err != nil {
					return err
				}
				if note := e.left(a.verb, r); note != "" {
					fmt.Fprintf(e.stderr, "belay %s: %s\n", a.verb, note)
				}
				return e.print(*output, r, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s is %s: %s\n", r.ID, e.phase(r.Phase), e.told(r.Sentence))
					return err
				}, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, r.ID)
					return err
				})
			}
		},
	}
}
