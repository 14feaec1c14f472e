package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/belayd/belay/rollout/report"
)

func reportCommand() *command {
	return &command{
		name: "report", args: "ID", short: "Write what a rollout was: a postmortem out of its journal alone.", min: 1, max: 1,
		long: "What happened and who did it, since when a fault could be seen, what it cost against what the next step\n" +
			"would have cost, and who was told and answered when.",
		examples: []string{"belay report ID > postmortem.md", "belay report ID --output json | jq .fault",
			"belay report ID --store /var/lib/belay/belay.db"},
		setup: func(f *flags) run {
			from := f.source()
			output := f.choice("output", "how to print", "markdown", "json", "yaml")
			return func(ctx context.Context, e *env, args []string) error {
				r, done, err := from.open(e)
				if err != nil {
					return err
				}
				defer func() { _ = done() }() // a store that was only read
				plan, err := r.Plan(ctx, args[0])
				if err != nil {
					return err
				}
				x, err := report.Of(plan, r.Journal(ctx, args[0]))
				if err != nil {
					return err
				}
				return e.print(*output, x, func(w io.Writer) error {
					_, err := fmt.Fprint(w, x.Markdown())
					return err
				}, nil)
			}
		},
	}
}
