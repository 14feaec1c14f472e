package report

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/view"
)

// Markdown is the report as CommonMark with tables, for a ticket or a page of a wiki. What
// came from outside is escaped: it opens no link, image, table cell or tag.
func (r *Report) Markdown() string {
	var b strings.Builder
	x := &r.Rollout
	fmt.Fprintf(&b, "# %s: %s %s\n\n", text(x.Endpoint.Router+"/"+x.Endpoint.Name), text(x.Candidate+" "+x.Version),
		x.Phase)
	if x.Sentence != "" {
		fmt.Fprintf(&b, "%s\n\n", text(x.Sentence))
	}
	ended := "not yet"
	if x.Phase.Terminal() {
		ended = instant(x.Since) + ", after " + view.Span(x.Since.Sub(x.CreatedAt))
	}
	table(&b, []string{"", ""}, [][]string{
		{"rollout", x.ID}, {"policy", text(x.Policy)}, {"owner", text(x.Owner)},
		{"asked for by", text(x.Requester + onBehalf(x))}, {"stable", text(x.Stable)},
		{"began", instant(x.CreatedAt)}, {"ended", ended},
	})
	r.fault(&b)
	r.timeline(&b)
	r.served(&b)
	r.guardrails(&b)
	r.costs(&b)
	r.messages(&b)
	fmt.Fprintf(&b, "Made of the %d entries of the rollout's journal alone; the last has the hash `%s`.\n", r.Entries,
		r.Head)
	return b.String()
}

func (r *Report) fault(b *strings.Builder) {
	f := r.Fault
	if f == nil {
		return
	}
	fmt.Fprintf(b, "## When it could have been seen\n\n%s\n\n", text(f.Sentence))
	rows := [][]string{}
	add := func(what string, at time.Time, note string) {
		if at.IsZero() {
			rows = append(rows, []string{what, "–", note})
			return
		}
		after := "–"
		if !f.Since.IsZero() && !at.Before(f.Since) {
			after = view.Span(at.Sub(f.Since))
		}
		rows = append(rows, []string{what, instant(at), after})
	}
	add("the evidence began to rise after", f.Since, "")
	add("the limit was held to be broken", f.Decided, "")
	add("the traffic call was wanted", f.Asked, "never")
	add("the endpoint showed the way back", f.Back, "never")
	add("a human was reached", f.Paged, "never")
	add("a human took charge", f.Acknowledged, "never")
	table(b, []string{"", "at", "after"}, rows)
	if f.Excess != nil {
		fmt.Fprintf(b, "From then on the candidate had about %s bad events more than stable's share would have been, in "+
			"step %s.",
			view.Count(*f.Excess), text(f.Step))
		if f.Next != nil {
			fmt.Fprintf(b, " The same time at the next step would have cost about %s.", view.Count(*f.Next))
		}
		b.WriteString("\n\n")
	}
}

// saidAmong is among how many lines before it a cause is looked for: what comes to pass
// again is said again.
const saidAmong = 4

func (r *Report) timeline(b *strings.Builder) {
	b.WriteString("## What happened\n\n")
	var rows [][]string
	var before []string
	for _, m := range r.Timeline {
		what := string(m.What)
		if m.By != "" {
			what += " by " + text(m.By)
		}
		said := text(m.Sentence)
		for _, b := range before { // a cause is said once
			if rest, again := strings.CutPrefix(m.Sentence, b); again && b != "" {
				said = strings.TrimSpace("as above. " + text(strings.TrimSpace(rest)))
			}
		}
		before = append(before, m.Sentence)
		before = before[max(len(before)-saidAmong, 0):]
		if m.Rule != "" {
			said += " (rule: " + text(m.Rule) + ")"
		}
		rows = append(rows, []string{instant(m.At), what, said})
	}
	table(b, []string{"at", "what", ""}, rows)
}

func (r *Report) served(b *strings.Builder) {
	if len(r.Splits) == 0 {
		b.WriteString("No traffic was moved.\n\n")
		return
	}
	b.WriteString("## What the endpoint served\n\n")
	var rows [][]string
	for i, s := range r.Splits {
		until := "–"
		if i+1 < len(r.Splits) {
			until = view.Span(r.Splits[i+1].At.Sub(s.At))
		}
		rows = append(rows, []string{instant(s.At), text(s.Step), text(split.Split{Weights: s.Weights}.String()), until})
	}
	table(b, []string{"from", "step", "split", "for"}, rows)
}

func (r *Report) guardrails(b *strings.Builder) {
	if len(r.Rollout.Guardrails) == 0 {
		return
	}
	b.WriteString("## Guardrails at the end\n\n")
	var rows [][]string
	for _, g := range r.Rollout.Guardrails {
		rows = append(rows, []string{text(g.Name), string(g.Verdict), view.Figure(g.Candidate, g.Unit),
			view.Figure(g.Stable, g.Unit),
			text(g.Limit), instant(g.AsOf), text(g.Sentence)})
	}
	table(b, []string{"guardrail", "verdict", "candidate", "stable", "limit", "as of", ""}, rows)
}

func (r *Report) costs(b *strings.Builder) {
	if len(r.Costs) == 0 {
		return
	}
	b.WriteString("## What it cost\n\n")
	var rows [][]string
	for _, c := range r.Costs {
		more := "nothing to compare with"
		if x, ok := c.Excess(); ok {
			more = view.Count(x)
		}
		rows = append(rows, []string{text(c.Metric), text(c.Step), view.Count(c.Candidate), view.Count(c.CandidateBad),
			view.Count(c.Stable), view.Count(c.StableBad), more})
	}
	table(b, []string{"metric", "step", "candidate", "bad", "stable", "bad", "beyond stable's share"}, rows)
}

func (r *Report) messages(b *strings.Builder) {
	if len(r.Told) == 0 {
		return
	}
	b.WriteString("## Who was told\n\n")
	var rows [][]string
	for _, t := range r.Told {
		took := "not delivered"
		if !t.Delivered.IsZero() {
			took = "after " + view.Span(t.Delivered.Sub(t.Wanted))
		}
		rows = append(rows, []string{instant(t.Wanted), string(t.Topic), text(t.Notifier), took, text(t.Summary)})
	}
	table(b, []string{"wanted", "what", "to", "delivered", ""}, rows)
}

// table writes a table whose cells are escaped already.
func table(b *strings.Builder, head []string, rows [][]string) {
	line := func(cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	line(strings.Split(strings.Repeat("---,", len(head)-1)+"---", ","))
	for _, r := range rows {
		line(r)
	}
	b.WriteString("\n")
}

// instant is a time for people of every place.
func instant(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func onBehalf(x *view.Rollout) string {
	if x.OnBehalfOf == "" {
		return ""
	}
	return " for " + x.OnBehalfOf
}

// markup are the characters that mean something in Markdown.
const markup = "\\`*_{}[]<>#|!~&"

// text is what came from outside, on one line and without a meaning of its own.
func text(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsControl(r):
			b.WriteByte(' ')
		case unicode.Is(unicode.Bidi_Control, r):
			fmt.Fprintf(&b, "(U+%04X)", r)
		case strings.ContainsRune(markup, r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
