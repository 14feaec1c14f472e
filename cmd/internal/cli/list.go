package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/view"
)

func listCommand() *command {
	return &command{
		name: "list", short: "List rollouts, the newest first.",
		examples: []string{
			"belay list --phase open                 # what runs, waits or is held",
			"belay list --endpoint edge/recs --limit 5",
			"belay list --phase open --output name | xargs -n1 belay status",
		},
		setup: func(f *flags) run {
			from := f.source()
			endpoint := f.named("ENDPOINT", "endpoint", "only of this endpoint: a `NAME`, or router/name")
			phase := f.named("PHASES", "phase", "only in these `PHASES`, with commas; open: all that have not ended")
			owner := f.String("owner", "", "only of these `OWNERS`, with commas")
			limit := f.Int("limit", 50, "at most `N`; 0 is all")
			output := f.choice("output", "how to print", "table", "json", "yaml", "name")
			return func(ctx context.Context, e *env, _ []string) error {
				if *limit < 0 {
					return usageError("--limit: want 0 or more (got %d)", *limit)
				}
				for _, p := range words(*phase) {
					if p != "open" && !slices.Contains(rollout.Phases, rollout.Phase(p)) {
						return usageError("--phase: there is no phase %q; there are open, %s", p, phaseNames())
					}
				}
				return list(ctx, e, from, api.Filter{Endpoint: *endpoint, Phases: words(*phase), Owners: words(*owner)},
					*limit, *output)
			}
		},
	}
}

// phaseNames lists the phases.
func phaseNames() string {
	var names []string
	for _, p := range rollout.Phases {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func list(ctx context.Context, e *env, from *source, f api.Filter, limit int, output string) error {
	r, done, err := from.open(e)
	if err != nil {
		return err
	}
	defer func() { _ = done() }() // a store that was only read
	if limit > 0 {
		f.Limit = limit + 1 // to know whether there are more
	}
	out := api.List{SchemaVersion: api.SchemaVersion, Rollouts: []view.Rollout{}}
	for x, err := range r.Rollouts(ctx, f) {
		if err != nil {
			return err
		}
		if limit > 0 && len(out.Rollouts) == limit {
			fmt.Fprintf(e.stderr, "belay list: there are more than %d; see --limit\n", limit)
			break
		}
		out.Rollouts = append(out.Rollouts, x)
	}
	return e.print(output, out, func(w io.Writer) error {
		if len(out.Rollouts) == 0 {
			fmt.Fprintln(e.stderr, "no rollouts")
			return nil
		}
		t := &table{}
		t.add("ID", "ENDPOINT", "CANDIDATE", "VERSION", "PHASE", "STEP", "SINCE", "WAITS FOR")
		for _, x := range out.Rollouts {
			t.add(x.ID, safe(x.Endpoint.Router+"/"+x.Endpoint.Name), safe(x.Candidate), safe(x.Version),
				e.phase(x.Phase), stepText(x.Step), e.ago(x.Since), safe(x.WaitingFor))
		}
		for _, l := range t.lines() {
			if e.tty {
				l = fit(l, e.width)
			}
			fmt.Fprintln(w, l)
		}
		return nil
	}, func(w io.Writer) error {
		for _, x := range out.Rollouts {
			fmt.Fprintln(w, x.ID)
		}
		return nil
	})
}
