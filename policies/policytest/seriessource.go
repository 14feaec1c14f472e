package policytest

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout/sim"
)

// A seriesSource is a metric source that answers from the series of a test.
type seriesSource struct {
	start    time.Time
	interval time.Duration
	series   map[string]Series
	// volume names the series that tell how many events a histogram has, where it
	// has no count of its own.
	volume string
	// bounds are the histograms' bucket bounds, by metric.
	bounds map[string][]float64
	// down are the times in which no source answers.
	down []silence

	sums    map[string][]float64
	buckets map[string][][]float64
}

// A silence is a time in which no source answers.
type silence struct{ from, to time.Time }

// newSeriesSource prepares the series of one case for a policy.
func newSeriesSource(f *File, c Case, p *policies.Policy) *seriesSource {
	b := &seriesSource{start: time.Time(f.Start), interval: f.Interval, series: map[string]Series{},
		bounds: map[string][]float64{},
		sums:   map[string][]float64{}, buckets: map[string][][]float64{}}
	for _, m := range []map[string]Series{f.Series, c.Series} {
		maps.Copy(b.series, m)
	}
	b.volume = b.findVolume()
	for _, g := range p.Document.Spec.Guardrails {
		if g.Quantile > 0 {
			b.bounds[g.Metric] = append(b.bounds[g.Metric], histogramBounds(g)...)
		}
	}
	for name, bounds := range b.bounds {
		slices.Sort(bounds)
		b.bounds[name] = slices.Compact(bounds)
	}
	return b
}

// findVolume is the metric whose total stands for the number of requests:
// failures, else the first by name.
func (b *seriesSource) findVolume() string {
	best := ""
	for name := range b.series {
		metric, part, _, _ := splitSeries(name)
		if part == "total" && (metric == "failures" || best != "failures" && (best == "" || metric < best)) {
			best = metric
		}
	}
	return best
}

// histogramBounds are the bounds that judge a guardrail exactly, and coarse ones
// around them for the estimates; relative quantiles need fine ones throughout.
func histogramBounds(g policies.Guardrail) []float64 {
	ratio := 2.0
	if g.Limit.Quantity.Unit == policies.UnitStable {
		ratio = math.Sqrt(math.Sqrt(2))
	}
	var out []float64
	for x := 0.001; x < 64; x *= ratio {
		out = append(out, x)
	}
	for _, q := range []policies.Quantity{g.Limit.Quantity, g.Detect} {
		if q.Unit == policies.UnitSeconds && q.Value > 0 {
			out = append(out, q.Value)
		}
	}
	return out
}

// has reports whether the series give a metric at all.
func (b *seriesSource) has(m analysis.Metric) bool {
	part := map[analysis.Kind]string{analysis.KindCounts: "total", analysis.KindHistogram: "p95",
		analysis.KindMean: "mean", analysis.KindValue: "value"}[m.Kind()]
	if m.Rate() {
		part = countedPart(m.Counts)
	}
	_, stable := b.series[m.Name+"/"+part+"@stable"]
	_, candidate := b.series[m.Name+"/"+part+"@candidate"]
	return stable || candidate
}

// end is the instant at which the longest series ends.
func (b *seriesSource) end() time.Time {
	longest := 0
	for _, s := range b.series {
		longest = max(longest, len(s))
	}
	return b.start.Add(time.Duration(longest) * b.interval)
}

// Read answers a question from the series.
func (b *seriesSource) Read(_ *sim.World, _ *sim.Run, q analysis.Query) analysis.Reading {
	for _, d := range b.down {
		if !q.To.Before(d.from) && q.To.Before(d.to) {
			return analysis.ErrorReading(q, "the source did not answer")
		}
	}
	return analysis.Reading{
		Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK,
		Stable: b.sample(q, "stable"), Candidate: b.sample(q, "candidate"),
	}
}

func (b *seriesSource) sample(q analysis.Query, arm string) analysis.Sample {
	name := q.Metric.Name
	switch q.Metric.Kind() {
	case analysis.KindCounts:
		part := countedPart(q.Metric.Counts)
		if marked := name + "/" + part + "@" + arm; q.Metric.Rate() {
			n := q.Metric.Counts.TrialsIn(q.To.Sub(q.From))
			return analysis.Sample{Fresh: b.fresh(marked, q.To), N: n, K: math.Min(n, b.increment(marked, q))}
		}
		total := name + "/total@" + arm
		if !b.fresh(total, q.To) {
			return analysis.Sample{}
		}
		n := b.increment(total, q)
		return analysis.Sample{Fresh: true, N: n, K: math.Min(n, b.increment(name+"/"+part+"@"+arm, q))}
	case analysis.KindHistogram:
		return b.histogram(q, arm)
	case analysis.KindMean:
		return b.mean(q, arm)
	case analysis.KindValue:
		v := b.value(name+"/value@"+arm, q.To)
		if math.IsNaN(v) {
			return analysis.Sample{}
		}
		return analysis.Sample{Fresh: true, Value: v, N: 1}
	}
	return analysis.Sample{}
}

// value is a series' value in the interval that ends at or after t; NaN when it
// is missing.
func (b *seriesSource) value(name string, t time.Time) float64 {
	s := b.series[name]
	i := int((t.Sub(b.start) + b.interval - 1) / b.interval)
	if i = max(i-1, 0); i >= len(s) {
		return math.NaN()
	}
	return s[i]
}

func (b *seriesSource) fresh(name string, t time.Time) bool { return !math.IsNaN(b.value(name, t)) }

// increment is what a counter grew by in the question's interval. Counters are
// whole at every instant, so that increments add up.
func (b *seriesSource) increment(name string, q analysis.Query) float64 {
	sums, ok := b.sums[name]
	if !ok {
		sums = cumulate(b.series[name], func(i int) float64 { return b.series[name][i] })
		b.sums[name] = sums
	}
	return math.Max(0, b.at(sums, q.To)-b.at(sums, q.From))
}

// cumulate sums a series; missing values add nothing.
func cumulate(s Series, value func(i int) float64) []float64 {
	sums := make([]float64, len(s)+1)
	for i := range s {
		v := value(i)
		if math.IsNaN(v) {
			v = 0
		}
		sums[i+1] = sums[i] + v
	}
	return sums
}

// at is the whole part of a cumulated series at an instant.
func (b *seriesSource) at(sums []float64, t time.Time) float64 {
	x := float64(t.Sub(b.start)) / float64(b.interval)
	if x <= 0 || len(sums) == 0 {
		return 0
	}
	i := int(x)
	if i >= len(sums)-1 {
		return math.Floor(sums[len(sums)-1] + 1e-9)
	}
	return math.Floor(sums[i] + (x-float64(i))*(sums[i+1]-sums[i]) + 1e-9)
}

// sigma is the spread of the logarithm of the latencies that p95 stands for.
const sigma = 0.5

// histogram spreads the events over buckets as lognormal latencies with the
// series' p95, in milliseconds.
func (b *seriesSource) histogram(q analysis.Query, arm string) analysis.Sample {
	p95 := q.Metric.Name + "/p95@" + arm
	count := q.Metric.Name + "/count@" + arm
	if _, ok := b.series[count]; !ok {
		count = b.volume + "/total@" + arm
	}
	if !b.fresh(p95, q.To) || !b.fresh(count, q.To) {
		return analysis.Sample{}
	}
	bounds := b.bounds[q.Metric.Name]
	all, ok := b.buckets[p95]
	if !ok {
		all = b.spread(b.series[p95], b.series[count], bounds)
		b.buckets[p95] = all
	}
	out := analysis.Sample{Fresh: true}
	for i := range all {
		n := math.Max(0, b.at(all[i], q.To)-b.at(all[i], q.From))
		out.N += n
		if i < len(bounds) {
			out.Buckets = append(out.Buckets, analysis.Bucket{Upper: bounds[i], Count: n})
		}
	}
	return out
}

// spread cumulates the events of every bucket, and of what lies above the last.
func (b *seriesSource) spread(p95, count Series, bounds []float64) [][]float64 {
	all := make([][]float64, len(bounds)+1)
	length := p95[:min(len(p95), len(count))]
	for i := range all {
		all[i] = cumulate(length, func(j int) float64 {
			below, upTo := 0.0, 1.0
			if i > 0 {
				below = sim.Lognormal(bounds[i-1], p95[j]/1000, sigma)
			}
			if i < len(bounds) {
				upTo = sim.Lognormal(bounds[i], p95[j]/1000, sigma)
			}
			return count[j] * (upTo - below)
		})
	}
	return all
}

// mean gives a mean's sums.
func (b *seriesSource) mean(q analysis.Query, arm string) analysis.Sample {
	name := q.Metric.Name
	count := name + "/count@" + arm
	if _, ok := b.series[count]; !ok {
		count = b.volume + "/total@" + arm
	}
	m, d := b.value(name+"/mean@"+arm, q.To), b.value(name+"/deviation@"+arm, q.To)
	if math.IsNaN(m) || !b.fresh(count, q.To) {
		return analysis.Sample{}
	}
	if math.IsNaN(d) {
		d = math.Abs(m) // as an exponential has it
	}
	n := b.increment(count, q)
	return analysis.Sample{Fresh: true, N: n, Sum: n * m, SumSq: n * (d*d + m*m)}
}
