package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/cmd/internal/daemon"
	"github.com/belayd/belay/cmd/internal/probe"
	"github.com/belayd/belay/rollout/api"
)

// lookSources asks what the sources show, and what could be judged on it now.
func lookSources(ctx context.Context, c *api.Client) []finding {
	l, err := c.Sources(ctx)
	if p, ok := errors.AsType[*api.ProblemDetails](err); ok && p.Status == 403 {
		return []finding{{OK: true, What: "sources", Found: "not looked at: this token has not the role operate"}}
	}
	if err != nil {
		return []finding{{What: "sources", Found: sentence(err)}}
	}
	return sourceFindings(l.Sources)
}

// configFindings looks at a config and its sources without a daemon.
func configFindings(ctx context.Context, file string) []finding {
	report, ok := daemon.CheckConfig(file)
	lines := strings.Split(report, "\n")
	out := []finding{{OK: ok, What: "config", Found: lines[len(lines)-1]}}
	if !ok {
		out[0].Found = strings.Join(lines, "; ")
		out[0].Remedy = "belayd check-config " + file + " shows each problem by its line"
	}
	a, err := probe.OpenAdapters(file)
	if err != nil {
		return out // the report has said why
	}
	looks, err := a.Look(ctx)
	if err != nil {
		return out
	}
	return append(out, sourceFindings(looks)...)
}

// sourceFindings are a line for each source, metric and guardrail.
func sourceFindings(looks []api.SourceLook) []finding {
	if len(looks) == 0 {
		return []finding{{What: "sources", Found: "there are none: nothing can be judged",
			Remedy: "name a source in belayd's config under sources"}}
	}
	var out []finding
	for _, s := range looks {
		f := finding{OK: true, What: "source", Found: fmt.Sprintf("%s (%s) answered in %s", s.Name, s.Kind, s.Took)}
		switch {
		case s.Error != "":
			f = finding{What: "source", Found: fmt.Sprintf("%s (%s): %s", s.Name, s.Kind, s.Error), Remedy: s.Remedy}
		case len(s.Metrics) == 0:
			f.Found = fmt.Sprintf("%s (%s) was not read: no policy asks it", s.Name, s.Kind)
		case s.Took == "":
			f = finding{What: "source", Found: fmt.Sprintf("%s (%s) was not read: no router says who serves", s.Name,
				s.Kind), Remedy: "see its metrics"}
		}
		out = append(out, f)
		for _, m := range s.Metrics {
			out = append(out, metricFindings(m, m.Error == s.Error)...)
		}
	}
	return out
}

// metricFindings are a line for a metric and one for each of its guardrails.
// Where the source as a whole failed that is said once.
func metricFindings(m api.MetricLook, said bool) []finding {
	name := m.Policy + "/" + m.Metric
	var out []finding
	switch {
	case m.Error != "" && !said:
		out = append(out, finding{What: "metric", Found: name + ": " + m.Error, Remedy: m.Remedy})
	case m.Error == "":
		out = append(out, finding{OK: m.Stable.Fresh, What: "metric", Found: name + ": " + seen(m), Remedy: m.Remedy})
	}
	if a := m.AATest; a != nil {
		out = append(out, finding{OK: len(a.Alarms) == 0, What: "A/A test", Found: name + ": " + a.Sentence,
			Remedy: a.Remedy})
	}
	for _, g := range m.Guardrails {
		limit := g.Limit
		if g.Effective != "" {
			limit += " (" + g.Effective + ", where the buckets end)"
		}
		if g.Judgeable || m.Error == "" {
			out = append(out, finding{OK: g.Judgeable, What: "guardrail", Found: fmt.Sprintf("%s/%s %s: %s", m.Policy,
				g.Name, limit, g.Sentence)})
			continue
		}
		out = append(out, finding{What: "guardrail", Found: fmt.Sprintf("%s/%s %s: it cannot be judged", m.Policy,
			g.Name, limit)})
	}
	return out
}

// seen is what a source told of a metric.
func seen(m api.MetricLook) string {
	parts := []string{seenOf(m.Stable, m.Kind)}
	if m.Candidate != nil {
		parts = append(parts, seenOf(m.Candidate, m.Kind))
	}
	if span := m.To.Sub(m.From).Round(time.Second); span > 0 && m.Kind != analysis.KindValue {
		parts = append(parts, "in "+span.String())
	}
	if m.Behind != "" {
		text := m.Behind + " behind"
		if m.UsuallyBehind != "" && m.UsuallyBehind != m.Behind {
			text += " (lately up to " + m.UsuallyBehind + ")"
		}
		parts = append(parts, text)
	}
	if m.ScrapeInterval != "" {
		parts = append(parts, "scraped every "+m.ScrapeInterval)
	}
	return strings.Join(parts, "; ")
}

// seenOf is what was told of one deployment.
func seenOf(d *api.DeploymentLook, kind analysis.Kind) string {
	if !d.Fresh {
		return d.Name + " shows nothing fresh"
	}
	if kind == analysis.KindValue {
		return fmt.Sprintf("%s shows %s", d.Name, quantity(d.Value))
	}
	text := fmt.Sprintf("%s %s events", d.Name, quantity(d.N))
	if d.Instances > 0 {
		text += ", " + plural(d.Instances, "instance")
	}
	if d.Buckets > 0 {
		text += ", " + plural(d.Buckets, "bucket")
	}
	return text
}

// quantity is a number with three digits where it is no whole one.
func quantity(x float64) string {
	if x == math.Trunc(x) && math.Abs(x) < 1e15 || math.Abs(x) >= 1000 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}
