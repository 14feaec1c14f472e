package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/view"
)

func triggerCommand() *command {
	return &command{
		name: "trigger", short: "Look at what starts rollouts by events, and at the events that were refused.",
		sub: []*command{
			{
				name: "list", short: "List the triggers and whether they consume events.",
				examples: []string{"belay trigger list"},
				setup: asking(func(ctx context.Context, c *api.Client, _ []string) (api.TriggerList, error) {
					return c.Triggers(ctx)
				}, (*env).printTriggers),
			},
			{
				name: "refused", args: "[TRIGGER]",
				short: "Show the events that could not become rollouts, the last first.", max: 1,
				long: "A refused event is not delivered again. It is kept with the reason, its headers and the " +
					"beginning of its body:\n" +
					"correct what sent it and let it be sent anew; its key is still free.",
				examples: []string{"belay trigger refused                                    # of all triggers",
					"belay trigger refused nats:RELEASES --limit 1 --output json   # with the body"},
				setup: func(f *flags) run {
					conn := f.connection()
					limit := f.Int("limit", 20, "at most `N` of each trigger")
					output := f.choice("output", "how to print", "table", "json", "yaml")
					return func(ctx context.Context, e *env, args []string) error {
						if *limit < 1 {
							return usageError("--limit: want 1 or more (got %d)", *limit)
						}
						c, err := conn.client(e)
						if err != nil {
							return err
						}
						lists, err := refusedBy(ctx, c, args, *limit)
						if err != nil {
							return err
						}
						return e.printRefused(*output, lists)
					}
				},
			},
		},
	}
}

// refusedBy reads what one trigger, or every one, refused, at most limit of each.
func refusedBy(ctx context.Context, c *api.Client, names []string, limit int) ([]api.RefusedList, error) {
	if len(names) == 0 {
		l, err := c.Triggers(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range l.Triggers {
			names = append(names, t.Name)
		}
	}
	out := []api.RefusedList{}
	for _, name := range names {
		all := api.RefusedList{SchemaVersion: api.SchemaVersion, Trigger: name, Refused: []api.RefusedEvent{}}
		for cursor := ""; ; {
			page, err := c.Refused(ctx, name, cursor, min(100, limit-len(all.Refused)))
			if err != nil {
				return nil, fmt.Errorf("trigger %s: %w", name, err)
			}
			all.Refused = append(all.Refused, page.Refused...)
			if cursor = page.Next; cursor == "" || len(all.Refused) >= limit {
				all.Next = cursor
				break
			}
		}
		out = append(out, all)
	}
	return out, nil
}

func (e *env) printTriggers(output string, l api.TriggerList) error {
	return e.print(output, l, func(w io.Writer) error {
		t := &table{}
		t.add("TRIGGER", "STREAM", "SUBJECTS", "DURABLE", "REFUSED SINCE START", "")
		for _, x := range l.Triggers {
			how := "consumes"
			if x.Error != "" {
				how = e.paint(red, safe(x.Error))
			}
			t.add(safe(x.Name), safe(x.Stream), safe(strings.Join(x.Subjects, ", ")), safe(x.Durable),
				fmt.Sprint(x.Refused), how)
		}
		return t.print(w)
	}, func(w io.Writer) error {
		for _, x := range l.Triggers {
			fmt.Fprintln(w, x.Name)
		}
		return nil
	})
}

func (e *env) printRefused(output string, lists []api.RefusedList) error {
	out := struct {
		SchemaVersion int               `json:"schemaVersion"`
		Triggers      []api.RefusedList `json:"triggers"`
	}{api.SchemaVersion, lists}
	return e.print(output, out, func(w io.Writer) error {
		t := &table{}
		t.add("TRIGGER", "MESSAGE", "REFUSED", "KEY", "REASON")
		for _, l := range lists {
			for _, r := range l.Refused {
				key := strings.TrimSpace(r.Source + " " + r.ID)
				t.add(safe(l.Trigger), fmt.Sprintf("%s #%d", safe(r.Stream), r.Sequence), view.Span(e.now().Sub(r.At))+
					" ago", orDash(safe(key)), safe(r.Reason))
			}
		}
		if err := t.print(w); err != nil {
			return err
		}
		for _, l := range lists {
			if l.Next != "" {
				fmt.Fprintf(e.stderr, "belay trigger refused: %s keeps more; see --limit\n", l.Trigger)
			}
		}
		return nil
	}, nil)
}
