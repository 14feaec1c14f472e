package importer

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/policies/document"
)

// A policy is what is written; its fields are the language's.
type policy struct {
	name, from          string
	owner, router, runs string
	steps               []step
	bake, interval      time.Duration
	metrics             []metric
	guardrails          []guardrail
	approvals           []approval
}

// A step is one weight.
type step struct {
	name           string
	weight, mirror int
	bake           time.Duration
	requires       []string
}

// A metric is a definition as the language has it, on one line.
type metric struct{ name, source, definition string }

type guardrail struct {
	name, metric, quantile, limit, breachAfter, onBreach, from, why string
}

type approval struct{ name, why string }

// write writes the policy as people would.
func (p *policy) write(w io.Writer) {
	out := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	out("# Imported from %s. Read it, fill in what says fill-in, and run: belay policy check", oneLine(p.from))
	out("apiVersion: belay/v1")
	out("kind: RolloutPolicy")
	out("metadata:")
	out("  name: %s", scalar(p.name))
	out("  owner: %s", scalar(p.owner))
	out("spec:")
	out("  endpoint: {router: %s, name: %s}", scalar(p.router), scalar(p.runs))
	out("  preflight: [{check: ready}, {check: rollback-ready}]")
	if p.bake > 0 {
		out("  bake: %s", document.FormatDuration(p.bake))
	}
	if p.interval > 0 {
		out("  interval: %s", document.FormatDuration(p.interval))
	}
	out("  steps:")
	for _, s := range p.steps {
		text := "name: " + scalar(s.name)
		if s.mirror > 0 {
			text += fmt.Sprintf(", mirror: %d%%", s.mirror)
		} else {
			text += fmt.Sprintf(", weight: %d%%", s.weight)
		}
		if s.bake > 0 && s.bake != p.bake {
			text += ", bake: " + document.FormatDuration(s.bake)
		}
		if len(s.requires) > 0 {
			text += ", requires: [" + strings.Join(s.requires, ", ") + "]"
		}
		out("    - {%s}", text)
	}
	if len(p.approvals) > 0 {
		out("  approvals:")
		for _, a := range p.approvals {
			out("    - name: %s # %s", scalar(a.name), oneLine(a.why))
			out("      from: {groups: [fill-in-group]}")
		}
	}
	if len(p.metrics) > 0 {
		out("  metrics:")
		for _, m := range p.metrics {
			out("    %s: {source: %s, %s}", m.name, scalar(m.source), m.definition)
		}
	}
	out("  guardrails:")
	for _, g := range p.guardrails {
		p.guardrail(out, g)
	}
	out("  page: [fill-in-notifier]")
}

func (p *policy) guardrail(out func(string, ...any), g guardrail) {
	out("    - name: %s # %s", scalar(g.name), oneLine(g.why))
	out("      metric: %s", scalar(g.metric))
	for _, kv := range [][2]string{
		{"quantile", g.quantile}, {"limit", g.limit}, {"breachAfter", g.breachAfter}, {"onBreach", g.onBreach},
		{"from", g.from},
	} {
		if kv[1] != "" {
			out("      %s: %s", kv[0], strconv.Quote(kv[1]))
		}
	}
}

// unique is a name that is not taken yet.
func unique(base string, taken func(string) bool) string {
	out := base
	for i := 2; taken(out); i++ {
		out = fmt.Sprintf("%s-%d", base, i)
	}
	return out
}

// metricName and guardrailName are names that none of the policy has yet.
func (p *policy) metricName(base string) string {
	return unique(base, func(s string) bool {
		return slices.ContainsFunc(p.metrics, func(m metric) bool { return m.name == s })
	})
}

func (p *policy) guardrailName(base string) string {
	return unique(base, func(s string) bool {
		return slices.ContainsFunc(p.guardrails, func(g guardrail) bool { return g.name == s })
	})
}

// scalar is a text as YAML has it: bare where it is a plain name.
func scalar(s string) string {
	plain := s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") == "" &&
		strings.Trim(s, "0123456789.-_/") != ""
	switch strings.ToLower(s) {
	case "yes", "no", "on", "off", "true", "false", "null", "y", "n":
		plain = false
	}
	if plain && (s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z') {
		return s
	}
	return strconv.Quote(strings.ToValidUTF8(cmp.Or(s, "fill-in"), "?"))
}

// oneLine is a text for a comment or a note.
func oneLine(s string) string { return notifier.Line(s, 160) }
