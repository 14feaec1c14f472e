package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/view"
)

func endpointCommand() *command {
	return &command{
		name: "endpoint", short: "Look at endpoints and who may move them.",
		sub: []*command{
			{
				name: "list", short: "List the endpoints that routers show.", examples: []string{"belay endpoint list"},
				setup: asking(func(ctx context.Context, c *api.Client, _ []string) (api.EndpointList, error) {
					return c.Endpoints(ctx)
				}, (*env).printEndpoints),
			},
			{
				name: "show", args: "ENDPOINT", short: "Show one endpoint: a name, or router/name.", min: 1, max: 1,
				long: "It shows the traffic, the deployments, what the endpoint does not tell (by field name: checks " +
					"that need it\n" +
					"fail), and for each deployment the command that gives it all the traffic without Belay.",
				examples: []string{"belay endpoint show edge/recs", "belay endpoint show recs --output json"},
				setup: func(f *flags) run {
					conn := f.connection()
					output := f.choice("output", "how to print", "table", "json", "yaml", "name")
					return func(ctx context.Context, e *env, args []string) error {
						l, err := described(ctx, e, conn, args[0])
						if err != nil {
							return err
						}
						return e.printEndpoint(*output, l)
					}
				},
			},
		},
	}
}

// matching finds the one endpoint that a name means.
func matching(l api.EndpointList, name string) (rollout.EndpointRef, error) {
	router, short, both := strings.Cut(name, "/")
	if !both {
		router, short = "", name
	}
	var found []rollout.EndpointRef
	for _, x := range l.Endpoints {
		if x.Name == short && (router == "" || x.Router == router) {
			found = append(found, rollout.EndpointRef{Router: x.Router, Name: x.Name})
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return rollout.EndpointRef{}, fmt.Errorf("endpoint %s: no router shows it (belay endpoint list)", name)
	}
	return rollout.EndpointRef{}, fmt.Errorf("endpoint %s: several routers show it; write %s/%s", name,
		found[0].Router, name)
}

func (e *env) printEndpoints(output string, l api.EndpointList) error {
	return e.print(output, l, func(w io.Writer) error {
		t := &table{}
		t.add("ENDPOINT", "WEIGHTS", "ROLLOUT", "QUEUE", "COOLDOWNS", "")
		for _, x := range l.Endpoints {
			var cool []string
			for _, v := range slices.Sorted(maps.Keys(x.Cooldowns)) {
				if left := x.Cooldowns[v].Sub(e.now()); left > 0 {
					cool = append(cool, fmt.Sprintf("%s %s", v, view.Span(left)))
				}
			}
			split := weights(x.Weights, "")
			if x.Error != "" {
				split = "unknown"
			}
			t.add(safe(x.Router+"/"+x.Name), split, orDash(x.Active), orDash(strings.Join(x.Queue, ", ")),
				orDash(safe(strings.Join(cool, ", "))), e.paint(red, safe(x.Error)))
		}
		return t.print(w)
	}, func(w io.Writer) error {
		for _, x := range l.Endpoints {
			fmt.Fprintln(w, x.Router+"/"+x.Name)
		}
		return nil
	})
}

func cooldownCommand() *command {
	return &command{
		name: "cooldown", short: "End cooldowns of versions that were rolled back.",
		sub: []*command{{
			name: "clear", args: "ENDPOINT", short: "Let a version that was rolled back be released again.", min: 1,
			max:      1,
			long:     "Without --version the cooldowns of all versions end. Who did it, and why, is on record.",
			examples: []string{"belay cooldown clear edge/recs --version 2026.11.2 --reason 'it was the database'"},
			setup: func(f *flags) run {
				conn := f.connection()
				v := f.String("version", "", "only of this `VERSION`")
				why := f.String("reason", "", "`WHY`; it is on record")
				return func(ctx context.Context, e *env, args []string) error {
					if *why == "" {
						return usageError("--reason: say why; it is on record")
					}
					c, err := conn.client(e)
					if err != nil {
						return err
					}
					router, name, both := strings.Cut(args[0], "/")
					ref := rollout.EndpointRef{Router: router, Name: name}
					if !both {
						l, err := c.Endpoints(ctx)
						if err != nil {
							return err
						}
						if ref, err = matching(l, args[0]); err != nil {
							return err
						}
					}
					if err := c.ClearCooldown(ctx, ref, *v, *why); err != nil {
						return err
					}
					fmt.Fprintf(e.stderr, "%s/%s has no cooldown%s any more\n", ref.Router, ref.Name,
						map[bool]string{true: "s", false: " of " + *v}[*v == ""])
					return nil
				}
			},
		}},
	}
}
