package analysis

import (
	"math"
	"slices"

	"github.com/belayd/belay/analysis/sequential"
)

// A StepHistogram is the histogram of both arms over a step, on few bounds, for
// estimates only: nothing is decided on it.
type StepHistogram struct {
	Bounds []float64 `json:"le"`
	// Candidate and Stable count the events slower than each bound.
	Candidate []float64 `json:"c"`
	Stable    []float64 `json:"b"`
	NC        float64   `json:"nc"`
	NB        float64   `json:"nb"`
}

func (h *StepHistogram) clone() *StepHistogram {
	if h == nil {
		return nil
	}
	c := *h
	c.Candidate, c.Stable = slices.Clone(h.Candidate), slices.Clone(h.Stable)
	return &c // the bounds never change
}

// shape adds a reading to the step's histogram.
func (s *GuardrailState) shape(v *observation) {
	g, r := v.guardrail, v.reading
	if v.late {
		return
	}
	if s.Shape == nil {
		bounds := s.shapeBounds(g, r)
		if len(bounds) == 0 {
			return
		}
		s.Shape = &StepHistogram{Bounds: bounds, Candidate: make([]float64, len(bounds)),
			Stable: make([]float64, len(bounds))}
	}
	h := s.Shape
	h.NC += r.Candidate.N
	for i, b := range h.Bounds {
		h.Candidate[i] += r.Candidate.slowerThan(b)
	}
	if r.Stable.Fresh {
		h.NB += r.Stable.N
		for i, b := range h.Bounds {
			h.Stable[i] += r.Stable.slowerThan(b)
		}
	}
}

// shapeBounds are the reading's bounds next to the display's cuts.
func (s *GuardrailState) shapeBounds(g *Guardrail, r *Reading) []float64 {
	x := &r.Candidate
	if len(x.Buckets) == 0 {
		x = &r.Stable
	}
	cuts := g.displayCuts()
	if g.Limit.Relative {
		cuts = s.Tail.displayCuts()
	}
	var bounds []float64
	for _, cut := range cuts {
		for _, up := range []bool{false, true} {
			if b := x.bound(cut, up); b > 0 && !math.IsInf(b, 1) {
				bounds = append(bounds, b)
			}
		}
	}
	slices.Sort(bounds)
	return slices.Compact(bounds)
}

// slowerThan is slower at any latency, interpolated within a bucket.
func (x *Sample) slowerThan(latency float64) float64 {
	fast, low := 0.0, 0.0
	for _, b := range x.Buckets {
		if b.Upper > latency*(1+sameBound) {
			if b.Upper > low {
				fast += b.Count * math.Max(0, latency-low) / (b.Upper - low)
			}
			break
		}
		fast += b.Count
		low = b.Upper
	}
	return math.Max(0, x.N-fast)
}

// estimate is a quantile with its anytime-valid interval: the bounds that are
// proven to be below and above it. Counts are divided by phi first.
func (h *StepHistogram) estimate(q float64, candidate bool, phi float64) Estimate {
	if h == nil {
		return Estimate{}
	}
	n, slower := h.NB, h.Stable
	if candidate {
		n, slower = h.NC, h.Candidate
	}
	if n <= 0 {
		return Estimate{}
	}
	tail := (1 - q) * n
	e := Estimate{N: n, Known: true}
	low, above := 0.0, n
	found := false
	for i, b := range h.Bounds {
		if !found && slower[i] <= tail {
			found = true
			e.Value = b
			if above > slower[i] {
				e.Value = low + (b-low)*(above-tail)/(above-slower[i])
			}
		}
		if !found {
			low, above = b, slower[i]
		}
		decided := sequential.LogBeta(slower[i]/phi, n/phi, 1-q) >= logOdds95
		switch {
		case decided && slower[i] > tail:
			e.Low = b
		case decided && slower[i] < tail && e.High == 0:
			e.High = b
		}
	}
	last := h.Bounds[len(h.Bounds)-1]
	if !found {
		e.Value = last
	}
	if e.High == 0 {
		e.High = math.Max(last, e.Value)
	}
	return e
}

// logOdds95 is the evidence at which a figure is outside a 95% interval.
var logOdds95 = math.Log(20)
