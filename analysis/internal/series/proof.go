package series

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/promql"
)

// proven refuses streams whose numbers are no single counter's: what falls again
// and again, what falls to more than a new process can have counted, and what is
// there twice. Only what the samples themselves show is refused.
func proven(ss []*stream, spec Extraction) error {
	for _, s := range ss {
		if err := s.isCounter(spec); err != nil {
			return err
		}
	}
	return once(ss)
}

// The bounds of what a counter may do. A process that is restarted by its
// supervisor is seen to fall seldom, and begins near zero.
const (
	// manyFalls, in at most perFalls times as many pairs of samples, are no counter's.
	manyFalls, perFalls = 3, 3
	// steep is how many usual increments a new process may have counted at its
	// first sample.
	steep = 20
)

// isCounter refuses a stream that falls within the interval in a way that no
// restart explains.
func (s *stream) isCounter(spec Extraction) error {
	falls, pairs, inside := 0, 0, false
	var rises []float64
	for i := 1; i < len(s.t) && s.t[i] <= spec.To; i++ {
		d := s.row(i)[s.main] - s.row(i - 1)[s.main]
		pairs++
		switch {
		case d < 0:
			falls++
			inside = inside || s.t[i] > s.after(spec)
		case d > 0:
			rises = append(rises, d)
		}
	}
	if !inside {
		return nil
	}
	if falls >= manyFalls && falls*perFalls >= pairs {
		return fmt.Errorf("series %s fell in %d of %d scrapes, which no counter does: several processes answer "+
			"behind one address "+
			"(give each worker its own port, or let the client library gather them), or it is a gauge or a rate "+
			"(give the raw counter), "+
			"or its process is restarted all the time", describe(s.labels), falls, pairs)
	}
	slices.Sort(rises)
	if len(rises) < 2 {
		return nil
	}
	usual := rises[(len(rises)-1)/2]
	for i := 1; i < len(s.t) && s.t[i] <= spec.To; i++ {
		before, now := s.row(i - 1)[s.main], s.row(i)[s.main]
		if now < before && now > steep*usual && (4*now >= before || s.returns(i, before, spec.To)) {
			return fmt.Errorf("series %s fell from %s to %s where it grows by %s a scrape: no restart does that, "+
				"several processes answer "+
				"behind one address; give each worker its own port, or let the client library gather them",
				describe(s.labels), number(before), number(now), number(usual))
		}
	}
	return nil
}

// returns says whether the stream is back at the value in one leap after it fell
// at sample i.
func (s *stream) returns(i int, value float64, to int64) bool {
	low := s.row(i)[s.main]
	for j := i + 1; j < len(s.t) && s.t[j] <= to; j++ {
		a, b := s.row(j - 1)[s.main], s.row(j)[s.main]
		if b >= value && b-a > (value-low)/2 {
			return true
		}
	}
	return false
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', 6, 64) }

// once refuses streams of one identity that two writers wrote and that hold the
// same counter: every event of theirs would count twice.
func once(ss []*stream) error {
	groups := map[string][]*stream{}
	for _, s := range ss {
		if s.writers != "" {
			groups[s.writers] = append(groups[s.writers], s)
		}
	}
	const most = 200 // pairs are looked at; the first of a group tell of the others
	for _, id := range slices.Sorted(maps.Keys(groups)) {
		g := groups[id]
		g = g[:min(len(g), most)]
		for i, a := range g {
			for _, b := range g[i+1:] {
				if sameCounter(a, b) {
					label, x, y := difference(a.labels, b.labels)
					return fmt.Errorf("series %s is there twice, with %s=%q and %s=%q, and every request would count "+
						"twice: "+
						"let the store merge the pair (Thanos: dedup=true; Mimir: its HA tracker; VictoriaMetrics: "+
						"-dedup.minScrapeInterval), "+
						"or select one in the metric: %s=%q", describe(a.labels), label, x, label, y, label, x)
				}
			}
		}
	}
	return nil
}

// sameCounter says whether two streams, never sampled at one instant, are what two
// readers saw of one counter: each sample of one lies between its neighbours in
// the other, and both grow.
func sameCounter(a, b *stream) bool {
	tests, grew := 0, 0
	for _, pair := range [2][2]*stream{{a, b}, {b, a}} {
		x, y := pair[0], pair[1]
		for i, t := range x.t {
			j, same := slices.BinarySearch(y.t, t)
			if same {
				return false
			}
			if j == 0 || j == len(y.t) {
				continue
			}
			v, low, high := x.row(i)[x.main], y.row(j - 1)[y.main], y.row(j)[y.main]
			if v < low || v > high {
				return false
			}
			tests++
			if high > low {
				grew++
			}
		}
	}
	return tests >= 3 && grew >= 2
}

// difference is the first label in which two label sets differ, and its values.
func difference(a, b Labels) (label, x, y string) {
	names := map[string]bool{}
	for _, l := range slices.Concat(a, b) {
		names[l.Name] = true
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if x, y := a.Get(n), b.Get(n); x != y {
			return n, x, y
		}
	}
	return "", "", ""
}

// Counters is an error where one of the series is a gauge by its source's own word. A
// name that says that it is a counter's is believed before that.
func Counters(ss []*Series) error {
	for _, s := range ss {
		name := s.Labels.Get(NameLabel)
		if s.Gauge && !strings.HasSuffix(name, "_total") && !strings.HasSuffix(name, "_count") {
			return analysis.Permanent(fmt.Errorf("series %s is a gauge by its # TYPE, and what is counted must only rise: "+
				"give the raw counter, or ask for it as a value", describe(s.Labels)))
		}
	}
	return nil
}

// Shared is an error where a series is among those of both deployments: its
// events would count for both.
func Shared(stable, candidate []*Series, names [2]string) error {
	if names[0] == names[1] {
		return nil
	}
	of := map[string]bool{}
	for _, s := range stable {
		of[s.Labels.key()] = true
	}
	for _, s := range candidate {
		if of[s.Labels.key()] {
			return analysis.Permanent(fmt.Errorf("series %s counts for both %s and %s: the expression selects by a "+
				"part of the name; "+
				"compare the whole label with ${deployment}, or end the pattern where the name ends",
				describe(s.Labels), names[0], names[1]))
		}
	}
	return nil
}

// UnitError is an error where a histogram's name says one unit, the metric
// another, and its largest finite bound agrees with the name.
func UnitError(name, unit string, largest float64) error {
	said, known := promql.UnitOf(name)
	if !known || said == cmp.Or(unit, "s") || (said == "ms" && largest < 100) || (said == "s" && largest > 1000) {
		return nil
	}
	return analysis.Permanent(fmt.Errorf("the name of %s and its bounds, up to %s, say %s, and the metric says unit: "+
		"%s: write unit: %s",
		name, number(largest), said, cmp.Or(unit, "s"), said))
}
