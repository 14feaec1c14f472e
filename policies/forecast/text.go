package forecast

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/belayd/belay/policies/document"
)

// Text writes the forecast for people.
func (o Forecast) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s on %s", o.Policy, o.Candidate, o.Endpoint)
	if o.PerSecond > 0 {
		fmt.Fprintf(&b, " at %s requests/s", document.FormatNumber(o.PerSecond))
	}
	b.WriteString("\nNothing is changed by this.\n\n")
	o.checks(&b)
	for i, s := range o.Steps {
		o.step(&b, i, s)
	}
	fmt.Fprintf(&b, "\nShortest %s, longest %s (every extension and every question used up).\n",
		document.FormatDuration(time.Duration(o.Shortest).Round(time.Minute)),
		document.FormatDuration(time.Duration(o.Longest).Round(time.Minute)))
	for _, k := range o.Known {
		b.WriteString("Read: " + k + ".\n")
	}
	for _, a := range o.Assumed {
		b.WriteString("Assumed: " + a + ".\n")
	}
	if len(o.Advice) > 0 {
		b.WriteString("\n")
	}
	for _, a := range o.Advice {
		b.WriteString("! " + a + "\n")
	}
	if o.Rollback != "" {
		b.WriteString("\nTo roll back:\n  " + o.Rollback + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write forecast: %w", err)
	}
	return nil
}

func (o Forecast) step(b *strings.Builder, i int, s Step) {
	fmt.Fprintf(b, "%d. %s: %s for %s, from %s on", i+1, s.Name, s.Words(), s.Bake,
		s.Earliest.Format("Mon 2006-01-02 15:04 MST"))
	if s.Window > 0 {
		fmt.Fprintf(b, " (waits %s for a window)", document.FormatDuration(time.Duration(s.Window).Round(time.Minute)))
	}
	if len(s.Requires) > 0 {
		fmt.Fprintf(b, ", after %s", strings.Join(s.Requires, " and "))
	}
	b.WriteString("\n")
	if s.Capacity != "" {
		fmt.Fprintf(b, "     capacity: %s\n", s.Capacity)
	}
	for _, j := range s.Guardrails {
		fmt.Fprintf(b, "     %-16s %s\n", j.Guardrail, j.sentence())
	}
}

// human rounds a duration to what matters.
func human(s document.Span) string {
	d := time.Duration(s)
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= time.Hour:
		return document.FormatDuration(d.Round(5 * time.Minute))
	case d >= 2*time.Minute:
		return document.FormatDuration(d.Round(time.Minute))
	}
	return document.FormatDuration(d.Round(time.Second))
}
