package forecast

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/sim"
)

// What is assumed of stable where nobody knows better.
const (
	assumedFailures = 0.005
	assumedSuccess  = 0.9
	assumedP95      = 0.2
	assumedSigma    = 0.5 // of the logarithm of latencies
	assumedPast     = 1e6
	// assumedInstances is how many of stable's instances a source tells apart, where
	// it can.
	assumedInstances = 2
)

// assume completes the baselines, and says what it assumed.
func (o *Forecast) assume(p *policies.Policy, plan *rollout.Plan, facts Inputs) map[string]analysis.Baseline {
	base := map[string]analysis.Baseline{}
	for _, m := range plan.Panel.Metrics {
		b, known := facts.Baselines[m.Name]
		if b.PerSecond == 0 {
			b.PerSecond = facts.PerSecond
		}
		if !known && facts.PerSecond > 0 {
			if text := guess(&b, m, p); text != "" {
				if instanceLabel(m) != "" {
					apart(&b, assumedInstances)
					text += fmt.Sprintf(", on %d instances, without bursts", assumedInstances)
				}
				o.Assumed = append(o.Assumed, text)
			}
		}
		b.Lag = o.lag(m, p, facts)
		base[m.Name] = b
	}
	return base
}

// lag is how old a metric's readings are when they come: as was seen, or else as the
// only kind of source that has such a metric is by itself.
func (o *Forecast) lag(m analysis.Metric, p *policies.Policy, facts Inputs) time.Duration {
	if d, known := facts.Lags[m.Name]; known {
		return d
	}
	ref := cmp.Or(p.Document.Spec.Metrics[m.Name].Builtin, m.Name)
	b, _ := policies.FindBuiltin(strings.TrimPrefix(ref, "builtin/"))
	if len(b.Sources) != 1 || policies.KindLags[b.Sources[0]] == 0 {
		return 0
	}
	d := policies.KindLags[b.Sources[0]]
	o.Assumed = append(o.Assumed, fmt.Sprintf("readings of %s are %s old when they come", m.Name,
		document.FormatDuration(d)))
	return d
}

// apart notes how many instances of stable the source tells apart: from several the
// rollout learns whether events cluster, and it is assumed that they do not.
func apart(b *analysis.Baseline, instances int) {
	if instances > 1 {
		b.Instances, b.Phi = instances, 1
	}
}

// instanceLabel is the label that tells a metric's instances apart, "" for none.
func instanceLabel(m analysis.Metric) string {
	switch m.Kind() {
	case analysis.KindCounts:
		return m.Counts.Instance
	case analysis.KindHistogram:
		return m.Histogram.Instance
	case analysis.KindMean:
		return m.Mean.Instance
	case analysis.KindValue:
	}
	return ""
}

// guess fills in how stable does: well within an absolute limit, and at a usual
// figure where limits are relative.
func guess(b *analysis.Baseline, m analysis.Metric, p *policies.Policy) string {
	var limit *policies.LimitText
	for i, g := range p.Document.Spec.Guardrails {
		if g.Metric == m.Name && g.Limit.Quantity.Unit != policies.UnitStable && g.Test != analysis.TestThreshold {
			limit = &p.Document.Spec.Guardrails[i].Limit
		}
	}
	switch m.Kind() {
	case analysis.KindCounts:
		if m.Rate() {
			return ""
		}
		b.Share = assumedFailures
		if m.Counts.Good != "" {
			b.Share = assumedSuccess
		}
		if limit != nil {
			b.Share = limit.Quantity.Value / 5
			if limit.AtLeast {
				b.Share = 1 - (1-limit.Quantity.Value)/5
			}
		}
		return fmt.Sprintf("stable's %s: %s of the events", m.Name, policies.Fraction(b.Share))
	case analysis.KindHistogram:
		p95 := assumedP95
		if limit != nil {
			p95 = limit.Quantity.Value * 0.6
		}
		b.Sample = lognormalSample(p95, limit)
		return fmt.Sprintf("stable's %s: p95 %s", m.Name,
			document.FormatDuration(time.Duration(p95*float64(time.Second)).Round(time.Millisecond)))
	case analysis.KindMean:
		mean := 1.0
		if limit != nil {
			mean = limit.Quantity.Value * 0.8
			if limit.AtLeast {
				mean = limit.Quantity.Value * 1.25
			}
		}
		b.Sample = analysis.Sample{Fresh: true, N: assumedPast, Sum: assumedPast * mean,
			SumSq: assumedPast * 2 * mean * mean}
		return fmt.Sprintf("stable's %s: mean %s, as widely spread as it is large", m.Name, document.FormatNumber(mean))
	case analysis.KindValue:
	}
	return ""
}

// lognormalSample is a past of latencies with the p95, on buckets that have the
// limit as a bound.
func lognormalSample(p95 float64, limit *policies.LimitText) analysis.Sample {
	s := analysis.Sample{Fresh: true, N: assumedPast}
	add := func(upper float64) {
		below := 0.0
		for _, b := range s.Buckets {
			below += b.Count
		}
		s.Buckets = append(s.Buckets, analysis.Bucket{Upper: upper,
			Count: math.Max(0, math.Floor(assumedPast*sim.Lognormal(upper, p95, assumedSigma))-below)})
	}
	for x, ratio := 0.001, math.Sqrt(math.Sqrt(2)); x < 64; x *= ratio {
		if limit != nil && len(s.Buckets) > 0 && s.Buckets[len(s.Buckets)-1].Upper < limit.Quantity.Value &&
			limit.Quantity.Value < x {
			add(limit.Quantity.Value)
		}
		add(x)
	}
	return s
}

// BaselineOf is how stable does, from a reading of its past over the interval.
func BaselineOf(m analysis.Metric, r analysis.Reading) (analysis.Baseline, bool) {
	seconds := r.To.Sub(r.From).Seconds()
	if r.Status != analysis.StatusOK || !r.Stable.Fresh || seconds <= 0 || r.Stable.N <= 0 || m.Rate() {
		return analysis.Baseline{}, false
	}
	b := analysis.Baseline{PerSecond: r.Stable.N / seconds, Sample: r.Stable}
	if m.Kind() == analysis.KindCounts {
		b.Share = r.Stable.K / r.Stable.N
	}
	apart(&b, len(r.Stable.Instances))
	return b, true
}
