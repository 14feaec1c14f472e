package prometheus

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/analysis/internal/series"
)

const (
	// forgetAfter is how long the source remembers a question that nobody asks on,
	// and a series that gives no samples.
	forgetAfter = time.Hour
	// maxPages and maxSeries bound what is remembered.
	maxPages, maxSeries = 100_000, 1_000_000
)

// A ledger remembers what the newest readings of each question counted, series by
// series, and how late series are. The cursor of a question is one instant; what
// the ledger adds is which series had not come so far when the cursor passed, so
// that their samples count when they come. Without it, after a restart of the
// process, a question is answered from its cursor alone.
type ledger struct {
	seed maphash.Seed

	mu    sync.Mutex
	pages map[uint64][]page
	size  int
	// waits are the series that are behind the others and have not ended; ended is
	// the newest sample of those that have.
	waits map[uint64]wait
	ended map[uint64]int64
	// habits are how late the series of a metric are, by its name.
	habits map[string]habit
}

// A page is what one reading counted: up to which sample of each series.
type page struct {
	from, to time.Time
	written  time.Time
	marks    marks
}

// marks are up to which sample series were counted, in the order in which they were
// given: an answer seldom changes its order.
type marks []mark

// A mark is one series' newest sample that was counted.
type mark struct {
	series uint64
	last   int64
}

// find looks for a series, first at the place where it is likely to be.
func (ms marks) find(id uint64, likely int) (last int64, ok bool) {
	if likely < len(ms) && ms[likely].series == id {
		return ms[likely].last, true
	}
	for _, m := range ms {
		if m.series == id {
			return m.last, true
		}
	}
	return 0, false
}

// A wait is a series that is behind: its newest sample, and by how much.
type wait struct{ last, behind int64 }

// A habit is how late the series of a metric come.
type habit struct {
	// behind is how far a series was behind the others that then came after all.
	behind   time.Duration
	behindAt time.Time
	// least is how old the newest sample was at the looks of this minute or so, and of
	// the one before; most how old the end of a reading.
	least, most [2]time.Duration
	since       time.Time
}

func newLedger() *ledger {
	return &ledger{
		seed: maphash.MakeSeed(), pages: map[uint64][]page{}, waits: map[uint64]wait{},
		ended: map[uint64]int64{}, habits: map[string]habit{},
	}
}

// series identifies a label set.
func (l *ledger) series(ls series.Labels) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	for _, x := range ls {
		_, _ = h.WriteString(x.Name)
		_ = h.WriteByte(0xff)
		_, _ = h.WriteString(x.Value)
		_ = h.WriteByte(0xff)
	}
	return h.Sum64()
}

// question identifies what is asked, whatever the interval.
func (l *ledger) question(x *question) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	write := func(s string) {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0xff)
	}
	write(x.Metric.Name)
	write(x.Names.Endpoint)
	write(x.Names.Stable)
	write(x.Names.Candidate)
	write(x.label)
	for _, p := range x.parts {
		_ = h.WriteByte(byte(p.role))
		write(p.pick.Name)
		for _, m := range p.pick.Matchers {
			write(m.Name)
			write(m.Type.String())
			write(m.Value)
		}
	}
	return h.Sum64()
}

// find is what the reading that ended at the instant counted; nil where that is
// not known.
func (l *ledger) find(id uint64, to time.Time) marks {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pages[id] {
		if p.to.Equal(to) {
			return p.marks
		}
	}
	return nil
}

// put remembers what a reading counted; of each question the newest two. Where two
// readings from different instants end at the same, nobody can tell whose cursor
// it is, and nothing is remembered.
func (l *ledger) put(id uint64, p page) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ps := l.pages[id]
	for i := range ps {
		if ps[i].to.Equal(p.to) {
			if !ps[i].from.Equal(p.from) {
				p.marks = nil
			}
			l.size += len(p.marks) - len(ps[i].marks)
			ps[i] = p
			return
		}
	}
	if len(ps) == 2 {
		l.size -= len(ps[0].marks)
		ps = ps[1:]
	}
	if len(l.pages) >= maxPages || l.size >= maxSeries {
		l.sweep(p.written)
	}
	l.size += len(p.marks)
	l.pages[id] = append(slices.Clip(ps), p)
}

// sweep drops what nobody asked on with, and all where that does not help. The lock
// is held.
func (l *ledger) sweep(now time.Time) {
	for id, ps := range l.pages {
		if newest := ps[len(ps)-1]; now.Sub(newest.written) > forgetAfter {
			for _, p := range ps {
				l.size -= len(p.marks)
			}
			delete(l.pages, id)
		}
	}
	if len(l.pages) >= maxPages || l.size >= maxSeries {
		clear(l.pages)
		l.size = 0
	}
}

// hasEnded says whether the server said of the series that the sample was its
// last.
func (l *ledger) hasEnded(h uint64, last int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ended) > 0 && l.ended[h] == last && last != 0
}

// end remembers that the series' sample was its last.
func (l *ledger) end(h uint64, last int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ended) >= maxPages {
		clear(l.ended)
	}
	l.ended[h] = last
	delete(l.waits, h)
}

// see learns from one look how late the series of a metric are: all that were looked
// at, and those of them that are behind. end is where the reading ends.
func (l *ledger) see(name string, now, end time.Time, all []*series.Series, r series.Reached) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const minute = time.Minute
	age, behind := max(now.Sub(time.UnixMilli(r.Head)), 0), max(now.Sub(end), 0)
	h := l.habits[name]
	if h.since.IsZero() || now.Sub(h.since) > 2*minute {
		h.least, h.most, h.since = [2]time.Duration{age, age}, [2]time.Duration{behind, behind}, now
	} else if now.Sub(h.since) > minute {
		h.least, h.most, h.since = [2]time.Duration{age, h.least[0]}, [2]time.Duration{behind, h.most[0]}, now
	}
	h.least[0], h.most[0] = min(h.least[0], age), max(h.most[0], behind)
	if len(l.waits) > 0 {
		for _, s := range all {
			w, ok := l.waits[s.ID]
			if n := len(s.Points); ok && n > 0 && s.Points[n-1].T > w.last {
				came := time.Duration(w.behind) * time.Millisecond
				if came > h.behind || now.Sub(h.behindAt) > forgetAfter {
					h.behind = came
				}
				h.behindAt = now
				delete(l.waits, s.ID)
			}
		}
	}
	if len(l.waits) >= maxPages {
		clear(l.waits)
	}
	for _, s := range r.Late {
		last := s.Points[len(s.Points)-1].T
		l.waits[s.ID] = wait{last: last, behind: r.Head - last}
	}
	if len(l.habits) >= maxPages {
		clear(l.habits)
	}
	l.habits[name] = h
}

// usual is how far a series of the metric was behind the others and came after
// all; 0 where none was.
func (l *ledger) usual(name string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.habits[name]; now.Sub(h.behindAt) < forgetAfter {
		return h.behind
	}
	return 0
}

// late is how late the samples of the source are, by those of its metrics that were
// read in the last minutes: more than a scrape interval is no phase.
func (s *Source) late(now time.Time) time.Duration {
	s.ledger.mu.Lock()
	least := map[string]time.Duration{}
	for name, h := range s.ledger.habits {
		if now.Sub(h.since) < 10*time.Minute {
			least[name] = min(h.least[0], h.least[1])
		}
	}
	s.ledger.mu.Unlock()
	var late time.Duration
	for name, age := range least {
		step, _ := s.step(name)
		late = max(late, age-step)
	}
	return late
}

// behind is how old the ends of a metric's readings were, at most, in the last
// minutes; 0 where it was not read.
func (l *ledger) behind(name string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.habits[name]
	return max(h.most[0], h.most[1])
}
