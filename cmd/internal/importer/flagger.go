package importer

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// canary makes a policy of a Flagger Canary.
func (im *importer) canary(x *object) {
	spec := x.root.at("spec")
	a := spec.at("analysis")
	if !a.is() {
		a = spec.at("canaryAnalysis")
	}
	p := &policy{name: name(x.name), from: fmt.Sprintf("the Canary %s (%s)", x.name, x.file), owner: im.owner(x),
		router: im.options.Router,
		runs:   cmp.Or(spec.at("targetRef").at("name").text(), x.name, "fill-in-endpoint")}
	interval, ok := duration(a.at("interval").text())
	if !ok {
		interval = time.Minute
	}
	p.interval = min(interval, 30*time.Second)
	if interval > p.interval {
		im.note(a.at("interval"), "it is the bake of a step here; guardrails are read every 30s, which costs the "+
			"source little")
	}
	im.flaggerSteps(p, a, interval)

	provider := spec.at("provider").text()
	for _, m := range a.at("metrics").items() {
		im.flaggerMetric(p, x, m, provider)
	}
	for _, w := range a.at("webhooks").items() {
		im.flaggerHook(p, w)
	}
	if f := a.at("threshold"); f.is() {
		im.note(f, reason(".threshold"))
		f.take()
	}
	for _, ref := range []string{"targetRef", "ingressRef", "routeRef"} {
		spec.at(ref).take()
	}
	im.close(p, x)
}

// flaggerSteps makes the ladder: every step lasts one interval at least.
func (im *importer) flaggerSteps(p *policy, a field, interval time.Duration) {
	most, hasMost := a.at("maxWeight").number()
	if !hasMost || most > 100 || most < 1 {
		most = 100
	}
	add := func(w int) {
		if n := len(p.steps); w >= 1 && w <= 100 && (n == 0 || p.steps[n-1].weight < w) {
			p.steps = append(p.steps, step{name: fmt.Sprintf("%d%%", w), weight: w, bake: interval})
		}
	}
	if a.at("mirror").text() == "true" {
		share := 100
		if w, ok := a.at("mirrorWeight").number(); ok && w >= 1 && w <= 100 {
			share = int(w)
		}
		p.steps = append(p.steps, step{name: fmt.Sprintf("mirror-%d%%", share), mirror: share, bake: interval})
	}
	if f := a.at("match"); f.is() {
		im.note(f, reason(".match"))
		f.take()
	}
	iterations, hasIterations := a.at("iterations").number()
	by, hasBy := a.at("stepWeight").number()
	switch all := a.at("stepWeights").items(); {
	case len(all) > 0:
		for _, f := range all {
			if w, ok := f.number(); ok {
				add(int(w))
			}
		}
	case hasBy && by >= 1:
		for w := by; w <= most && len(p.steps) < 50; w += by {
			add(int(w))
		}
		if n := int(most / by); n > 10 {
			im.note(a.at("stepWeight"), fmt.Sprintf("%d steps: fewer and larger ones decide as well, and sooner", n))
		}
	case hasIterations:
		im.note(a.at("iterations"),
			fmt.Sprintf("a release of %g iterations without weights becomes a ladder: fill it in", iterations))
		add(5)
		add(25)
		add(60)
	default:
		im.note(a, "the Canary has no weights: the ladder is a fill-in")
		add(5)
		add(25)
		add(60)
	}
	if f := a.at("stepWeightPromotion"); f.is() {
		im.note(f, "after the last step the candidate has everything and is stable: nothing is copied back")
	}
	if n := len(p.steps); n == 0 || p.steps[n-1].weight < 100 {
		p.steps = append(p.steps, step{name: "100%", weight: 100, bake: interval})
	}
}

// A builtinMetric is one of Flagger's own.
type builtinMetric struct{ total, good, histogram string }

// builtins are what Flagger's own metrics ask of each provider's counters.
var builtins = map[string]builtinMetric{
	"istio": {
		total:     `istio_requests_total{reporter="destination",destination_workload="${deployment}"}`,
		good:      `istio_requests_total{reporter="destination",destination_workload="${deployment}",response_code!~"5.*"}`,
		histogram: `istio_request_duration_milliseconds{reporter="destination",destination_workload="${deployment}"}`,
	},
	"linkerd": {
		total:     `response_total{deployment="${deployment}",direction="inbound"}`,
		good:      `response_total{deployment="${deployment}",direction="inbound",classification!="failure"}`,
		histogram: `response_latency_ms{deployment="${deployment}",direction="inbound"}`,
	},
	"nginx": {
		total:     `nginx_ingress_controller_requests{service="${deployment}"}`,
		good:      `nginx_ingress_controller_requests{service="${deployment}",status!~"5.*"}`,
		histogram: `nginx_ingress_controller_request_duration_seconds{service="${deployment}"}`,
	},
	"kubernetes": {
		total:     `http_request_duration_seconds_count{pod=~"${deployment}-.*"}`,
		good:      `http_request_duration_seconds_count{pod=~"${deployment}-.*",status!~"5.*"}`,
		histogram: `http_request_duration_seconds{pod=~"${deployment}-.*"}`,
	},
}

// flaggerMetric makes a guardrail of one metric.
func (im *importer) flaggerMetric(p *policy, x *object, m field, provider string) {
	label := cmp.Or(m.at("name").text(), m.at("templateRef").at("name").text(), "metric")
	m.at("interval").take()
	bounds := flaggerBounds(m)
	if len(bounds) == 0 {
		im.note(m, fmt.Sprintf("the metric %s has no threshold: it is left out", oneLine(label)))
		m.take()
		return
	}
	if len(bounds) > 1 {
		im.note(m.at("thresholdRange"), "a range becomes two guardrails")
	}
	for _, b := range bounds {
		why := fmt.Sprintf("at most %g", b.value)
		if b.least {
			why = fmt.Sprintf("at least %g", b.value)
		}
		one := measure{name: label, at: m, bound: b, why: why, source: im.options.Source}
		if ref := m.at("templateRef"); ref.is() {
			im.metricTemplate(p, x, m, ref, one)
			continue
		}
		if q := m.at("query"); q.is() {
			one.query = im.flaggerFill(x, m, q.text())
			im.measure(p, one)
			continue
		}
		im.builtin(p, m, provider, one)
	}
}

// flaggerBounds are the limits of a metric.
func flaggerBounds(m field) []bound {
	var out []bound
	if r := m.at("thresholdRange"); r.is() {
		if v, ok := r.at("min").number(); ok {
			out = append(out, bound{least: true, value: v})
		}
		if v, ok := r.at("max").number(); ok {
			out = append(out, bound{value: v})
		}
		return out
	}
	if v, ok := m.at("threshold").number(); ok {
		// Before ranges there was one number: the least of a success rate, the most of else.
		out = append(out, bound{least: strings.Contains(m.at("name").text(), "success"), value: v})
	}
	return out
}

// builtin writes one of Flagger's own metrics.
func (im *importer) builtin(p *policy, m field, provider string, one measure) {
	family, _, _ := strings.Cut(cmp.Or(provider, "istio"), ":")
	b, known := builtins[family]
	if provider == "" {
		im.note(m, "the Canary names no provider: Istio's counters are assumed")
	}
	if !known {
		im.note(m, fmt.Sprintf("the counters of the provider %q are not known here: fill in the metric %s",
			oneLine(provider), name(one.name)))
		b = builtinMetric{`fill_in_total{x="${deployment}"}`, `fill_in_total{x="${deployment}",code!~"5.."}`,
			`fill_in_seconds{x="${deployment}"}`}
	}
	metricName := p.metricName(name(one.name))
	g := guardrail{name: p.guardrailName(name(one.name)), metric: metricName, why: one.why}
	switch one.name {
	case "request-success-rate":
		p.add(metric{metricName, one.source, fmt.Sprintf("counts: {total: %s, good: %s, deployment: \"\"}",
			quote(b.total), quote(b.good))})
		g.limit = ">= " + percent(rounded(min(max(one.bound.value, 0.01), 100)))
	case "request-duration":
		unit := "s"
		if strings.HasSuffix(b.histogram[:strings.IndexByte(b.histogram, '{')], "_milliseconds") ||
			strings.Contains(b.histogram, "_ms{") {
			unit = "ms"
		}
		p.add(metric{metricName, one.source, fmt.Sprintf("histogram: {series: %s, unit: %s, deployment: \"\"}",
			quote(b.histogram), unit)})
		g.quantile, g.limit = "p99", fmt.Sprintf("<= %gms", one.bound.value)
	default:
		im.note(m, fmt.Sprintf("%s is none of Flagger's own metrics and names no template: fill it in",
			oneLine(one.name)))
		m.take()
		return
	}
	p.guardrails = append(p.guardrails, g)
}

// metricTemplate reads a MetricTemplate.
func (im *importer) metricTemplate(p *policy, x *object, m, ref field, one measure) {
	ref.at("namespace").take()
	named := ref.at("name").text()
	t := im.templates["MetricTemplate/"+named]
	if t == nil {
		im.note(ref, fmt.Sprintf("the MetricTemplate %q is in none of the files: its guardrail is missing",
			oneLine(named)))
		return
	}
	t.referred = true
	spec := t.root.at("spec")
	kind := spec.at("provider").at("type").text()
	spec.at("provider").take()
	query := spec.at("query")
	if kind != "prometheus" && kind != "" {
		im.note(query, fmt.Sprintf("the provider %s is not asked with Prometheus' language: define the metric %s by "+
			"hand, httpjson has recipes for most",
			oneLine(kind), name(one.name)))
		query.take()
		return
	}
	m.at("templateVariables").take()
	one.query = im.flaggerFill(x, m, query.text())
	im.measure(p, one)
}

// flaggerFill puts in what Flagger's templates stand for.
func (im *importer) flaggerFill(x *object, m field, query string) string {
	meta, spec := x.root.at("metadata"), x.root.at("spec")
	variables := m.at("templateVariables")
	return im.fill(m, query, func(what string) (string, bool) {
		switch what {
		case "target", "name":
			return "${deployment}", true
		case "namespace":
			v := meta.at("namespace").text()
			return v, v != ""
		case "interval":
			return "1m", true
		case "ingress":
			v := spec.at("ingressRef").at("name").text()
			return v, v != ""
		case "service":
			v := cmp.Or(spec.at("service").at("name").text(), spec.at("targetRef").at("name").text())
			return v, v != ""
		case "route":
			v := spec.at("routeRef").at("name").text()
			return v, v != ""
		}
		key, is := strings.CutPrefix(what, "variables.")
		v := variables.at(key).text()
		return v, is && v != ""
	})
}

// flaggerHook reads what of a webhook has a counterpart.
func (im *importer) flaggerHook(p *policy, w field) {
	kind := cmp.Or(w.at("type").text(), "rollout")
	named := name(cmp.Or(w.at("name").text(), kind))
	switch kind {
	case "confirm-rollout", "confirm-promotion", "confirm-traffic-increase":
		at := 0
		if kind == "confirm-promotion" {
			at = len(p.steps) - 1
		}
		for i := range p.steps {
			if i == at || kind == "confirm-traffic-increase" && p.steps[i].weight > 0 {
				p.steps[i].requires = append(p.steps[i].requires, named)
			}
		}
		p.approvals = append(p.approvals, approval{named, kind})
		im.note(w, fmt.Sprintf("the %s hook becomes the approval %s, which people answer", kind, named))
	case "event":
		im.note(w, "lifecycle events go to the sinks of belayd's config, as CloudEvents")
	case "rollback":
		im.note(w, "`belay rollback` is an act with a name and a reason; nothing is polled for it")
	default:
		im.note(w, fmt.Sprintf("the %s hook has no counterpart yet: run it in the pipeline before `belay start`, or "+
			"as the preflight check invoke", oneLine(kind)))
	}
	w.take()
}
