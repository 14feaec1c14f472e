package forecast

import (
	"fmt"
	"slices"
	"strings"

	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/split"
)

// A Check is a preflight check that will be made before any traffic moves.
type Check struct {
	Check string `json:"check"`
	// Wants is what the policy says of it, for people; empty when it says no more
	// than the name.
	Wants string `json:"wants,omitempty"`
	// Result is what the check finds now; nil when it was not made.
	Result *check.Result `json:"result,omitempty"`
}

// launchList are the checks that are made whatever a policy lists.
var launchList = []string{"owner", "approval-contact", "rollback-command"}

// preflight lists the checks of the plan and the launch checklist, with what they
// find now as far as they were made. Results are in the order of the checks.
func (o *Forecast) preflight(plan *rollout.Plan, made []check.Result) {
	made = slices.Clone(made)
	add := func(name, wants string) {
		c := Check{Check: name, Wants: wants}
		if i := slices.IndexFunc(made, func(r check.Result) bool { return r.Check == name }); i >= 0 {
			r := made[i]
			c.Result, made = &r, slices.Delete(made, i, i+1)
		}
		o.Preflight = append(o.Preflight, c)
	}
	for _, c := range plan.Preflight {
		add(c.Kind, wantsOf(c))
	}
	for _, name := range launchList {
		add(name, "")
	}
	if slices.ContainsFunc(plan.Steps, func(s rollout.Step) bool { return s.Kind() == split.ShareMirror }) {
		add("mirror", "")
	}
	for _, c := range o.Preflight {
		if r := c.Result; r != nil && !r.OK {
			now := "would refuse the release now"
			switch {
			case r.Transient:
				now = "could not be made now"
			case r.Awaited && plan.Patience() > 0:
				now = "would let the release wait, at most " + document.FormatDuration(plan.Patience())
			}
			o.Advice = append(o.Advice, fmt.Sprintf("Check %s %s: found %s, want %s. %s", c.Check, now, r.Found,
				r.Expected, r.Remedy))
		}
	}
}

// wantsOf says what a check of the policy asks for.
func wantsOf(c check.Check) string {
	switch c.Kind {
	case "capacity":
		return fmt.Sprintf("%d%% headroom", c.Headroom)
	case "ready":
		if c.Within > 0 {
			return "waited for, at most " + document.FormatDuration(c.Within)
		}
	case "fresh-metrics":
		return "within " + document.FormatDuration(c.Within)
	case "tags":
		return strings.Join(c.Required, ", ")
	case "invoke":
		text := fmt.Sprintf("%s, status %d", strings.TrimSpace(c.Method+" "+c.Path), c.Status)
		if c.Within > 0 {
			text += " within " + document.FormatDuration(c.Within)
		}
		if len(c.Schema) > 0 {
			text += ", as its schema says"
		}
		return text
	}
	return ""
}

// checks writes what is checked before any traffic moves: one line where nothing
// was checked yet, else a line each.
func (o Forecast) checks(b *strings.Builder) {
	made := slices.ContainsFunc(o.Preflight, func(c Check) bool { return c.Result != nil })
	var names []string
	for _, c := range o.Preflight {
		text := c.Check
		if c.Wants != "" {
			text += " (" + c.Wants + ")"
		}
		names = append(names, text)
	}
	if !made {
		fmt.Fprintf(b, "Before any traffic moves: %s.\n\n", strings.Join(names, "; "))
		return
	}
	b.WriteString("Before any traffic moves:\n")
	for i, c := range o.Preflight {
		switch r := c.Result; {
		case r == nil:
			fmt.Fprintf(b, "     %-16s -      %s: made when the rollout starts\n", c.Check, names[i])
		case r.OK:
			fmt.Fprintf(b, "     %-16s OK     %s\n", c.Check, firstLine(r.Found))
		case r.Transient, r.Awaited:
			fmt.Fprintf(b, "     %-16s ?      %s\n", c.Check, firstLine(r.Found))
		default:
			fmt.Fprintf(b, "     %-16s FAILS  %s\n", c.Check, firstLine(r.Found))
		}
	}
	b.WriteString("\n")
}

func firstLine(s string) string {
	line, rest, _ := strings.Cut(s, "\n")
	if rest != "" {
		line += " …"
	}
	return line
}
