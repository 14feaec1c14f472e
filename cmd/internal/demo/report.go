package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/view"
)

// report is the last screen: how it ended, what the endpoint's own log says it
// cost, and where everything is.
func (w *World) report(screen io.Writer, r view.Rollout) error {
	fmt.Fprintf(screen, "\nended    %s (exit code %d): %s\n", r.Phase, exitCode(r), r.Sentence)
	fmt.Fprintf(screen, "endpoint %s, as it holds them itself\n", weightsText(w.Weights()))
	if from, begun := w.FaultAt(); begun {
		if err := w.reportFault(screen, from); err != nil {
			return err
		}
	}
	if w.arm != nil {
		text, err := w.arm.summary()
		if err != nil {
			return err
		}
		fmt.Fprintf(screen, "arm      %s\nwrites   %s\n", text, w.Writes)
	}
	opened, resolved := countPages(w.PagesReceived())
	fmt.Fprintf(screen, "pages    %d, of which %d resolved", opened, resolved)
	if opened > resolved {
		fmt.Fprint(screen, "; one stays open until somebody acknowledges it, or for 15 minutes")
	}
	fmt.Fprintln(screen)
	run := Program()
	fmt.Fprintf(screen, "kept in  %s\n", w.Dir)
	for _, c := range []string{"explain " + r.ID, "history " + r.ID, "audit verify " + r.ID} {
		fmt.Fprintf(screen, "look     %s %s --store %s\n", run, c, w.Store)
	}
	return nil
}

// countPages counts what somebody was called for, however often it was told
// anew, and how much of it is over.
func countPages(pages []Page) (opened, resolved int) {
	over := map[string]bool{}
	for _, p := range pages {
		over[p.Key] = p.Resolve
	}
	for _, done := range over {
		if done {
			resolved++
		}
	}
	return len(over), resolved
}

// reportFault says what the fault cost.
func (w *World) reportFault(screen io.Writer, from time.Time) error {
	to, back := w.BackAt()
	if !back {
		to = time.Now()
	}
	facts, err := w.Facts(to)
	if err != nil {
		return err
	}
	end := "the traffic was all stable's again"
	if !back {
		end = "the demo ended; nothing was overwritten"
	}
	fmt.Fprintf(screen, "fault    %s began at %s; %s after %.1f s\n", w.opts.Fault, from.Local().Format("15:04:05.0"),
		end, to.Sub(from).Seconds())
	fmt.Fprintf(screen, "cost     %d bad requests of %d served (%d by %s, of which %.1f would have been bad anyway)\n",
		facts.Bad, facts.Served, facts.Candidate, Candidate, facts.Expected)
	return nil
}

// weightsText shows weights by name.
func weightsText(weights map[string]int) string {
	var parts []string
	for _, name := range []string{Stable, Candidate} {
		parts = append(parts, fmt.Sprintf("%s %d%%", name, weights[name]))
	}
	return strings.Join(parts, ", ")
}
