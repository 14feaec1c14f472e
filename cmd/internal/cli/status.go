package cli

import (
	"context"
	"fmt"
	"io"
)

func statusCommand() *command {
	return &command{
		name: "status", args: "ID", short: "Show a rollout as it is now.", min: 1, max: 1,
		long: "The exit code is the rollout's: 0 promoted, 8 still running, waiting or held, and so on.",
		examples: []string{
			"belay status kq3x7m2p5j4dhz6wvnra",
			"belay status ID --output json | jq .weights.confirmed",
		},
		setup: func(f *flags) run {
			from := f.source()
			output := f.choice("output", "how to print", "table", "json", "yaml", "name")
			return func(ctx context.Context, e *env, args []string) error {
				r, done, err := from.open(e)
				if err != nil {
					return err
				}
				defer func() { _ = done() }() // a store that was only read
				x, err := r.Rollout(ctx, args[0])
				if err != nil {
					return err
				}
				err = e.print(*output, x, func(w io.Writer) error {
					s := screen{env: e, width: e.textWidth()}
					for _, l := range s.lines(x, nil) {
						fmt.Fprintln(w, l)
					}
					return nil
				}, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, x.ID)
					return err
				})
				if err != nil {
					return err
				}
				return ended(x)
			}
		},
	}
}
