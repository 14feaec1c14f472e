package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

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
			"belay list --since 24h --label team=recs --phase promoted,rolled-back",
			"belay list --phase open --output name | xargs -n1 belay status",
			"belay list --phase open --watch         # a fleet on one screen",
		},
		setup: func(f *flags) run {
			from := f.source()
			endpoint := f.named("ENDPOINT", "endpoint", "only of this endpoint: a `NAME`, or router/name")
			phase := f.named("PHASES", "phase", "only in these `PHASES`, with commas; open: all that have not ended")
			owner := f.String("owner", "", "only of these `OWNERS`, with commas")
			version := f.String("version", "", "only of this `VERSION`")
			label := f.String("label", "", "only with these labels of the policy, `KEY=VALUE` with commas")
			since := f.String("since", "", "only made at or after `TIME`: RFC 3339, a time of today, or 24h for "+
				"a day ago")
			until := f.String("until", "", "only made before `TIME`")
			after := f.String("after", "", "go on after the `CURSOR` that a list before gave as next")
			limit := f.Int("limit", 50, "at most `N`; 0 is all")
			watch := f.Bool("watch", false, "show the list until Ctrl-C: on a terminal one screen, elsewhere a line for "+
				"each change")
			output := f.choice("output", "how to print", "table", "json", "yaml", "name")
			return func(ctx context.Context, e *env, _ []string) error {
				if *limit < 0 {
					return usageError("--limit: want 0 or more (got %d)", *limit)
				}
				want := view.Filter{Endpoint: *endpoint, Phases: words(*phase), Owners: words(*owner), Version: *version,
					After: *after}
				var err error
				if want.Labels, err = view.ParseLabels(*label); err != nil {
					return usageError("--%s", err)
				}
				if want.Since, err = e.past(*since); err != nil {
					return usageError("--since: %s", err)
				}
				if want.Until, err = e.past(*until); err != nil {
					return usageError("--until: %s", err)
				}
				if err := want.Check(); err != nil {
					return usageError("--%s", err)
				}
				if !*watch {
					return list(ctx, e, from, want, *limit, *output)
				}
				if *output != "table" {
					return usageError("--watch: with --output table alone; programs follow GET /v1/events")
				}
				return watchList(ctx, e, from, want, *limit)
			}
		},
	}
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func list(ctx context.Context, e *env, from *source, f view.Filter, limit int, output string) error {
	found, more, err := listOnce(ctx, e, from, f, limit)
	if err != nil {
		return err
	}
	out := api.List{SchemaVersion: api.SchemaVersion, Rollouts: found}
	if more {
		last := found[limit-1].Card()
		out.Next = last.Cursor()
		fmt.Fprintf(e.stderr, "belay list: there are more than %d; see --limit, or go on with --after %s\n", limit,
			out.Next)
	}
	return e.print(output, out, func(w io.Writer) error {
		if len(out.Rollouts) == 0 {
			fmt.Fprintln(e.stderr, "no rollouts")
			return nil
		}
		for _, l := range e.listed(out.Rollouts) {
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

// listed is a table of rollouts, with its head.
func (e *env) listed(rollouts []view.Rollout) []string {
	t := &table{}
	t.add("ID", "ENDPOINT", "CANDIDATE", "VERSION", "PHASE", "STEP", "SINCE", "WAITS FOR")
	for _, x := range rollouts {
		t.add(x.ID, safe(x.Endpoint.Router+"/"+x.Endpoint.Name), safe(x.Candidate), safe(x.Version),
			e.phase(x.Phase), stepText(x.Step), e.ago(x.Since), safe(x.WaitingFor))
	}
	return t.lines()
}

// watchEvery is how often a list that is watched is read, and the longest that one which
// cannot be read waits.
const (
	watchEvery   = 2 * time.Second
	watchPatient = 30 * time.Second
)

// watchList shows a list until ctx ends: what needs a person first. A belayd that does
// not answer is asked again, and the list says so meanwhile.
func watchList(ctx context.Context, e *env, from *source, f view.Filter, limit int) error {
	s, seen, wait := newScreen(e), map[string]string{}, watchEvery
	var last []view.Rollout
	for read := false; ; {
		now, more, err := listOnce(ctx, e, from, f, limit)
		switch {
		case ctx.Err() != nil:
			s.end()
			return &codeError{code: exitDetached}
		case err != nil && !read: // it is not the connection that broke, it never was
			return err
		case err == nil:
			last, read, wait = now, true, watchEvery
		default:
			wait = min(2*wait, watchPatient)
		}
		s.fleet(last, more, err, seen)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// listOnce reads the rollouts that a filter chooses, and whether there are more.
func listOnce(
	ctx context.Context, e *env, from *source, f view.Filter, limit int,
) (out []view.Rollout, more bool, err error) {
	out = []view.Rollout{}
	r, done, err := from.open(e)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = done() }() // a store that was only read
	if limit > 0 {
		f.Limit = limit + 1 // to know whether there are more
	}
	for x, err := range r.Rollouts(ctx, f) {
		if err != nil {
			return nil, false, err
		}
		if limit > 0 && len(out) == limit {
			return out, true, nil
		}
		out = append(out, x)
	}
	return out, false, nil
}

// fleet shows rollouts: on a terminal as one screen, those that need a person on top;
// elsewhere as a line for each that is not as it was seen.
func (s *screen) fleet(rollouts []view.Rollout, more bool, failed error, seen map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.env
	if !s.live {
		for _, x := range rollouts {
			text := fmt.Sprintf("%-14s %s %s %s", x.Phase, safe(x.Endpoint.Router+"/"+x.Endpoint.Name), safe(x.Candidate),
				stepText(x.Step))
			if seen[x.ID] != text {
				seen[x.ID] = text
				fmt.Fprintf(s.out, "%s %s %s\n", e.clock(x.UpdatedAt), x.ID, text)
			}
		}
		if failed != nil {
			fmt.Fprintf(e.stderr, "belay list: %s; asking again\n", safe(failed.Error()))
		}
		return
	}
	slices.SortStableFunc(rollouts, func(a, b view.Rollout) int { return urgency(a) - urgency(b) })
	lines := e.listed(rollouts)
	rows := []row{{text: fmt.Sprintf("rollouts: %d, as of %s%s", len(rollouts), e.clock(e.now()), orMore(more))}}
	if failed != nil {
		rows[0].text = e.paint(red, "not as of now: ") + safe(failed.Error())
	}
	room := max(s.height-3, 1)
	for i, l := range lines {
		if i == room && len(lines) > room+1 {
			rows = append(rows, row{text: fmt.Sprintf("… and %d more: see --phase, --owner, --endpoint", len(lines)-room)})
			break
		}
		rows = append(rows, row{text: l})
	}
	s.redraw(rows)
}

func orMore(more bool) string {
	if more {
		return "; there are more: see --limit"
	}
	return ""
}

// urgency sorts what needs a person before what goes on by itself, and that before what
// has ended.
func urgency(r view.Rollout) int {
	switch {
	case r.Page != nil && r.Page.Acknowledged == nil, r.Unconfirmed:
		return 0
	case r.Phase == rollout.PhaseHeld, r.Phase == rollout.PhaseSuspect, r.Phase == rollout.PhasePaused:
		return 1
	case r.Phase == rollout.PhaseWaiting:
		return 2
	case r.Phase.Terminal():
		return 4
	}
	return 3
}
