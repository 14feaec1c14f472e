package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/belayd/belay/cmd/internal/demo"
	"github.com/belayd/belay/cmd/internal/version"
	"github.com/belayd/belay/rollout/api"
)

func demoCommand() *command {
	return &command{
		name: "demo", short: "Run a whole rollout in a little world on this machine.",
		long: "Two model servers, an endpoint that splits traffic between them, a load, a pager, NATS and belayd\n" +
			"itself, in one process on loopback. A release message starts the rollout. The folder with the policy,\n" +
			"the config, the endpoint's request log and the store is named at the end and kept.\n" +
			"The exit code is the rollout's: 0 promoted, 5 rolled back, 6 rejected, 8 held.\n\n" +
			"With --router azureml an emulator of Azure Resource Manager stands in front of the endpoint: a change of\n" +
			"the weights is a write of the whole resource and takes a while to come into effect. The folder then also\n" +
			"keeps every write with its raw body.\n\n" +
			"With --approve ask the policy has an approval before the 60% step, and you answer it: y or n and Enter,\n" +
			"or belay approve in another terminal. It needs a terminal. With auto nobody is asked.",
		examples: []string{
			"belay demo                              # a good release is promoted, in about 90 seconds",
			"belay demo --fault failures             # a bad one is rolled back and paged",
			"belay demo --fault no-data --speed 3 --keep /tmp/belay-demo",
			"belay demo --router azureml --fault foreign-change",
			"belay demo --approve ask                # you are the product owner",
		},
		setup: func(f *flags) run {
			names := make([]string, len(demo.Faults))
			for i, x := range demo.Faults {
				names[i] = string(x)
			}
			fault := f.choice("fault", "what goes wrong with the candidate at its 25% step", names...)
			speed := f.Float64("speed", 1, fmt.Sprintf("how many `TIMES` faster: divides the policy's durations (not "+
				"its interval) and the latencies, multiplies the load; at most %d", demo.MaxSpeed))
			keep := f.file("keep", "keep everything in this `FOLDER`, made when missing")
			routers := make([]string, len(demo.Routers))
			for i, x := range demo.Routers {
				routers[i] = string(x)
			}
			router := f.choice("router", "what moves the weights", routers...)
			approve := f.choice("approve", "whether a person is asked before the 60% step", "auto", "ask")
			return func(ctx context.Context, e *env, _ []string) error {
				o, err := demoOptions(*fault, *speed)
				if err != nil {
					return err
				}
				o.Router = demo.Router(*router)
				return runDemo(ctx, e, o, *approve == "ask", *keep)
			}
		},
	}
}

// demoOptions checks what flags say.
func demoOptions(fault string, speed float64) (o demo.Options, err error) {
	if o.Fault, err = demo.ParseFault(fault); err != nil {
		return o, usageError("--fault: %w", err)
	}
	if o.Speed, err = demo.ParseSpeed(speed); err != nil {
		return o, usageError("--speed: %w", err)
	}
	return o, nil
}

func runDemo(ctx context.Context, e *env, o demo.Options, ask bool, keep string) error {
	s := newScreen(e)
	if ask {
		answers, err := e.answers(s)
		if err != nil {
			return err
		}
		defer func() { _ = answers.Close() }() // mostly the demo has closed it
		o.Answers = answers
	}
	var err error
	if o.Dir, err = demo.Folder(keep); err != nil {
		return err
	}
	view := func(ctx context.Context, server, id string, _ io.Writer) error {
		defer s.end()
		e.reach = " --server " + server
		c, err := api.NewClient(server, &http.Client{}, "")
		if err != nil {
			return err
		}
		_, err = follow(ctx, c, id, s, 0)
		return err
	}
	code, err := demo.Run(ctx, o, version.Of(), s, view)
	if err != nil || code != exitOK {
		return &codeError{code, err}
	}
	return nil
}
