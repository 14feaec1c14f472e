package importer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/policies/document"
)

// rollout makes a policy of an Argo Rollout.
func (im *importer) rollout(x *object) {
	spec := x.root.at("spec")
	strategy := spec.at("strategy")
	canary := strategy.at("canary")
	p := &policy{name: name(x.name), from: fmt.Sprintf("the Rollout %s (%s)", x.name, x.file), owner: im.owner(x),
		router: im.options.Router, runs: cmp.Or(x.name, "fill-in-endpoint")}
	switch {
	case strategy.at("blueGreen").is():
		p.steps = []step{{name: "full", weight: 100}}
		im.blueGreen(p, x, strategy.at("blueGreen"))
	case canary.is():
		im.argoSteps(p, x, canary)
	default:
		im.note(spec, "the Rollout has no strategy: the ladder is a fill-in")
		p.steps = ladder()
	}
	if a := canary.at("analysis"); a.is() {
		im.argoAnalysis(p, x, a, a, "")
		if s, ok := a.at("startingStep").number(); ok {
			im.note(a.at("startingStep"), fmt.Sprintf("the guardrails are judged from the first step on, not from "+
				"step %g: write `from:` to begin later", s))
		}
	}
	im.close(p, x)
}

// ladder is the one of people who said none.
func ladder() []step {
	return []step{{name: "5%", weight: 5}, {name: "25%", weight: 25}, {name: "60%", weight: 60},
		{name: "100%", weight: 100}}
}

// blueGreen reads what of a blue-green rollout has a counterpart.
func (im *importer) blueGreen(p *policy, x *object, b field) {
	for _, name := range []string{"prePromotionAnalysis", "postPromotionAnalysis"} {
		if a := b.at(name); a.is() {
			im.argoAnalysis(p, x, a, a, "")
			im.note(a, "it runs at one time; guardrails are judged in every step")
		}
	}
	if auto := b.at("autoPromotionEnabled"); auto.text() == "false" {
		p.approvals = append(p.approvals, approval{"promotion", "autoPromotionEnabled: false"})
		p.steps[0].requires = []string{"promotion"}
	}
	if d := b.at("autoPromotionSeconds"); d.is() {
		im.note(d, "a step waits for evidence or for a person, not for a time")
	}
	for _, name := range []string{"activeService", "previewService", "previewReplicaCount",
		"scaleDownDelayRevisionLimit"} {
		if f := b.at(name); f.is() {
			im.note(f, "the traffic is moved by a router of belayd's config; Belay scales nothing")
			f.take()
		}
	}
	im.note(b, "blue-green becomes the ladder 100%: consider 5/25/60/95/100, which shows a bad release to fewer")
}

// argoSteps reads the ladder: a pause is the bake of the weight before it, one without an
// end is an approval before the next weight, and an inline analysis is a guardrail.
func (im *importer) argoSteps(p *policy, x *object, canary field) {
	gate := ""
	for _, f := range canary.at("steps").items() {
		last := (*step)(nil)
		if len(p.steps) > 0 {
			last = &p.steps[len(p.steps)-1]
		}
		switch {
		case f.at("setWeight").is():
			w, ok := f.at("setWeight").number()
			if !ok || w < 0 || w > 100 || w != float64(int(w)) {
				im.note(f, "the weight is no whole number from 0 to 100: the step is left out")
				continue
			}
			switch {
			case w == 0:
				im.note(f, "a step of 0% moves nothing: it is left out; mirror steps come before live traffic")
			case last != nil && last.weight >= int(w):
				im.note(f, fmt.Sprintf("weights never fall, and %g%% comes after %d%%: the step is left out", w,
					last.weight))
			default:
				s := step{name: fmt.Sprintf("%g%%", w), weight: int(w)}
				if gate != "" {
					s.requires, gate = []string{gate}, ""
				}
				p.steps = append(p.steps, s)
			}
		case f.at("pause").is():
			d := f.at("pause").at("duration")
			t, ok := duration(d.text())
			switch {
			case !d.is():
				gate = fmt.Sprintf("continue-%d", len(p.approvals)+1)
				p.approvals = append(p.approvals, approval{gate, "a pause without an end"})
				f.take()
			case !ok:
				im.note(f, fmt.Sprintf("the duration %q is none: the step bakes as the others do", oneLine(d.text())))
			case last == nil:
				im.note(f, "a pause before the first weight waits for nothing: it is left out")
			default:
				last.bake += t
			}
		case f.at("analysis").is():
			from := ""
			if last != nil {
				from = last.name
			}
			im.argoAnalysis(p, x, f.at("analysis"), f.at("analysis"), from)
		case f.at("setMirrorRoute").is():
			if w, ok := f.at("setMirrorRoute").at("percentage").number(); ok && w >= 1 && w <= 100 &&
				len(p.steps) == 0 {
				p.steps = append(p.steps, step{name: fmt.Sprintf("mirror-%g%%", w), mirror: int(w)})
				im.note(f, "every request is mirrored at the share, whatever its path and headers")
			} else {
				im.note(f, "a mirror comes before live traffic, as a step with a share: it is left out")
			}
			f.take()
		case f.at("setCanaryScale").is(), f.at("setHeaderRoute").is(), f.at("experiment").is(), f.at("plugin").is():
			key := f.n.Content[0].Value
			im.note(f, reason("."+key))
			f.take()
		default:
			im.note(f, "no step that is known")
			f.take()
		}
	}
	if gate != "" {
		p.steps = append(p.steps, step{name: "100%", weight: 100, requires: []string{gate}})
	}
	if n := len(p.steps); n == 0 {
		im.note(canary, "the Rollout has no weights: the ladder is a fill-in")
		p.steps = ladder()
	} else if p.steps[n-1].weight < 100 {
		p.steps = append(p.steps, step{name: "100%", weight: 100})
	}
}

// argoAnalysis reads an analysis that names templates.
func (im *importer) argoAnalysis(p *policy, x *object, at, a field, from string) {
	args := map[string]string{}
	for _, arg := range a.at("args").items() {
		key := arg.at("name").text()
		if v := arg.at("value"); v.is() {
			args[key] = v.text()
		} else if v := arg.at("valueFrom"); v.is() {
			args[key] = im.argFrom(v)
		}
	}
	for _, t := range a.at("templates").items() {
		kind := "AnalysisTemplate"
		if t.at("clusterScope").text() == "true" {
			kind = "Cluster" + kind
		}
		im.template(p, t, kind, t.at("templateName").text(), args, from, 0)
	}
	if d := a.at("dryRun"); d.is() {
		for _, m := range d.items() {
			pattern := m.at("metricName").text()
			for i := range p.guardrails {
				if pattern == ".*" || name(pattern) == p.guardrails[i].name {
					p.guardrails[i].onBreach = "note"
				}
			}
		}
		im.note(d, "a dry run becomes `onBreach: note`: it is counted and shown, and nothing rests on it")
		d.take()
	}
}

// argFrom is the value of an argument that comes from the rollout.
func (im *importer) argFrom(v field) string {
	switch v.at("podTemplateHashValue").text() {
	case "Latest", "Stable":
		return "${version}"
	}
	path := v.at("fieldRef").at("fieldPath").text()
	if strings.HasPrefix(path, "metadata.labels") || path != "" {
		im.note(v, fmt.Sprintf("the value of %s is not in the file: fill it in", oneLine(path)))
	} else {
		im.note(v, "where the value comes from is not known here: fill it in")
		v.take()
	}
	return "fill-in"
}

// template reads the metrics of a template, and those of templates that it names.
func (im *importer) template(p *policy, at field, kind, named string, args map[string]string, from string, depth int) {
	t := im.templates[kind+"/"+named]
	if t == nil || depth > 8 {
		im.note(at, fmt.Sprintf("the %s %q is in none of the files: its guardrails are missing", kind, oneLine(named)))
		return
	}
	t.referred = true
	spec := t.root.at("spec")
	all := map[string]string{}
	for _, a := range spec.at("args").items() {
		key := a.at("name").text()
		if v := a.at("value"); v.is() {
			all[key] = v.text()
		} else if v := a.at("valueFrom"); v.is() {
			im.note(v, "the value is in a secret: Belay's sources read their credentials from belayd's config")
			v.take()
			all[key] = "fill-in"
		}
	}
	maps.Copy(all, args)
	for _, sub := range spec.at("templates").items() {
		subKind := "AnalysisTemplate"
		if sub.at("clusterScope").text() == "true" {
			subKind = "Cluster" + subKind
		}
		im.template(p, sub, subKind, sub.at("templateName").text(), all, from, depth+1)
	}
	for _, m := range spec.at("metrics").items() {
		im.argoMetric(p, m, all, from)
	}
}

// argoMetric makes a guardrail of one metric.
func (im *importer) argoMetric(p *policy, m field, args map[string]string, from string) {
	label := m.at("name").text()
	if i, ok := duration(m.at("interval").text()); ok && (p.interval == 0 || i < p.interval) {
		p.interval = max(i, time.Second)
	}
	provider := m.at("provider")
	prom := provider.at("prometheus")
	success, failure := m.at("successCondition"), m.at("failureCondition")
	if !prom.is() {
		kinds := keys(provider)
		im.note(m, fmt.Sprintf("the provider %s is not asked with Prometheus' language: define the metric %s by "+
			"hand, httpjson has recipes for most",
			cmp.Or(strings.Join(kinds, ", "), "(none)"), name(label)))
		m.take()
		return
	}
	b, guarded, ok := condition(success.text(), false)
	switch {
	case !success.is():
		b, guarded, ok = condition(failure.text(), true)
	case failure.is():
		im.note(failure, "beside successCondition it is left out: a guardrail has one limit")
		failure.take()
	}
	if !ok {
		im.note(m, fmt.Sprintf("the condition %q compares no single result with a number: define the guardrail %s by hand",
			oneLine(cmp.Or(success.text(), failure.text())), name(label)))
		m.take()
		return
	}
	if guarded {
		im.note(m, "what no data means is said by onNoData: it never passes")
	}
	failures, _ := m.at("failureLimit").number()
	query := im.fill(m, prom.at("query").text(), func(what string) (string, bool) {
		key, is := strings.CutPrefix(what, "args.")
		v, known := args[strings.TrimSpace(key)]
		return v, is && known
	})
	for _, f := range []field{prom.at("address"), prom.at("timeout"), prom.at("insecure"), prom.at("headers"),
		prom.at("authentication"), prom.at("rangeQuery")} {
		if f.is() {
			im.note(f, "how the source is reached stands in belayd's config")
			f.take()
		}
	}
	if f := m.at("failureLimit"); f.is() {
		im.note(f, reason(".failureLimit"))
	}
	im.measure(p, measure{name: cmp.Or(label, "metric"), at: m, query: query, bound: b,
		failures: int(min(max(failures, 0), 50)),
		why:      cmp.Or(success.text(), failure.text()), source: im.options.Source})
	if n := len(p.guardrails); from != "" && n > 0 {
		p.guardrails[n-1].from = from
	}
}

// keys are the names of a mapping's fields.
func keys(f field) []string {
	var out []string
	if n := resolved(f.n); n != nil {
		for i := 0; i+1 < len(n.Content); i += 2 {
			out = append(out, oneLine(n.Content[i].Value))
		}
	}
	return out
}

// owner is who answers, by the labels people use for that.
func (im *importer) owner(x *object) string {
	meta := x.root.at("metadata")
	for _, place := range []string{"labels", "annotations"} {
		for _, key := range []string{"owner", "team", "app.kubernetes.io/managed-by-team"} {
			if v := meta.at(place).at(key).text(); v != "" {
				return v
			}
		}
	}
	return im.options.Owner
}

// close settles what is common, and writes the policy.
func (im *importer) close(p *policy, x *object) {
	spec := field{x: x, n: x.root.n, path: ""}
	bakes := map[time.Duration]int{}
	for _, s := range p.steps {
		if s.bake > 0 {
			bakes[s.bake]++
		}
	}
	most := 0
	for _, s := range p.steps {
		if n := bakes[s.bake]; s.bake > 0 && n > most {
			most, p.bake = n, s.bake
		}
	}
	p.bake = cmp.Or(p.bake, 10*time.Minute)
	if most == 0 {
		im.note(spec, "no step says how long it lasts: bake is a fill-in of 10m")
	}
	var brief []string
	for i := range p.steps {
		if s := &p.steps[i]; s.bake > 0 && s.bake < minBake {
			brief = append(brief, s.name)
			s.bake = minBake
		}
	}
	if brief != nil {
		im.note(spec, fmt.Sprintf("%s: a step lasts longer than it takes to settle, here %s", strings.Join(brief, ", "),
			document.FormatDuration(minBake)))
	}
	p.bake = max(p.bake, minBake)
	if len(p.guardrails) == 0 {
		im.note(spec, "no metric could be taken over: the guardrail is a fill-in")
		p.add(metric{"failures", im.options.Source,
			`counts: {total: 'fill_in_total', bad: 'fill_in_total{code=~"5.."}', deployment: fill_in_label}`})
		p.guardrails = append(p.guardrails, guardrail{name: "failures", metric: "failures", limit: "<= 1%",
			why: "a fill-in"})
	}
	names := make([]string, 0, len(p.steps))
	for _, s := range p.steps {
		names = append(names, s.name)
	}
	for i := range p.guardrails {
		if g := &p.guardrails[i]; g.from != "" && (!slices.Contains(names, g.from) || names[0] == g.from) {
			g.from = ""
		}
	}
	im.finish(p)
}

// minBake is the least a step lasts: longer than it settles.
const minBake = 2 * time.Minute
