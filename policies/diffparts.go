package policies

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/policies/document"
)

// guardrails compares guardrails by name.
func (d *differ) guardrails(p, q *Policy) {
	a, b := &p.Document.Spec, &q.Document.Spec
	for _, g := range a.Guardrails {
		subject, path := "guardrail "+g.Name, document.Join("guardrails", g.Name)
		i := slices.IndexFunc(b.Guardrails, func(h Guardrail) bool { return h.Name == g.Name })
		if i < 0 {
			d.add(Looser, subject, path, g.Limit.Text, "", "nothing watches this any more")
			continue
		}
		before := len(d.changes)
		d.guardrail(subject, path, g, b.Guardrails[i])
		d.judgedIn(subject, path, a, b, g, b.Guardrails[i])
		if g.Metric == b.Guardrails[i].Metric {
			d.definitions(subject, path+".metric", p.definition(g.Metric), q.definition(g.Metric))
		}
		d.same(before, subject, path)
	}
	for _, g := range b.Guardrails {
		if !slices.ContainsFunc(a.Guardrails, func(h Guardrail) bool { return h.Name == g.Name }) {
			d.add(Tighter, "guardrail "+g.Name, document.Join("guardrails", g.Name), "", g.Limit.Text, "")
		}
	}
}

func (d *differ) guardrail(subject, path string, g, h Guardrail) {
	if g.Metric != h.Metric || g.Source != h.Source {
		d.other(subject, path+".metric", strings.TrimSpace(g.Metric+" "+g.Source),
			strings.TrimSpace(h.Metric+" "+h.Source), "")
	}
	if g.Quantile != h.Quantile {
		ordered(d, subject, path+".quantile", g.Quantile, h.Quantile, true, Quantile.String, "")
	}
	d.limit(subject, path, g.Limit, h.Limit)
	if g.Detect.Given() && h.Detect.Given() && g.Detect != h.Detect {
		if g.Detect.Unit != h.Detect.Unit || g.Limit.AtLeast != h.Limit.AtLeast {
			d.other(subject, path+".detect", g.Detect.Text, h.Detect.Text, "")
		} else if g.Detect.Value != h.Detect.Value {
			text := func(x float64) string { return pick(x == g.Detect.Value, g.Detect.Text, h.Detect.Text) }
			ordered(d, subject, path+".detect", g.Detect.Value, h.Detect.Value, g.Limit.AtLeast, text,
				"what a promotion rules out")
		}
	}
	d.ranked(subject, path+".onBreach", string(g.OnBreach), string(h.OnBreach), "note", "page", "hold", "rollback")
	d.ranked(subject, path+".evidence", string(g.Evidence), string(h.Evidence), "optional", "required")
	if g.Test != "" && h.Test != "" {
		d.other(subject, path+".test", string(g.Test), string(h.Test), "")
	}
	if g.BreachAfter != h.BreachAfter && g.Test == h.Test {
		k, n := g.BreachAfter, h.BreachAfter
		dir := Different
		if n.K <= k.K && n.N >= k.N {
			dir = Tighter
		} else if n.K >= k.K && n.N <= k.N {
			dir = Looser
		}
		d.add(dir, subject, path+".breachAfter", k.String(), n.String(), "")
	}
}

func (d *differ) limit(subject, path string, l, m LimitText) {
	if l.Floor != m.Floor {
		text := func(x float64) string { return pick(x == l.Floor.Value, l.Text, m.Text) }
		ordered(d, subject, path+".limit", l.Floor.Value, m.Floor.Value, false, text, "below which it need not be kept")
	}
	switch {
	case l.AtLeast == m.AtLeast && l.Quantity.Unit == m.Quantity.Unit && l.Quantity.Value == m.Quantity.Value:
	case l.AtLeast != m.AtLeast || l.Quantity.Unit != m.Quantity.Unit:
		d.other(subject, path+".limit", l.Text, m.Text, "limits of different kinds")
	default:
		text := func(x float64) string { return pick(x == l.Quantity.Value, l.Text, m.Text) }
		ordered(d, subject, path+".limit", l.Quantity.Value, m.Quantity.Value, l.AtLeast, text, "")
	}
}

// judgedIn compares the steps in which a guardrail is judged, by name.
func (d *differ) judgedIn(subject, path string, a, b *Spec, g, h Guardrail) {
	names := func(s *Spec, g Guardrail) []string {
		var out []string
		for _, i := range s.stepsOf(g) {
			out = append(out, s.Steps[i].Name)
		}
		return out
	}
	old, now := names(a, g), names(b, h)
	// Steps that exist in one of the policies only are compared as steps.
	common := func(in []string, s *Spec) []string {
		return slices.DeleteFunc(slices.Clone(in), func(n string) bool {
			return !slices.ContainsFunc(s.Steps, func(st Step) bool { return st.Name == n })
		})
	}
	d.set(subject, path+".steps", common(old, b), common(now, a), true, "the steps that it watches")
}

// definitions compares what a metric is made of, field by field as policies write them.
func (d *differ) definitions(subject, path string, old, now map[string]string) {
	if old == nil || now == nil {
		return
	}
	all := maps.Clone(old)
	maps.Copy(all, now)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		d.other(subject, path+"."+key, old[key], now[key], "it measures something else")
	}
}

// definition is what a metric is made of: the values by where they stand in a definition,
// like counts.bad. It is nil where only a config could define the metric.
func (p *Policy) definition(name string) map[string]string {
	m, ok := p.metrics[name]
	if !ok || !m.known {
		return nil
	}
	b, err := json.Marshal(m.def)
	var tree map[string]any
	if err != nil || json.Unmarshal(b, &tree) != nil {
		return nil // unreachable: a definition is strings
	}
	delete(tree, "name")
	out := map[string]string{}
	flatten(out, "", tree)
	return out
}

// flatten puts the leaves of a tree into out, by their paths.
func flatten(out map[string]string, at string, v any) {
	if m, ok := v.(map[string]any); ok {
		for key, x := range m {
			flatten(out, document.Join(at, key), x)
		}
		return
	}
	out[at] = fmt.Sprint(v)
}

// gates compares approvals by name.
func (d *differ) gates(a, b *Spec) {
	for _, g := range a.Approvals {
		subject, path := "gate "+g.Name, document.Join("approvals", g.Name)
		i := slices.IndexFunc(b.Approvals, func(h Approval) bool { return h.Name == g.Name })
		if i < 0 {
			d.add(Looser, subject, path, fmt.Sprintf("quorum %d of %s", g.Quorum, list(g.who())), "", "")
			continue
		}
		h, before := b.Approvals[i], len(d.changes)
		ordered(d, subject, path+".quorum", g.Quorum, h.Quorum, true, func(n int) string { return fmt.Sprint(n) }, "")
		d.set(subject, path+".from", g.who(), h.who(), false, "who may answer")
		d.other(subject, path+".notifier", strings.TrimSpace(g.From.Notifier+" "+g.From.Channel),
			strings.TrimSpace(h.From.Notifier+" "+h.From.Channel), "where people are asked")
		d.set(subject, path+".notBy", g.NotBy, h.NotBy, true, "")
		d.duration(subject, path+".expires", g.Expires, h.Expires, false, "")
		d.ranked(subject, path+".onExpiry", string(g.OnExpiry), string(h.OnExpiry), "hold", "rollback")
		d.same(before, subject, path)
	}
	for _, h := range b.Approvals {
		if !slices.ContainsFunc(a.Approvals, func(g Approval) bool { return g.Name == h.Name }) {
			d.add(Tighter, "gate "+h.Name, document.Join("approvals", h.Name), "",
				fmt.Sprintf("quorum %d of %s", h.Quorum, list(h.who())), "")
		}
	}
}

func (a Approval) who() []string {
	var out []string
	for _, g := range a.From.Groups {
		out = append(out, "group "+g)
	}
	return append(out, a.From.Users...)
}

// steps compares the ladder: by name, what is left over by weight, and then in order.
func (d *differ) steps(a, b *Spec) {
	pairs := pairSteps(a.Steps, b.Steps)
	used := map[int]bool{}
	for i, s := range a.Steps {
		subject, path := "step "+s.Name, document.Join("steps", s.Name)
		j, ok := pairs[i]
		if !ok {
			d.add(Looser, subject, path, s.share().Words()+" for "+document.FormatDuration(s.Bake), "",
				"one step less to be noticed in")
			continue
		}
		used[j] = true
		before := len(d.changes)
		d.step(subject, path, s, b.Steps[j])
		d.same(before, subject, path)
	}
	for j, s := range b.Steps {
		if !used[j] {
			d.add(Tighter, "step "+s.Name, document.Join("steps", s.Name), "", s.share().Words()+" for "+
				document.FormatDuration(s.Bake), "")
		}
	}
}

func pairSteps(a, b []Step) map[int]int {
	pairs, taken := map[int]int{}, map[int]bool{}
	for i, s := range a {
		if j := slices.IndexFunc(b, func(t Step) bool { return t.Name == s.Name }); j >= 0 {
			pairs[i], taken[j] = j, true
		}
	}
	for i, s := range a {
		if _, ok := pairs[i]; ok {
			continue
		}
		for j, t := range b {
			if !taken[j] && s.share() == t.share() {
				pairs[i], taken[j] = j, true
				break
			}
		}
	}
	var restA, restB []int
	for i := range a {
		if _, ok := pairs[i]; !ok {
			restA = append(restA, i)
		}
	}
	for j := range b {
		if !taken[j] {
			restB = append(restB, j)
		}
	}
	if len(restA) == len(restB) {
		for k := range restA {
			pairs[restA[k]] = restB[k]
		}
	}
	return pairs
}

func (d *differ) step(subject, path string, s, t Step) {
	switch {
	case s.Weight != nil && t.Weight != nil:
		ordered(d, subject, path+".weight", *s.Weight, *t.Weight, false, Percent.String, "")
	default:
		d.other(subject, path+".weight", s.share().Words(), t.share().Words(), "")
	}
	if s.share() == t.share() {
		d.other(subject, path+".name", s.Name, t.Name, "")
	}
	d.duration(subject, path+".bake", s.Bake, t.Bake, true, "")
	d.set(subject, path+".requires", s.Requires, t.Requires, true, "")
}

// preflight compares checks by kind.
func (d *differ) preflight(a, b *Spec) {
	find := func(s *Spec, kind string) (Check, bool) {
		i := slices.IndexFunc(s.Preflight, func(c Check) bool { return c.Check == kind })
		if i < 0 {
			return Check{}, false
		}
		return s.Preflight[i], true
	}
	for _, kind := range checkOrder {
		old, had := find(a, kind)
		now, has := find(b, kind)
		subject, path := "check "+kind, document.Join("preflight", kind)
		switch {
		case had && !has:
			d.add(Looser, subject, path, kind, "", "")
		case has && !had:
			d.add(Tighter, subject, path, "", kind, "")
		case has:
			d.check(subject, path, old, now)
		}
	}
}

var checkOrder = []string{"ready", "rollback-ready", "capacity", "fresh-metrics", "tags", "invoke", "refuses-anonymous"}

func (d *differ) check(subject, path string, a, b Check) {
	if a.Headroom != nil && b.Headroom != nil {
		ordered(d, subject, path+".headroom", *a.Headroom, *b.Headroom, true, Percent.String, "")
	}
	d.duration(subject, path+".within", a.Within, b.Within, false, "")
	d.set(subject, path+".required", a.Required, b.Required, true, "")
	if x, y := a.Request, b.Request; x != nil && y != nil {
		d.other(subject, path+".request.method", x.Method, y.Method, "")
		d.other(subject, path+".request.path", x.Path, y.Path, "")
		d.other(subject, path+".request.file", x.File, y.File, "")
	}
	if x, y := a.Expect, b.Expect; x != nil && y != nil {
		d.other(subject, path+".expect.status", fmt.Sprint(x.Status), fmt.Sprint(y.Status), "")
		d.duration(subject, path+".expect.within", x.Within, y.Within, false, "")
		d.other(subject, path+".expect.schema", x.Schema, y.Schema, "")
	}
}

// windows compares when steps may start.
func (d *differ) windows(p, q *Policy) {
	a, b := p.Document.Spec.Windows, q.Document.Spec.Windows
	if a == nil {
		a = &Windows{Timezone: "UTC"}
	}
	if b == nil {
		b = &Windows{Timezone: "UTC"}
	}
	const subject = "windows"
	if len(a.Open)+len(a.Freezes) > 0 && len(b.Open)+len(b.Freezes) > 0 {
		d.other(subject, "windows.timezone", a.Timezone, b.Timezone, "")
	}
	open := func(w *Windows) []string {
		var out []string
		for _, o := range w.Open {
			out = append(out, fmt.Sprintf("%s for %s", o.Cron, document.FormatDuration(o.For)))
		}
		return out
	}
	switch old, now := open(a), open(b); {
	case len(old) == 0 && len(now) > 0:
		d.add(Tighter, subject, "windows.open", "always", list(now), "")
	case len(old) > 0 && len(now) == 0:
		d.add(Looser, subject, "windows.open", list(old), "always", "")
	default:
		d.set(subject, "windows.open", old, now, false, "")
	}
	freezes := func(w *Windows) []string {
		var out []string
		for _, f := range w.Freezes {
			out = append(out, fmt.Sprintf("%s %s–%s", f.Name, f.From, f.To))
		}
		return out
	}
	d.set(subject, "windows.freezes", freezes(a), freezes(b), true, "")
	schedule := func(s *Spec) string {
		if s.Schedule == nil {
			return ""
		}
		return s.Schedule.Cron
	}
	d.other(subject, "schedule", schedule(&p.Document.Spec), schedule(&q.Document.Spec), "")
}
