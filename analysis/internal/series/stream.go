package series

import (
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/belayd/belay/analysis/promql"
)

// A stream is one label set's counter: one number, or the several numbers of a
// histogram or a mean that are counted, reset and sampled together.
type stream struct {
	labels   Labels
	instance string
	target   *Target
	// counted and writers are the series'.
	counted int64
	writers string
	t       []int64
	created []int64
	// own are the timestamps of the main number's series. A sample that another
	// one lacks is left out of t, and is no sign that the counter was missing.
	own []int64
	// v holds width numbers a sample.
	v     []float64
	width int
	// main is the number that tells a restart: the largest, the count.
	main int
	// free marks the number that may fall without a reset; -1 for none.
	free int
}

func (s *stream) row(i int) []float64 { return s.v[i*s.width : (i+1)*s.width] }

// last is the timestamp of the newest sample at or before to, and whether there
// is one.
func (s *stream) last(to int64) (int64, bool) {
	for _, t := range slices.Backward(s.t) {
		if t <= to {
			return t, true
		}
	}
	return 0, false
}

// fell says whether a number that cannot fall did between the samples i-1 and i.
func (s *stream) fell(i int) bool {
	a, b := s.row(i-1), s.row(i)
	for j := range a {
		if j != s.free && b[j] < a[j] {
			return true
		}
	}
	return false
}

// check refuses numbers that no counter has.
func (s *stream) check(i int) error {
	for j, x := range s.row(i) {
		if !finite(x) || (x < 0 && j != s.free) {
			return fmt.Errorf("series %s has the value %v", describe(s.labels), x)
		}
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// from says what sample i is counted from.
type from int

const (
	fromNothing  from = iota // it is only a mark: what it counted before is not known
	fromZero                 // it was born, or reset, since the sample before
	fromPrevious             // the sample before
	fromEither               // it was missing since: from zero if it fell or was restarted
)

// origin says what the sample i is to be counted from. prev is the timestamp of
// the sample before, where there is one.
func origin(target *Target, created, t int64, prev int64, hasPrev bool, gap int64) from {
	near := t - gap
	if hasPrev && prev >= near {
		switch {
		case created > prev:
			return fromZero
		case target.between(prev, t):
			return fromEither
		}
		return fromPrevious
	}
	if target.proves(near-1, t) || (created > 0 && created >= near) {
		return fromZero
	}
	return fromNothing
}

func (s *stream) origin(i int, gap int64) from {
	t := s.t[i]
	j, _ := slices.BinarySearch(s.own, t)
	if i == 0 {
		if j > 0 && s.own[j-1] >= t-gap {
			return fromNothing // it was there before, but not whole
		}
		return origin(s.target, s.created[0], t, 0, false, gap)
	}
	// Where the main number is sampled without a break, so is the stream.
	prev := s.t[i-1]
	if j > 0 && s.own[j-1] > prev && prev >= t-gap {
		for k := j; k > 0 && s.own[k-1] >= prev; k-- {
			if s.target.between(s.own[k-1], s.own[k]) {
				return fromEither
			}
		}
		return fromPrevious
	}
	return origin(s.target, s.created[i], t, prev, true, gap)
}

// NeedsPast says whether what was given does not reach back far enough to count
// the interval exactly: a series has its first sample in it, or fell in it, or was
// counted up to an instant before all that is given of it. have is since when, in
// Unix milliseconds, all samples were given.
func NeedsPast(all []*Series, from, to, gap, have int64) bool {
	for _, s := range all {
		if len(s.Points) == 0 {
			continue
		}
		p, since := s.Points[0], from
		if s.Counted != 0 && s.Counted < from {
			since = s.Counted
		}
		switch {
		case p.T > since && p.T <= to && p.T-gap < have && (p.Created <= 0 || p.Created < p.T-gap):
			return true // whether it is new, one must see further back
		case s.Counted > Uncounted && s.Counted < p.T && s.Counted < from:
			return true
		}
		for i := 1; i < len(s.Points); i++ {
			if t := s.Points[i].T; t > since && t <= to && t-gap < have && s.Points[i].value() < s.Points[i-1].value() {
				return true
			}
		}
	}
	return false
}

// value is the number that tells a restart.
func (p *Point) value() float64 {
	if p.H != nil {
		return p.H.Count
	}
	return p.V
}

// restarts are the instants at which targets came back as new processes: the
// largest of their counters fell.
type restarts map[*Target]map[int64]bool

// findRestarts looks at the streams of each target that has one which fell.
func findRestarts(ss []*stream, gap int64) restarts {
	var r restarts
	for _, s := range ss {
		if s.target == nil {
			continue
		}
		for i := 1; i < len(s.t); i++ {
			if s.row(i)[s.main] < s.row(i - 1)[s.main] && s.origin(i, gap) >= fromPrevious {
				if r == nil {
					r = restarts{}
				}
				if r[s.target] == nil {
					r[s.target] = map[int64]bool{}
				}
				r[s.target][s.t[i]] = true
			}
		}
	}
	for target, at := range r {
		for t := range at {
			at[t] = largestFell(ss, target, t)
		}
	}
	return r
}

// within says whether the target came back as a new process in (a, b].
func (r restarts) within(target *Target, a, b int64) bool {
	for t, restarted := range r[target] {
		if restarted && t > a && t <= b {
			return true
		}
	}
	return false
}

func largestFell(ss []*stream, target *Target, t int64) bool {
	most, fell := -1.0, false
	for _, s := range ss {
		if s.target != target {
			continue
		}
		i, ok := slices.BinarySearch(s.t, t)
		if !ok || i == 0 {
			continue
		}
		if before := s.row(i - 1)[s.main]; before > most {
			most, fell = before, s.row(i)[s.main] < before
		}
	}
	return fell
}

// after is the instant up to which the stream was counted before.
func (s *stream) after(spec Extraction) int64 {
	if s.counted != 0 && s.counted < spec.From {
		return s.counted
	}
	return spec.From
}

// increase adds up what the stream counted in the interval.
func (s *stream) increase(spec Extraction, r restarts) ([]float64, error) {
	sum := make([]float64, s.width)
	err := s.each(spec, r, func(d []float64) {
		for j, x := range d {
			sum[j] += x
		}
	})
	return sum, err
}

// each calls visit with what the stream counted at every sample in the interval,
// and at those that came too late for the ones before.
func (s *stream) each(spec Extraction, r restarts, visit func(d []float64)) error {
	d := make([]float64, s.width)
	after := s.after(spec)
	for i, t := range s.t {
		if t <= after || t > spec.To {
			continue
		}
		if err := s.check(i); err != nil {
			return err
		}
		how := s.origin(i, spec.Gap)
		if how == fromNothing {
			continue
		}
		copy(d, s.row(i))
		if how >= fromPrevious {
			if err := s.check(i - 1); err != nil {
				return err
			}
			if !s.fell(i) && !r.within(s.target, s.t[i-1], t) {
				for j, x := range s.row(i - 1) {
					d[j] -= x
				}
			}
		}
		visit(d)
	}
	return nil
}

// seen is for how long the stream was seen to count in the interval, in milliseconds: the
// times before the samples that each counts.
func (s *stream) seen(spec Extraction) int64 {
	var sum int64
	after := s.after(spec)
	for i, t := range s.t {
		if t <= after || t > spec.To || s.origin(i, spec.Gap) == fromNothing {
			continue
		}
		if before, ok := s.since(i, spec.Gap); ok {
			sum += t - before
		}
	}
	return sum
}

// since is the instant from which sample i counts: that of the sample before, or of the
// target's scrape before where the series was born since.
func (s *stream) since(i int, gap int64) (int64, bool) {
	if i > 0 && s.t[i-1] >= s.t[i]-gap {
		return s.t[i-1], true
	}
	if s.target == nil {
		return 0, false
	}
	j, _ := slices.BinarySearch(s.target.times, s.t[i])
	if j == 0 || s.target.times[j-1] < s.t[i]-gap {
		return 0, false
	}
	return s.target.times[j-1], true
}

// single makes streams of series that are counters by themselves.
func single(all []*Series, instance string) []*stream {
	out := make([]*stream, 0, len(all))
	for _, s := range all {
		n := len(s.Points)
		x := &stream{
			labels: s.Labels, instance: s.Labels.Get(instance), target: s.Target,
			counted: s.Counted, writers: s.Writers,
			t: make([]int64, n), created: make([]int64, n), v: make([]float64, n), width: 1, free: -1,
		}
		for i, p := range s.Points {
			x.t[i], x.created[i], x.v[i] = p.T, p.Created, p.V
		}
		x.own = x.t
		out = append(out, x)
	}
	return out
}

// joint makes one stream of series that are sampled together, of which all[main]
// tells a restart; a timestamp that one of them lacks is left out.
func joint(all []*Series, main int, instance string) *stream {
	first := all[0]
	x := &stream{
		labels: first.Labels, instance: first.Labels.Get(instance), target: first.Target,
		counted: all[main].Counted, writers: first.Writers,
		width: len(all), free: -1, main: main,
	}
	for _, p := range all[main].Points {
		x.own = append(x.own, p.T)
	}
	pos := make([]int, len(all))
	row := make([]float64, len(all))
samples:
	for _, p := range first.Points {
		for j, s := range all {
			for pos[j] < len(s.Points) && s.Points[pos[j]].T < p.T {
				pos[j]++
			}
			if pos[j] == len(s.Points) || s.Points[pos[j]].T != p.T {
				continue samples
			}
			row[j] = s.Points[pos[j]].V
		}
		x.t = append(x.t, p.T)
		x.created = append(x.created, p.Created)
		x.v = append(x.v, row...)
	}
	return x
}

// describe names a series for people. Labels hold no secrets, but may be long.
func describe(l Labels) string {
	s := promql.Selector{Name: l.Get(NameLabel)}
	for _, x := range l {
		if x.Name != NameLabel {
			s.Matchers = append(s.Matchers, labels.MustNewMatcher(labels.MatchEqual, x.Name, x.Value))
		}
	}
	const most = 160
	text := s.String()
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
