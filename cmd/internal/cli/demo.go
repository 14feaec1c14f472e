package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/belayd/belay/cmd/internal/demo"
	"github.com/belayd/belay/rollout/api"
)

func demoCommand() *command {
	return &command{
		name: "demo", short: "Run a whole rollout in a little world on this machine.",
		long: "Two model servers, an endpoint that splits traffic between them, a load, a pager, NATS and belayd\n" +
			"itself, in one process on loopback. A release message starts the rollout. The folder with the policy,\n" +
			"the config, the endpoint's request log and the store is named at the end and kept.\n" +
			"The exit code is the rollout's: 0 promoted, 5 rolled back, 8 held.",
		examples: []string{
			"belay demo                              # a good release is promoted, in about 90 seconds",
			"belay demo --fault failures             # a bad one is rolled back and paged",
			"belay demo --fault no-data --speed 3 --keep /tmp/belay-demo",
		},
		setup: func(f *flags) run {
			names := make([]string, len(demo.Faults))
			for i, x := range demo.Faults {
				names[i] = string(x)
			}
			fault := f.choice("fault", "what goes wrong with the candidate at its 25% step", names...)
			speed := f.Float64("speed", 1, fmt.Sprintf("how many `TIMES` faster: divides the policy's durations (not its interval) and the latencies, multiplies the load; at most %d", demo.MaxSpeed))
			keep := f.file("keep", "keep everything in this `FOLDER`, made when missing")
			return func(ctx context.Context, e *env, _ []string) error {
				return runDemo(ctx, e, *fault, *speed, *keep)
			}
		},
	}
}

func runDemo(ctx context.Context, e *env, fault string, speed float64, keep string) error {
	broken, err := demo.ParseFault(fault)
	if err != nil {
		return usageError("--fault: %w", err)
	}
	fast, err := demo.ParseSpeed(speed)
	if err != nil {
		return usageError("--speed: %w", err)
	}
	dir, err := demo.Folder(keep)
	if err != nil {
		return err
	}
	s := newScreen(e)
	view := func(ctx context.Context, server, id string, _ io.Writer) error {
		defer s.end()
		c, err := api.NewClient(server, &http.Client{}, "")
		if err != nil {
			return err
		}
		_, err = follow(ctx, c, id, s, 0)
		return err
	}
	code, err := demo.Run(ctx, demo.Options{Dir: dir, Fault: broken, Speed: fast}, version(), s, view)
	if err != nil || code != exitOK {
		return &codeError{code, err}
	}
	return nil
}
