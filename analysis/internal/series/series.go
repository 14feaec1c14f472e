// Package series turns the raw samples of counters into exact increments: what
// a counter counted in (from, to], from samples with their own timestamps.
//
// The rules, the same for every source that reads Prometheus-style series:
//   - An increment is the difference of two consecutive samples and belongs to
//     the instant of the later one. So consecutive intervals tile exactly, and
//     whether a sample is counted never depends on the interval asked for.
//   - A counter that falls has been reset: its new value is the increment. The
//     buckets of a histogram are reset together, and so are all series of a
//     target whose largest counter fell: its process was restarted.
//   - A series is born, and counts from zero, when its target was scraped without
//     it just before and other series of the target went on across its first
//     sample. Where the target is new, or not known, or all its series come under
//     new labels at once, the first sample is only the mark to count from: what
//     it had counted before may be years old. So is the first sample after a
//     scrape that lacked it, unless it fell or its process was restarted.
//   - An interval ends at the latest instant that all live series have reached:
//     see Reach. What comes later than that is counted when it comes.
//   - What is no counter, and what is counted twice, is an error with its cause:
//     see proof.go.
//   - Sums over instances are made after differencing, never before.
//   - A number that is NaN, infinite or negative where it must not be is an
//     error, never a value.
//
// The package is pure. It asks nobody, knows no clock, and does not decide
// which series belong to a question: that is what its callers do with Selector.
package series

import (
	"cmp"
	"slices"
	"time"
)

// A Label is one name and value of a series.
type Label struct{ Name, Value string }

// Labels are the labels of a series, sorted by name. The metric's name is the
// label __name__.
type Labels []Label

// NameLabel is the label that holds a metric's name.
const NameLabel = "__name__"

// Get is the value of the label, "" where it is absent.
func (l Labels) Get(name string) string {
	for i := range l {
		if l[i].Name == name {
			return l[i].Value
		}
	}
	return ""
}

// Sort puts the labels in the order that the package needs.
func (l Labels) Sort() {
	slices.SortFunc(l, func(a, b Label) int { return cmp.Compare(a.Name, b.Name) })
}

// key identifies the labels without those named; it is injective.
func (l Labels) key(without ...string) string {
	var b []byte
	for _, x := range l {
		if slices.Contains(without, x.Name) {
			continue
		}
		b = append(b, x.Name...)
		b = append(b, 0xff)
		b = append(b, x.Value...)
		b = append(b, 0xff)
	}
	return string(b)
}

// A Point is one sample: its own timestamp in Unix milliseconds and its value,
// or a native histogram.
type Point struct {
	T int64
	V float64
	// Created is when the counter started at zero, in Unix milliseconds; 0 where
	// that is not known.
	Created int64
	H       *Histogram
}

// A Series is the samples of one label set, by increasing timestamp. Points
// that share a timestamp are an error of the caller's.
type Series struct {
	Labels Labels
	// ID is the caller's name for the label set; the package does not look at it.
	ID     uint64
	Points []Point
	// Target is what the series was scraped from; nil where that is not known.
	Target *Target
	// Ended: its source said that there will be no more samples.
	Ended bool
	// Gauge: its source said that it is one, and may fall.
	Gauge bool
	// Counted is the timestamp of the newest sample that was counted already, where
	// that is before the interval asked for; Uncounted when none was, 0 when that
	// is not known.
	Counted int64

	// Writers names the identity that several writers share; see Align.
	Writers string
}

// Uncounted is Counted of a series of which nothing was counted yet.
const Uncounted int64 = 1

// Last is the timestamp of the newest sample at or before to; 0 where there is
// none.
func (s *Series) Last(to int64) int64 {
	for _, p := range slices.Backward(s.Points) {
		if p.T <= to {
			return p.T
		}
	}
	return 0
}

// A Target is one scraped process. Its scrapes tell a series that was missing
// from one that was not looked for.
type Target struct {
	// times are the instants of its answered scrapes in Unix milliseconds,
	// increasing; goesOn says of each whether a series has samples at it and at
	// the one before.
	times  []int64
	goesOn []bool
}

// NewTarget is the target that was scraped at the times, which increase, and
// gave the members.
func NewTarget(times []int64, members []*Series) *Target {
	t := &Target{times: times, goesOn: make([]bool, len(times))}
	for _, m := range members {
		whole, before := len(m.Points) >= len(times), -2
		for _, p := range m.Points {
			i, ok := slices.BinarySearch(times, p.T)
			if ok && i == before+1 {
				t.goesOn[i] = true
			} else {
				whole = whole && i == 0
			}
			before = i
			if !ok {
				before = -2
			}
		}
		if whole {
			break // nothing is left to be shown by the others
		}
	}
	return t
}

// between says whether the target was scraped in the open interval (a, b).
func (t *Target) between(a, b int64) bool {
	if t == nil {
		return false
	}
	i, _ := slices.BinarySearch(t.times, a+1)
	return i < len(t.times) && t.times[i] < b
}

// proves says whether a series that has its first sample since after at the
// instant b was born by then: the target was scraped in (after, b), and another
// series went on from there to b.
func (t *Target) proves(after, b int64) bool {
	if t == nil {
		return false
	}
	i, ok := slices.BinarySearch(t.times, b)
	return ok && i > 0 && t.times[i-1] > after && t.goesOn[i]
}

// Align gives every series the target that its identity names, with the instants at
// which any of the target's series has a sample. identity returns "" for a
// series whose target is not known. Where the instants show that several
// writers share an identity, the target counts as not known: a series that one
// of them did not write is not missing.
func Align(all []*Series, identity func(Labels) string) {
	type group struct {
		members []*Series
		step    int64
	}
	groups := map[string]*group{}
	for _, s := range all {
		id := identity(s.Labels)
		if id == "" {
			continue
		}
		g := groups[id]
		if g == nil {
			g = &group{}
			groups[id] = g
		}
		g.members = append(g.members, s)
		if d := minStep(s.Points); d > 0 && (g.step == 0 || d < g.step) {
			g.step = d
		}
	}
	for id, g := range groups {
		times := union(g.members)
		if !regular(times, g.step) {
			for _, s := range g.members {
				s.Writers = id
			}
			continue
		}
		t := NewTarget(times, g.members)
		for _, s := range g.members {
			s.Target = t
		}
	}
}

// regular says whether the instants are those of one writer whose series are at
// least step apart: two writers that take turns are at most half a step apart.
func regular(times []int64, step int64) bool {
	if step == 0 {
		return false
	}
	for i := 1; i < len(times); i++ {
		if float64(times[i]-times[i-1]) < 0.6*float64(step) {
			return false
		}
	}
	return true
}

func minStep(ps []Point) int64 {
	var least int64
	for i := 1; i < len(ps); i++ {
		if d := ps[i].T - ps[i-1].T; d > 0 && (least == 0 || d < least) {
			least = d
		}
	}
	return least
}

// union is the timestamps of all the series, sorted, each once. The series of
// one scrape have the same timestamps, so it merges runs and sorts seldom.
func union(all []*Series) []int64 {
	var out []int64
	for _, s := range all {
		if covers(out, s.Points) {
			continue
		}
		for _, p := range s.Points {
			out = append(out, p.T)
		}
		slices.Sort(out)
		out = slices.Compact(out)
	}
	return out
}

func covers(times []int64, ps []Point) bool {
	for _, p := range ps {
		if _, ok := slices.BinarySearch(times, p.T); !ok {
			return false
		}
	}
	return true
}

// Interval is the usual time between two samples of the series: the median; 0
// where no series has two samples.
func Interval(all []*Series) time.Duration {
	const enough = 1000
	var ds []int64
	for _, s := range all {
		for i := 1; i < len(s.Points); i++ {
			ds = append(ds, s.Points[i].T-s.Points[i-1].T)
		}
		if len(ds) >= enough {
			break
		}
	}
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return time.Duration(ds[len(ds)/2]) * time.Millisecond
}
