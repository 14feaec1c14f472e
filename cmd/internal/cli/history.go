package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/person"
)

func historyCommand() *command {
	return &command{
		name: "history", args: "ID", short: "Show a rollout's journal: every event and decision.", min: 1, max: 1,
		examples: []string{"belay history ID", "belay history ID --output json | jq '.entries[].decisions[]?'",
			"belay history ID --store /var/lib/belay/belay.db"},
		setup: func(f *flags) run {
			from := f.source()
			output := f.choice("output", "how to print", "table", "json", "yaml", "name")
			return func(ctx context.Context, e *env, args []string) error {
				r, done, err := from.open(e)
				if err != nil {
					return err
				}
				defer func() { _ = done() }() // a store that was only read
				out := api.History{SchemaVersion: api.SchemaVersion, Rollout: args[0], Entries: []journal.Entry{}}
				for entry, err := range r.Journal(ctx, args[0]) {
					if err != nil {
						return err
					}
					out.Entries = append(out.Entries, entry)
				}
				return e.print(*output, out, func(w io.Writer) error { return historyTable(e, w, out.Entries) },
					func(w io.Writer) error {
						for _, x := range out.Entries {
							fmt.Fprintln(w, x.Seq)
						}
						return nil
					})
			}
		},
	}
}

// historyTable prints a line per entry and one below it for each decision.
func historyTable(e *env, w io.Writer, entries []journal.Entry) error {
	for _, x := range entries {
		var kinds []string
		for _, ev := range x.Events {
			kinds = append(kinds, eventText(ev))
		}
		if _, err := fmt.Fprintf(w, "%4d  %s  %s\n", x.Seq, e.clock(x.At), strings.Join(fold(kinds), ", ")); err != nil {
			return err
		}
		for _, d := range x.Decisions {
			if _, err := fmt.Fprintf(w, "      %s %s%s\n", e.paint(bold, string(d.Kind)), safe(d.Sentence),
				byText(d)); err != nil {
				return err
			}
		}
	}
	return nil
}

// eventText names an event with what matters of it.
func eventText(ev rollout.Event) string {
	s := string(ev.Kind)
	switch ev.Kind {
	case rollout.EventCommanded:
		s = fmt.Sprintf("%s by %s (%s)", ev.Command, personText(ev.By), safe(ev.Reason))
	case rollout.EventAnswered:
		word := "no"
		if ev.Approve {
			word = "yes"
		}
		s = fmt.Sprintf("%s to %s by %s", word, safe(ev.Gate), personText(ev.By))
	case rollout.EventTraffic:
		if ev.Split != nil {
			s += " " + weights(ev.Split.Weights, "")
		}
	case rollout.EventDelivered, rollout.EventUndelivered:
		s += " to " + safe(ev.Notifier)
	case rollout.EventQueued:
		s += " behind " + ev.BlockedBy
	case rollout.EventPreflighted, rollout.EventRefused, rollout.EventSuspected:
		if ev.Reason != "" {
			s += " (" + safe(ev.Reason) + ")"
		}
		for _, c := range ev.Checks {
			if !c.OK {
				s += " (" + safe(c.Check+": "+c.Found) + ")"
			}
		}
	case rollout.EventStarted, rollout.EventClaimed, rollout.EventReleased, rollout.EventMeasured,
		rollout.EventSuperseded, rollout.EventCarried, rollout.EventWoken:
	}
	if ev.Failure != nil {
		s += " (" + safe(string(ev.Failure.Kind)+": "+ev.Failure.Message) + ")"
	}
	return s
}

func personText(p *person.Person) string {
	if p == nil {
		return "nobody"
	}
	return safe(p.ID)
}

// fold writes equal words once, with their number, where the first of them stood.
func fold(words []string) []string {
	times := map[string]int{}
	var order []string
	for _, w := range words {
		if times[w]++; times[w] == 1 {
			order = append(order, w)
		}
	}
	for i, w := range order {
		if times[w] > 1 {
			order[i] = fmt.Sprintf("%s ×%d", w, times[w])
		}
	}
	return order
}
