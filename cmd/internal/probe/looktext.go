package probe

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/api"
)

// metric is a target as the API shows it. failed is why the source as a whole told
// nothing; "" when it did.
func (l *SourceProbe) metric(s *probeTarget, now time.Time, failed string) api.MetricLook {
	m := api.MetricLook{Policy: s.policy, Metric: s.metric.Name, Kind: s.metric.Kind(), Endpoint: s.serving.ref,
		Guardrails: []api.GuardrailLook{}}
	r := s.reading
	switch {
	case s.serving.Stable == "":
		m.Error, m.Remedy = "not read: "+s.serving.err.Error(), "check the router "+s.serving.ref.Router+" in belayd's "+
			"config, or name spec.endpoint.stable in the policy"
	case failed != "":
		m.Stable, m.Error = &api.DeploymentLook{Name: s.serving.Stable}, failed
	default:
		source := l.Sources[s.metric.Source]
		if source.ScrapeInterval != nil {
			m.ScrapeInterval = shortDuration(source.ScrapeInterval(s.metric))
		}
		if source.Behind != nil {
			m.UsuallyBehind = shortDuration(source.Behind(s.metric).Round(time.Second))
		}
		m.Stable = deployment(s.serving.Stable, r, r.Stable)
		if s.serving.Candidate != "" {
			m.Candidate = deployment(s.serving.Candidate, r, r.Candidate)
		}
		if r.Status != analysis.StatusOK {
			m.Error, m.Remedy = r.Reason, remedy(s.metric.Source, r.Reason)
			break
		}
		m.From, m.To, m.Behind = r.From.UTC(), r.To.UTC(), shortDuration(max(now.Sub(r.To), 0).Round(time.Second))
		if !r.Stable.Fresh && r.To.After(r.From) {
			m.Remedy = "correct " + s.metric.Name + " in policy " + s.policy +
				": its labels must name endpoint and deployment as the series do"
		}
	}
	if s.aaTest != nil && s.aaTest.Sentence != "" {
		m.AATest = s.aaTest
	}
	for i := range s.plan.Panel.Guardrails {
		g := &s.plan.Panel.Guardrails[i]
		if g.Metric != s.metric.Name {
			continue
		}
		x := api.GuardrailLook{Name: g.Name, Limit: g.Limit.Text}
		if m.Error != "" {
			x.Sentence = "it cannot be judged: " + m.Error
		} else {
			x.Judgeable, x.Sentence = judgeable(g, s)
			x.Effective = effective(g, s.metric, &r.Stable)
		}
		m.Guardrails = append(m.Guardrails, x)
	}
	return m
}

// deployment is what was told of one deployment.
func deployment(name string, r analysis.Reading, x analysis.Sample) *api.DeploymentLook {
	d := &api.DeploymentLook{Name: name, Fresh: r.Status == analysis.StatusOK && x.Fresh}
	if !d.Fresh {
		return d
	}
	d.N, d.K, d.Value, d.Instances, d.Buckets = x.N, x.K, x.Value, len(x.Instances), len(x.Buckets)
	if s := r.To.Sub(r.From).Seconds(); s > 0 {
		d.PerSecond = math.Round(x.N/s*1000) / 1000
	}
	return d
}

// judgeable says whether a guardrail could be judged on what was told of stable,
// and why.
func judgeable(g *analysis.Guardrail, s *probeTarget) (bool, string) {
	r, stable := s.reading, s.serving.Stable
	kind := s.metric.Kind()
	span := shortDuration(r.To.Sub(r.From).Round(time.Second))
	switch {
	case !r.To.After(r.From):
		return false, "it cannot be judged yet: the source knows of no interval"
	case !r.Stable.Fresh:
		return false, "it cannot be judged: there is no fresh series of " + stable + because(r.Reason)
	case kind == analysis.KindValue:
		return true, fmt.Sprintf("it can be judged: %s shows %s", stable, figure(r.Stable.Value))
	case s.metric.Rate():
		return true, fmt.Sprintf("it can be judged: %s had %s events in %s", stable, figure(r.Stable.K), span)
	case r.Stable.N <= 0:
		return false, fmt.Sprintf("it cannot be judged: %s had no events in the last %s", stable, span)
	case kind == analysis.KindHistogram && len(r.Stable.Buckets) == 0:
		return false, "it cannot be judged: " + stable + " shows no buckets"
	}
	if why, cure := g.NeverPasses(&s.metric, &r.Stable); why != "" {
		return false, "no release as good as " + stable + " can pass it: " + why + ". " + cure
	}
	text := fmt.Sprintf("it can be judged: %s had %s events in %s", stable, figure(r.Stable.N), span)
	if how := g.Broken(&s.metric, &r.Stable); how != "" {
		text += "; " + stable + " itself breaks it: " + how
	}
	if g.Limit.Relative && (s.serving.Candidate == "" || !r.Candidate.Fresh || r.Candidate.N <= 0) {
		text += "; a candidate to compare with it has none yet"
	}
	return true, text
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// effective is the limit on the histogram's own buckets; "" where it is the
// limit itself.
func effective(g *analysis.Guardrail, m analysis.Metric, x *analysis.Sample) string {
	if m.Kind() != analysis.KindHistogram || g.Limit.Relative || len(x.Buckets) == 0 {
		return ""
	}
	b, ok := g.Effective(x)
	pass := g.Limit.Value
	if g.DetectLatency {
		pass = g.Detect
	}
	const same = 1e-9
	if !ok || math.Abs(b.Breach-g.Limit.Value) <= same && math.Abs(b.Pass-pass) <= same {
		return ""
	}
	return fmt.Sprintf("breach at %s, pass at %s", seconds(b.Breach), seconds(b.Pass))
}

// seconds is a latency for people.
func seconds(x float64) string {
	return shortDuration(time.Duration(math.Round(x*1e6)) * time.Microsecond)
}

// shortDuration is a duration without empty parts; "" for 0.
func shortDuration(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d >= time.Minute && d%time.Minute == 0 && d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	}
	return d.String()
}

// figure is a number for people, with three digits where it is no whole one.
func figure(x float64) string {
	if x == math.Trunc(x) && math.Abs(x) < 1e15 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}
