package analysis

import (
	"cmp"
	"math"
	"slices"

	"github.com/belayd/belay/analysis/sequential"
)

// Suspects are the candidate's instances that did worst since the step's
// start: if one of them alone carries a breach, a bad node is likelier than a
// bad release.
type Suspects struct {
	// Total counts the intervals in which instances were told apart, and Most is
	// the greatest number of them in one interval.
	Total sequential.Tally `json:"total"`
	Most  int              `json:"most"`
	Worst []Suspect        `json:"worst"`
}

// A Suspect is one instance with its events and how many of them were bad.
type Suspect struct {
	Name string  `json:"name"`
	N    float64 `json:"n"`
	K    float64 `json:"k"`
}

const (
	// suspectsKept is how many instances are followed.
	suspectsKept = 8
	// suspectsNeeded is how many instances the candidate needs before one of them
	// can be told from the release.
	suspectsNeeded = 3
	// suspectName is the most of an instance's name that is kept.
	suspectName = 64
)

func (s *Suspects) clone() *Suspects {
	if s == nil {
		return nil
	}
	c := *s
	c.Worst = slices.Clone(s.Worst)
	return &c
}

// suspect takes the candidate's instances of one interval in; t is the whole
// interval.
func (s *Standing) suspect(v *visit, t sequential.Tally, events func(*Sample) float64) {
	instances := v.reading.Candidate.Instances
	if v.late || len(instances) < 2 && s.Suspects == nil {
		return
	}
	if s.Suspects == nil {
		s.Suspects = &Suspects{}
	}
	u := s.Suspects
	u.Total = u.Total.Add(t)
	u.Most = max(u.Most, len(instances))
	for i := range instances {
		in := &instances[i]
		name := in.Name[:min(len(in.Name), suspectName)]
		at := slices.IndexFunc(u.Worst, func(w Suspect) bool { return w.Name == name })
		if at < 0 {
			u.Worst = append(u.Worst, Suspect{Name: name})
			at = len(u.Worst) - 1
		}
		u.Worst[at].N += in.N
		u.Worst[at].K += events(&in.Sample)
	}
	if len(u.Worst) <= suspectsKept {
		return
	}
	rate := u.Total.KC / math.Max(1, u.Total.NC)
	excess := func(w Suspect) float64 { return w.K - rate*w.N }
	slices.SortFunc(u.Worst, func(a, b Suspect) int {
		if c := cmp.Compare(excess(b), excess(a)); c != 0 {
			return c
		}
		return cmp.Compare(a.Name, b.Name)
	})
	u.Worst = slices.Clip(u.Worst[:suspectsKept])
}

// single names the instance without which the step's evidence for a breach
// would be gone; empty when there is none. threshold is the evidence that
// decides.
func (s *Standing) single(g *Guardrail, m *Metric, threshold float64) string {
	u := s.Suspects
	if u == nil || u.Most < suspectsNeeded {
		return ""
	}
	test, pilot := s.test(g, m)
	phi := s.Dispersion.Phi()
	if batch(test, u.Total, pilot, phi) < threshold {
		return ""
	}
	for _, w := range u.Worst {
		rest := u.Total
		rest.NC -= w.N
		rest.KC -= w.K
		if rest.NC <= 0 {
			continue
		}
		rate, allowed := rest.KC/rest.NC, test.Limit
		if test.Relative {
			allowed *= rest.KB / math.Max(1, rest.NB)
		}
		// The others may be off the limit by chance, not half-way to detect.
		allowed *= test.Grid[1]
		kept := rate <= allowed || test.Grid[0] < 1 && rate >= allowed
		if kept && batch(test, rest, pilot, phi) < threshold/2 {
			return w.Name
		}
	}
	return ""
}

// batch is the evidence of one tally alone, as a single interval.
func batch(test sequential.Test, t sequential.Tally, p sequential.Pilot, phi float64) float64 {
	var e sequential.Process
	e.Start(1)
	e.Add(test.Breach(t, p), phi, math.Inf(1))
	return e.LogE()
}
