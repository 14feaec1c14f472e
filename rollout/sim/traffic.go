package sim

import (
	"math"
	"time"

	"github.com/belayd/belay/analysis"
)

// Traffic is a Source that makes up requests: Poisson arrivals divided by the
// split, each deployment with its own rates. The same interval always gets the
// same answer, whoever asks.
type Traffic struct {
	Seed uint64
	// RPS is the endpoint's load, in requests a second, at an instant.
	RPS func(at time.Time) float64
	// Model is how a deployment behaves at an instant with a share of the traffic
	// in percent.
	Model func(deployment string, at time.Time, weight int) Model
	// Bounds are the histogram's bucket bounds in seconds.
	Bounds []float64
	// Scrape is how far apart the samples are; 0: what happened is known at once.
	Scrape time.Duration
	// Cell is the smallest span of time that is counted; 0 is a second.
	Cell time.Duration
}

// Model is how a deployment behaves.
type Model struct {
	// Rates are, by metric, the share of requests that count as K.
	Rates map[string]float64
	// P95 is the 95th percentile of the latency in seconds and Sigma the standard
	// deviation of its logarithm (lognormal).
	P95, Sigma float64
	// Mean and Deviation are of mean metrics, Value of plain ones.
	Mean, Deviation, Value float64
	// Gone: the deployment's series are missing.
	Gone bool
}

// Steady is a Traffic whose load never changes.
func Steady(rps float64) func(time.Time) float64 {
	return func(time.Time) float64 { return rps }
}

// Read answers one question.
func (t *Traffic) Read(w *World, _ *Run, q analysis.Query) analysis.Reading {
	var next time.Time
	if t.Scrape > 0 {
		last := q.To.Truncate(t.Scrape)
		next = last.Add(t.Scrape)
		if q.To = last; q.To.Before(q.From) {
			q.To = q.From
		}
	}
	out := analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK, Next: next}
	out.Stable = t.sample(w, q, q.Names.Stable)
	out.Candidate = t.sample(w, q, q.Names.Candidate)
	return out
}

// sample sums the cells that end in (From, To].
func (t *Traffic) sample(w *World, q analysis.Query, deployment string) analysis.Sample {
	cell := int64(t.Cell)
	if cell == 0 {
		cell = int64(time.Second)
	}
	s := analysis.Sample{Fresh: true}
	if q.Metric.Kind() == analysis.KindHistogram {
		for _, b := range t.Bounds {
			s.Buckets = append(s.Buckets, analysis.Bucket{Upper: b})
		}
	}
	for c := q.From.UnixNano()/cell + 1; c*cell <= q.To.UnixNano(); c++ {
		at := time.Unix(0, c*cell)
		split := w.Endpoint.At(at)
		weight := split.Weights[deployment] + split.Mirror[deployment]
		m := t.Model(deployment, at, weight)
		s.Fresh = !m.Gone
		mean := t.RPS(at) * time.Duration(cell).Seconds() * float64(weight) / 100
		n := keyed(t.Seed, deployment, c).Poisson(mean)
		if q.Metric.Rate() {
			n = q.Metric.Counts.TrialsIn(time.Duration(cell))
		}
		t.add(&s, q.Metric, m, n, keyed(t.Seed, deployment+"/"+q.Metric.Name, c))
	}
	if !s.Fresh {
		return analysis.Sample{}
	}
	return s
}

// add counts n requests.
func (t *Traffic) add(s *analysis.Sample, metric analysis.Metric, m Model, n float64, r *Random) {
	s.Value = m.Value
	s.N += n
	switch metric.Kind() {
	case analysis.KindCounts:
		s.K += r.Binomial(n, m.Rates[metric.Name])
	case analysis.KindMean:
		for range int(n) {
			x := m.Mean + m.Deviation*r.Normal()
			s.Sum += x
			s.SumSq += x * x
		}
	case analysis.KindHistogram:
		left, below := n, 0.0
		for i := range s.Buckets {
			f := Lognormal(s.Buckets[i].Upper, m.P95, m.Sigma)
			if left <= 0 || below >= 1 {
				break
			}
			k := r.Binomial(left, math.Min(1, (f-below)/(1-below)))
			s.Buckets[i].Count += k
			left, below = left-k, f
		}
	case analysis.KindValue:
	}
}

// Lognormal is the share of requests faster than x, where the 95th percentile and the
// standard deviation of the logarithm are as given.
func Lognormal(x, p95, sigma float64) float64 {
	if p95 <= 0 || sigma <= 0 {
		return 1
	}
	z := (math.Log(x/p95))/sigma + 1.6448536269514722
	return 0.5 * math.Erfc(-z/math.Sqrt2)
}
