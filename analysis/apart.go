package analysis

import (
	"cmp"
	"hash/fnv"
	"math"
	"slices"

	"github.com/belayd/belay/analysis/sequential"
)

// Apart is the evidence for a breach without each of the candidate's instances: a bad
// node for a minute is no bad release. It is kept for up to apartSlots of them; where
// there are more, several share one and are left out together. Bad minutes of one instance
// after another would add up to what no single one carries: so each stretch of evidence is
// without the instance that was worst in it, and a new one begins after stretch events.
type Apart struct {
	// All is the evidence with everybody in this stretch, and what those before came to
	// without the worst of each; nil while none is over. Seen are the stretch's events.
	All  *sequential.Increments `json:"all,omitempty"`
	Seen float64                `json:"seen,omitempty"`

	// Most is the greatest number of instances in one interval of the step.
	Most int `json:"most"`
	// Names are the instances that came first, one for each slot.
	Names   []string  `json:"names"`
	Without []Without `json:"without"`
}

// A Without is the evidence without the instances of one slot.
type Without struct {
	// Log is as Apart's All, without the slot's part in this stretch; it has the segments
	// of the evidence with everybody.
	Log sequential.Increments `json:"log"`
	// Left is what was left out since the evidence last grew, and Sums the same of a mean.
	Left sequential.Tally `json:"left,omitzero"`
	Sums Sums             `json:"sums,omitzero"`
	// Worst is the instance that stood out most in one interval, and Peak by how much.
	Worst string  `json:"worst"`
	Peak  float64 `json:"peak,omitempty"`
}

const (
	apartSlots = 6
	// apartNeeded is how many instances the candidate needs before one of them
	// can be told from the release.
	apartNeeded = 3
	// leastShare is which part of the evidence has to be there without any one instance.
	leastShare = 4
	// stretch is after how many counted events, as many as are independent, a stretch is
	// over: enough that the worst of a few equal instances does not stand out by chance.
	stretch = 120
	// apartName is the most of an instance's name that is kept.
	apartName = 64
)

func (a *Apart) clone() *Apart {
	if a == nil {
		return nil
	}
	c := *a
	c.All = cloned(a.All)
	c.Without = slices.Clone(a.Without)
	return &c // the names are only ever appended
}

// beginStep forgets how many there were, and what waits; a step before may have had more.
func (a *Apart) beginStep() {
	if a == nil {
		return
	}
	a.Most = 0
	for i := range a.Without {
		a.Without[i].Left, a.Without[i].Sums = sequential.Tally{}, Sums{}
	}
}

// start starts a segment of all evidence that is kept apart.
func (a *Apart) start(all sequential.Process, weight float64) {
	if a == nil {
		return
	}
	begun := func(log sequential.Increments) sequential.Increments {
		all.Log = log
		e := all
		e.Start(weight)
		return e.Log
	}
	if a.All != nil {
		*a.All = begun(*a.All)
	}
	for i := range a.Without {
		a.Without[i].Log = begun(a.Without[i].Log)
	}
}

// everybody is the evidence of all in this stretch.
func (a *Apart) everybody(all sequential.Process) sequential.Process {
	if a.All != nil {
		all.Log = *a.All
	}
	return all
}

// process is the slot's evidence, which began with that of everybody.
func (w *Without) process(all sequential.Process) sequential.Process {
	all.Log = w.Log
	return all
}

// slot is where an instance's part is kept; what is known so far is the evidence with
// everybody for an instance that had no part in it.
func (a *Apart) slot(name string, so sequential.Process) *Without {
	name = name[:min(len(name), apartName)]
	i := slices.Index(a.Names, name)
	if i < 0 && len(a.Names) < apartSlots {
		i = len(a.Names)
		a.Names = append(slices.Clip(a.Names), name)
		a.Without = append(slices.Clip(a.Without), Without{Log: a.everybody(so).Log, Worst: name})
	}
	if i < 0 {
		h := fnv.New32a()
		_, _ = h.Write([]byte(name))
		i = int(h.Sum32() % apartSlots)
	}
	return &a.Without[i]
}

// tellApart takes note of what each of the candidate's instances had, before the
// interval becomes evidence.
func (s *GuardrailState) tellApart(v *observation, note func(w *Without, x *Sample) (excess float64)) {
	instances := v.reading.Candidate.Instances
	if len(instances) < 2 && s.Apart == nil {
		return
	}
	if s.Apart == nil {
		s.Apart = &Apart{}
	}
	if !v.late {
		s.Apart.Most = max(s.Apart.Most, len(instances))
	}
	for i := range instances {
		in := &instances[i]
		w := s.Apart.slot(in.Name, s.Breach)
		if excess := note(w, &in.Sample); excess > w.Peak {
			w.Worst, w.Peak = in.Name[:min(len(in.Name), apartName)], brief(excess)
		}
	}
}

// countApart is tellApart for counted events.
func (s *GuardrailState) countApart(v *observation, t sequential.Tally, events func(*Sample) float64) {
	rate := 0.0
	if t.NC > 0 {
		rate = t.KC / t.NC
	}
	s.tellApart(v, func(w *Without, x *Sample) float64 {
		k := events(x)
		w.Left = w.Left.Add(sequential.Tally{NC: x.N, KC: k})
		return k - rate*x.N
	})
}

// add adds an interval's increments and what they are without each slot's part, which
// rest says; events is how many were counted in it.
func (a *Apart) add(all sequential.Process, d sequential.Increments, rest func(w *Without) sequential.Increments, phi,
	limit, events float64) {
	if a == nil {
		return
	}
	if a.All != nil {
		e := a.everybody(all)
		e.Add(d, phi, limit)
		*a.All = e.Log
	}
	for i := range a.Without {
		w := &a.Without[i]
		e := w.process(all)
		e.Add(rest(w), phi, limit)
		w.Log, w.Left, w.Sums = e.Log, sequential.Tally{}, Sums{}
	}
	if a.Seen = brief(a.Seen + events/phi); a.Seen >= stretch && len(a.Without) > 0 {
		a.Seen = 0
		worst := slices.MinFunc(a.Without, func(x, y Without) int {
			e, f := x.process(all), y.process(all)
			return cmp.Compare(e.LogE(), f.LogE())
		})
		for i := range a.Without {
			a.Without[i].Log = worst.Log
		}
		a.All = &worst.Log
	}
}

// countLess is what a tally is without the slot's part.
func (w *Without) countLess(t sequential.Tally) sequential.Tally {
	t.NC, t.KC = max(0, t.NC-w.Left.NC), max(0, t.KC-w.Left.KC)
	return t
}

// spread is what the evidence of all comes to where it must not rest on one instance, nor
// on two that were bad one after the other: twice that without the one that carries most
// of it, or what is left without two, where that is less than nothing. worst is the
// instance that carries most; ok is false where there are too few to tell.
func (a *Apart) spread(all sequential.Process) (worst string, logE float64, ok bool) {
	if a == nil || a.Most < apartNeeded {
		return "", 0, false
	}
	least, next := math.Inf(1), math.Inf(1)
	for i := range a.Without {
		w := &a.Without[i]
		e := w.process(all)
		switch l := e.LogE(); {
		case l < least:
			worst, least, next = w.Worst, l, least
		case l < next:
			next = l
		}
	}
	everybody := a.everybody(all)
	if two := least + next - everybody.LogE(); two < 0 {
		return worst, two, true
	}
	return worst, leastShare * least, true
}
