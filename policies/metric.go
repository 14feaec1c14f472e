package policies

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies/document"
)

// A resolvedMetric is what a name in a policy stands for.
type resolvedMetric struct {
	def analysis.Metric
	// known is false when only a config could define the metric.
	known bool
}

// Metric is the definition that a guardrail or the budget names, as a source knows it;
// ok is false where only a config could define it.
func (p *Policy) Metric(name string) (m analysis.Metric, ok bool) {
	r := p.metrics[name]
	return r.def, r.known
}

func sourcesOf(e *Environment) []string {
	if e == nil {
		return nil
	}
	return slices.Collect(maps.Keys(e.Sources))
}

// metrics checks the definitions in the policy.
func (c *checker) metrics() {
	ms := c.policy.Document.Spec.Metrics
	for _, name := range slices.Sorted(maps.Keys(ms)) {
		at := document.Join("spec.metrics", name)
		c.name(at, name, plainName)
		if strings.HasPrefix(name, "builtin/") {
			c.report(at, document.CodeValue, "builtin/ is for the ready-made metrics").Got = document.Shorten(name)
		}
		m := ms[name]
		if m.Source != "" {
			c.configName(at+".source", "source", m.Source, sourcesOf(c.env))
		}
		c.policy.metrics[name] = c.define(name, m, at)
		kind, _ := c.kindOfSource(m.Source)
		c.expressions(at, kind)
		c.called(at, m)
		c.queries(at, m)
	}
}

// define turns a definition into the judge's metric.
func (c *checker) define(name string, m Metric, at string) resolvedMetric {
	if m.Builtin == "" {
		r := resolvedMetric{def: m.metric(name)}
		r.known = r.def.Kind() != ""
		return r
	}
	def, ok := c.builtin(strings.TrimPrefix(m.Builtin, "builtin/"), m.Source, at+".builtin", at+".source")
	def.Name, def.Source, def.Roles, def.Deployments = name, m.Source, m.Roles, m.Deployments
	return resolvedMetric{def: def, known: ok}
}

// builtin finds a ready-made metric and checks that the source can answer it.
func (c *checker) builtin(ref, source, at, sourceAt string) (analysis.Metric, bool) {
	b, ok := FindBuiltin(ref)
	if !ok {
		p := c.report(at, document.CodeName, "there is no such ready-made metric")
		p.Got, p.Hint = document.Shorten(ref), document.SuggestOrList(ref, Builtins())
		return analysis.Metric{}, false
	}
	if c.env != nil && source != "" {
		if kind, ok := c.env.Sources[source]; ok && !slices.Contains(b.Sources, kind) {
			p := c.report(sourceAt, document.CodeMeaning, fmt.Sprintf("%s asks %s, and this source is %s", ref,
				document.OneOf(b.Sources), kind))
			p.Got = document.Shorten(source)
		}
	}
	return b.metric(), true
}

// metric finds what a guardrail or the budget names. A metric that is not known
// was reported.
func (c *checker) metric(name, source, at string) resolvedMetric {
	if m, ok := c.policy.metrics[name]; ok && !strings.HasPrefix(name, "builtin/") {
		return m
	}
	if ref, ok := strings.CutPrefix(name, "builtin/"); ok {
		return c.straightBuiltin(name, ref, source, at)
	}
	own := slices.Collect(maps.Keys(c.policy.Document.Spec.Metrics))
	if m, ok := c.standIns[name]; ok && c.env == nil {
		r := resolvedMetric{def: m.metric(name)}
		r.known = r.def.Kind() != ""
		c.policy.metrics[name] = r
		return r
	}
	if c.env == nil {
		if !c.warned["metric"+name] {
			c.warned["metric"+name] = true
			p := c.reportGot(at, WarnUnresolved, "the policy defines no such metric, so belayd's config must")
			p.Hint = document.Suggest(name, own)
			if p.Hint == "" {
				p.Hint = "check with --config FILE"
			}
		}
		return resolvedMetric{}
	}
	shared, ok := c.env.Metrics[name]
	if !ok {
		p := c.reportGot(at, document.CodeName, "neither the policy nor belayd's config defines this metric")
		p.Hint = document.SuggestOrList(name, append(own, slices.Collect(maps.Keys(c.env.Metrics))...))
		return resolvedMetric{}
	}
	r := c.define(name, shared, at)
	c.policy.metrics[name] = r
	return r
}

// straightBuiltin resolves metric: builtin/FAMILY/NAME in a guardrail.
func (c *checker) straightBuiltin(name, ref, source, at string) resolvedMetric {
	guardrail := strings.TrimSuffix(at, ".metric")
	if source == "" {
		p := c.report(at, document.CodeMissing, "a ready-made metric needs the source to ask")
		p.Got, p.Hint = document.Shorten(name), "add source: NAME beside it"
		source = ""
	}
	def, ok := c.builtin(ref, source, at, guardrail+".source")
	def.Name, def.Source = name, source
	if old, again := c.policy.metrics[name]; again && old.def.Source != source {
		p := c.report(at, document.CodeMeaning, "the same ready-made metric is asked of two sources")
		p.Got, p.Hint = old.def.Source+" and "+source, "define a metric for each, with builtin: "+ref
	}
	r := resolvedMetric{def: def, known: ok && source != ""}
	c.policy.metrics[name] = r
	return r
}

// metric is the definition as the judge and the sources know it.
func (m Metric) metric(name string) analysis.Metric {
	out := analysis.Metric{Name: name, Source: m.Source, Roles: m.Roles, Deployments: m.Deployments}
	switch {
	case m.Counts != nil:
		v := analysis.Counts(*m.Counts)
		out.Counts = &v
	case m.Histogram != nil:
		v := analysis.Histogram(*m.Histogram)
		out.Histogram = &v
	case m.Mean != nil:
		v := analysis.Mean(*m.Mean)
		out.Mean = &v
	case m.Value != nil:
		v := analysis.Value(*m.Value)
		out.Value = &v
	}
	return out
}

// called checks what the source calls the deployments.
func (c *checker) called(at string, m Metric) {
	for role := range m.Roles {
		if role != "stable" && role != "candidate" {
			c.report(at+".roles."+role, document.CodeName, "a role is stable or candidate").Hint = document.Suggest(
				role, []string{"stable", "candidate"})
		}
	}
	for field, names := range map[string]map[string]string{"roles": m.Roles, "deployments": m.Deployments} {
		seen := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			path := document.Join(at+"."+field, name)
			if names[name] == "" {
				c.reportGot(path, document.CodeValue, "has no value")
			} else if other, twice := seen[names[name]]; twice {
				c.reportGot(path, document.CodeMeaning, "is what "+other+
					" is called, too: the two could not be told apart")
			}
			seen[names[name]] = name
		}
	}
	for _, q := range m.texts() {
		if m.label() == "" && !q.value && !analysis.NamesDeployment(
			func(v string) bool { return mentions(q.text, v) }) && m.labelled() {
			p := c.report(at+"."+q.field, document.CodeMeaning, "no label names the deployment, and the expression "+
				"does not either: it would count both as one")
			p.Hint = "give the label, or put ${deployment}, ${role} or ${version} into it"
		}
	}
}

// labelled says whether the metric is of a kind that has a label of the deployment.
func (m Metric) labelled() bool { return m.Counts != nil || m.Histogram != nil || m.Mean != nil }

// label is the label that names the deployment.
func (m Metric) label() string {
	switch {
	case m.Counts != nil:
		return m.Counts.Deployment
	case m.Histogram != nil:
		return m.Histogram.Deployment
	case m.Mean != nil:
		return m.Mean.Deployment
	}
	return ""
}
