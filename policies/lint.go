package policies

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/promql"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
)

// lint warns about what is legal and unwise in the parts of a policy that have no
// errors: what is wrong is told in one run. Where more is wrong than is reported, no
// part is known to be free of errors.
func (c *checker) lint(errs document.Problems) {
	if c.policy.Base || len(errs) > document.MaxProblems || len(c.problems) > document.MaxProblems {
		return
	}
	sound := func(parts ...string) bool {
		return !slices.ContainsFunc(errs, func(p document.Problem) bool {
			return p.Path == "" || p.Path == "spec" || slices.ContainsFunc(parts, func(part string) bool {
				return strings.HasPrefix(p.Path, part)
			})
		})
	}
	d := &c.policy.Document
	const steps, guardrails, metrics = "spec.steps", "spec.guardrails", "spec.metrics"
	if sound(steps, guardrails, metrics, "spec.bake", "spec.interval", "spec.settle") {
		c.lintSteps(&d.Spec)
		c.lintGuardrails(&d.Spec)
	}
	if sound(metrics) {
		c.lintMetrics(&d.Spec)
	}
	if sound(steps, "spec.approvals") {
		c.lintGates(&d.Spec)
	}
	if sound("spec.windows") {
		c.lintWindows(&d.Spec)
	}
	if sound() {
		c.lintPolicy(d)
	}
}

func (c *checker) lintPolicy(d *Document) {
	s := &d.Spec
	if len(s.Page) == 0 {
		c.warn("spec", WarnNoPage, "", "add page: [NOTIFIER]")
	}
	if d.Metadata.Annotations["runbook"] == "" {
		c.warn("metadata", WarnNoRunbook, "", "add annotations: {runbook: URL}")
	}
	if !slices.ContainsFunc(s.Preflight, func(ch Check) bool { return ch.Check == "rollback-ready" }) {
		c.warn("spec", WarnNoWayBack, "", "add {check: rollback-ready} to preflight")
	}
	if s.OnUndecided == rollout.UndecidedPromote {
		c.warn("spec.onUndecided", WarnUndecided, "", "")
	}
	for _, m := range []struct {
		path string
		m    Missing
	}{{"spec.onNoData", s.OnNoData}, {"spec.onSourceError", s.OnSourceError}} {
		if m.m.Then == analysis.ActionPage && m.m.RollbackAfter == 0 {
			c.warn(m.path, WarnMissing, "", "")
		}
		c.lintPatience(m.path, m.m, s.Interval)
	}
	if s.FalseRollback >= 0.05 {
		c.warn("spec.falseRollback", WarnManyFalse, "", "")
	}
}

func (c *checker) lintSteps(s *Spec) {
	live := false
	for i, st := range s.Steps {
		at := fmt.Sprintf("spec.steps[%d]", i)
		if st.Weight != nil && !live {
			live = true
			if *st.Weight > 30 && i == 0 {
				c.warn(at, WarnBigFirstStep, st.share().Words(), "begin with 5% or less, or with a mirror")
			}
		}
		if st.Mirror != nil && *st.Mirror > 50 && c.env != nil && c.env.Routers[s.Endpoint.Router] == "azureml" {
			c.warn(at+".mirror", WarnMirror, "", "")
		}
		c.lintStep(s, i, at)
	}
	c.lintTop(s)
}

// The last step before 100% leaves stable enough of the traffic to compare with, and
// shows the candidate under nearly all of it, from leastCompared to mostCompared.
const (
	leastCompared Percent = 90
	mostCompared  Percent = 98
)

// lintTop warns of a ladder that ends too low, and of one that shows the candidate under
// nearly all of the traffic only where stable has none.
func (c *checker) lintTop(s *Spec) {
	top := len(s.Steps) - 1
	at := fmt.Sprintf("spec.steps[%d]", top)
	if s.Steps[top].Weight == nil || *s.Steps[top].Weight < 100 {
		c.warn(at, WarnShortLadder, "", "")
		return
	}
	if top == 0 || s.Steps[top-1].Weight == nil {
		c.warn(at, WarnLastCompared, "", "put steps like 5% and 95% before it")
		return
	}
	switch before := s.Steps[top-1]; {
	case *before.Weight < leastCompared:
		c.warn(at, WarnLastCompared, "after "+before.Weight.String(), "put {weight: 95%, bake: "+
			document.FormatDuration(max(before.Bake, s.Steps[top].Bake))+"} before it")
	case *before.Weight > mostCompared:
		c.warn(at, WarnLastCompared, "after "+before.Weight.String(), "95% leaves stable enough to compare with")
	case before.Bake < s.Steps[top].Bake:
		c.warn(at, WarnLastCompared, fmt.Sprintf("%s, after %s at %s", document.FormatDuration(s.Steps[top].Bake),
			document.FormatDuration(before.Bake), before.Weight.String()), "bake longer at "+before.Weight.String()+
			", and shorter here")
	}
}

// minReadings is how many readings a bake should leave after settling: the
// evidence of one alone never decides.
const minReadings = 4

func (c *checker) lintStep(s *Spec, i int, at string) {
	st := s.Steps[i]
	if rest := st.Bake - s.Settle; rest < minReadings*s.Interval {
		c.warn(at, WarnShortBake, "", fmt.Sprintf("%s of bake leave %s after settling; take at least %s, or shorten settle",
			document.FormatDuration(st.Bake), document.FormatDuration(max(rest, 0)),
			document.FormatDuration(s.Settle+minReadings*s.Interval)))
	}
	required, absolute := false, false
	for _, g := range s.Guardrails {
		if g.Evidence == analysis.EvidenceRequired && g.OnBreach != analysis.ActionNote && slices.Contains(s.stepsOf(g), i) {
			required = true
			absolute = absolute || g.Limit.Quantity.Unit != UnitStable
		}
	}
	switch {
	case !required:
		c.warn(at, WarnNothingDecides, "", "")
	case st.Weight != nil && *st.Weight == 100 && !absolute:
		c.warn(at, WarnFullUnwatched, "", `add a guardrail like limit: "<= 1%" for this step`)
	}
}

func (c *checker) lintGuardrails(s *Spec) {
	for i, g := range s.Guardrails {
		at := fmt.Sprintf("spec.guardrails[%d]", i)
		kind := analysis.Kind("")
		if m := c.policy.metrics[g.Metric]; m.known {
			kind = m.def.Kind()
			if c.fromAzureMonitor(g.Metric, m) && (g.OnBreach == analysis.ActionRollback ||
				kind == analysis.KindHistogram) {
				c.warn(at+".metric", WarnNoQuantile, g.Metric, pick(kind == analysis.KindHistogram,
					"this source has no histograms: use builtin/azureml/latency",
					"let it hold or page, or use builtin/azureml/latency"))
			}
		}
		if why := c.wrongSide(g); why != "" {
			c.warn(at+".limit", WarnDirection, g.Limit.Text, why)
		}
		if len(s.stepsOf(g)) == 0 {
			c.warn(at, WarnNotJudged, "", "")
		}
		if g.Test == analysis.TestThreshold && !c.rate(&s.Guardrails[i]) &&
			(kind == analysis.KindCounts || kind == analysis.KindHistogram) {
			c.warn(at+".test", WarnThresholdCount, "", "remove test: threshold")
		}
		if g.Detect.Given() && near(g) {
			c.warn(at+".detect", WarnNearDetect, g.Detect.Text+" beside "+g.Limit.Text, "")
		}
	}
}

// wrongSide says why a limit may be meant the other way round; "" where it may not.
func (c *checker) wrongSide(g Guardrail) string {
	l, m := g.Limit, c.policy.metrics[g.Metric]
	other := pick(l.AtLeast, "<=", ">=")
	switch counts := m.def.Counts; {
	case m.known && counts != nil && counts.Good != "" && !l.AtLeast:
		return "the metric counts what is good, of which there should be enough: " + other
	case m.known && counts != nil && counts.Bad != "" && counts.Total != "" && l.AtLeast:
		return "the metric counts what is bad, of which there should be little: " + other
	case l.Quantity.Unit == UnitStable && !l.AtLeast && l.Quantity.Value < 1:
		return "a release has to do better than stable; at most as much is <= 1x stable or more"
	case l.Quantity.Unit == UnitStable && l.AtLeast && l.Quantity.Value > 1:
		return "a release has to do better than stable; at least as much is >= 1x stable or less"
	}
	return ""
}

// fromAzureMonitor reports whether a metric is Azure Monitor's: as the config
// says, or without one because only Azure Monitor has such a ready-made metric.
func (c *checker) fromAzureMonitor(name string, m resolvedMetric) bool {
	const kind = "azuremonitor"
	if c.env != nil {
		return c.env.Sources[m.def.Source] == kind
	}
	ref := cmp.Or(c.policy.Document.Spec.Metrics[name].Builtin, name)
	b, ok := FindBuiltin(strings.TrimPrefix(ref, "builtin/"))
	return ok && slices.Equal(b.Sources, []string{kind})
}

// near reports whether detect is less than a tenth beyond the limit, or less
// than a hundredth where more is better.
func near(g Guardrail) bool {
	if g.Detect.Unit != g.Limit.Quantity.Unit || g.Quantile > 0 {
		return false
	}
	if g.Limit.AtLeast {
		return g.Detect.Value > g.Limit.Quantity.Value*0.99
	}
	return g.Detect.Value < g.Limit.Quantity.Value*1.1
}

func (c *checker) lintMetrics(s *Spec) {
	used := map[string]bool{}
	for _, g := range s.Guardrails {
		used[g.Metric] = true
	}
	if s.Budget != nil {
		used[s.Budget.Metric] = true
	}
	for _, name := range slices.Sorted(maps.Keys(s.Metrics)) {
		at := document.Join("spec.metrics", name)
		if !used[name] {
			c.warn(at, WarnUnusedMetric, "", "")
		}
		m := s.Metrics[name]
		c.lintQueries(at, m)
		if used[name] && m.unlabelled() {
			c.warn(at, WarnNoInstance, "", "add instance: the label of pods, or, where clients stick, the one by which the "+
				"router splits them; belay doctor tries it")
		}
		switch {
		case m.Value != nil && !mentions(m.Value.Query, "deployment", "candidate", "role", "version") &&
			!c.ofDeployment(m):
			c.warn(at+".value.query", WarnSameForBoth, "", "put ${deployment} into it")
		case m.Counts != nil && m.Counts.Total != "" && !mentions(m.Counts.Total, "endpoint", "stable", "candidate"):
			c.warn(at+".counts.total", WarnEveryEndpoint, "", `add a matcher like {endpoint="${endpoint}"}`)
		case m.Histogram != nil && !mentions(m.Histogram.Series, "endpoint", "stable", "candidate"):
			c.warn(at+".histogram.series", WarnEveryEndpoint, "", `add a matcher like {endpoint="${endpoint}"}`)
		}
	}
}

// unlabelled reports whether evidence is drawn from the metric, and it names no label that
// tells instances apart.
func (m *Metric) unlabelled() bool {
	switch {
	case m.Counts != nil:
		return m.Counts.Per == 0 && m.Counts.Instance == ""
	case m.Histogram != nil:
		return m.Histogram.Instance == ""
	case m.Mean != nil:
		return m.Mean.Instance == ""
	}
	return false
}

// ofDeployment reports whether a value is asked of each deployment by itself: the
// metrics that Azure has of deployments.
func (c *checker) ofDeployment(m Metric) bool {
	kind, _ := c.kindOfSource(m.Source)
	_, inner := promql.Fold(m.Value.Query)
	return kind == "azuremonitor" && azureDeployment.MatchString(inner)
}

var azureDeployment = regexp.MustCompile(`^(?i:cpu|gpu|diskutilization|deploymentcapacity)`)

func mentions(expr string, names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.Contains(expr, "${"+n+"}") })
}

func (c *checker) lintGates(s *Spec) {
	for i, a := range s.Approvals {
		at := fmt.Sprintf("spec.approvals[%d]", i)
		if !slices.ContainsFunc(s.Steps, func(st Step) bool { return slices.Contains(st.Requires, a.Name) }) {
			c.warn(at, WarnUnusedGate, a.Name, "")
		}
		c.lintQuorum(at, a)
		if !slices.Contains(a.NotBy, "requester") {
			c.warn(at, WarnSelfApproval, "", "add notBy: [requester]")
		}
	}
}

// lintQuorum warns of a gate that nobody can open, or too few.
func (c *checker) lintQuorum(at string, a Approval) {
	if c.env != nil && c.env.Anonymous && !slices.Contains(a.From.Users, "local") {
		c.warn(at+".from", WarnNobody, "", "the config has no auth and no notifier that takes answers: everybody is local")
		return
	}
	people := len(slices.Compact(slices.Sorted(slices.Values(a.From.Users))))
	for _, g := range a.From.Groups {
		if c.env == nil || c.env.Groups == nil {
			return // whoever knows the groups knows how many there are
		}
		people += c.env.Groups[g]
	}
	switch got := fmt.Sprintf("%d of %d", a.Quorum, people); {
	case people == 0:
		c.warn(at+".from", WarnNobody, "", "nobody of the config's people is in "+document.OneOf(a.From.Groups))
	case a.Quorum > people:
		c.warn(at+".quorum", WarnQuorum, got, "")
	case a.Quorum == people && slices.Contains(a.NotBy, "requester"):
		c.warn(at+".quorum", WarnQuorum, got, "when one of them asks for the release, it may not answer")
	}
}

func (c *checker) lintWindows(s *Spec) {
	w := c.policy.windows
	if s.Windows == nil || w == nil || len(s.Windows.Open) == 0 || len(w.freezes) == 0 {
		return
	}
	for _, o := range s.Windows.Open {
		cron, err := parseCron(o.Cron)
		if err != nil {
			return // unreachable: the policy has no errors
		}
		t := w.freezes[0].from.In(w.zone).Add(-time.Nanosecond)
		end := t.AddDate(1, 0, 0)
		for n := 0; n < 1000 && t.Before(end); n++ {
			if t = cron.Next(t); t.IsZero() {
				break
			}
			if !slices.ContainsFunc(w.freezes, func(f span) bool {
				return !t.Before(f.from) &&
					!t.Add(o.For).After(f.to)
			}) {
				return
			}
		}
	}
	c.warn("spec.windows", WarnFrozen, "", "")
}
