package prometheus

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/belayd/belay/analysis/internal/series"
)

// A picture is all that a question's answer is made of: the series that were
// fetched for it, by the deployment and the role that they have in it.
type picture struct {
	// sets are the series of each group, of whichever deployment.
	sets map[*group][]*series.Series
	// by are those that are counted; all are the same, each once.
	by  map[string]map[role][]*series.Series
	all []*series.Series
	// reached is how far they have come, to where the reading ends.
	reached series.Reached
	to      time.Time
	step    time.Duration
}

// picture makes the picture of a question from what was fetched, once. The series
// are aligned all together: those of one target tell of each other, whatever
// their names. They are copies, because several questions share a group and may
// see other targets in it.
func (b *batch) picture(x *question) (*picture, error) {
	if x.known != nil {
		return x.known, nil
	}
	pic := &picture{
		sets: map[*group][]*series.Series{}, by: map[string]map[role][]*series.Series{},
	}
	seen := map[*group]bool{}
	var fetched []*series.Series
	for _, p := range x.parts {
		g := p.group
		if g == nil || seen[g] {
			continue
		}
		seen[g] = true
		for _, k := range x.keys(g) {
			if err := g.errs[k]; err != nil {
				return nil, err
			}
			pic.sets[g] = append(pic.sets[g], copies(g.series[k])...)
		}
		fetched = append(fetched, pic.sets[g]...)
	}
	series.Align(fetched, x.identity)
	for _, p := range x.parts {
		if pic.by[p.deployment] == nil {
			pic.by[p.deployment] = map[role][]*series.Series{}
		}
		if p.group != nil {
			b.pick(x, p, pic)
		}
	}
	x.known = pic
	b.settle(x)
	return pic, nil
}

// pictures makes those of all questions; what cannot be made is said in the answer.
func (b *batch) pictures() {
	for _, q := range b.questions {
		if q.err == nil && q.Metric.Value == nil {
			_, _ = b.picture(q)
		}
	}
}

// pick puts the part's series into the picture.
func (b *batch) pick(x *question, p *part, pic *picture) {
	for _, s := range pic.sets[p.group] {
		if !p.selects(s.Labels, x.label) {
			continue
		}
		pic.by[p.deployment][p.role] = append(pic.by[p.deployment][p.role], s)
		if s.ID != 0 {
			continue // it has another role, too
		}
		s.ID = b.s.ledger.series(s.Labels)
		s.Ended = s.Ended || b.s.ledger.hasEnded(s.ID, s.Last(x.To.UnixMilli()))
		if x.counted != nil {
			s.Counted = series.Uncounted
			if last, ok := x.counted.find(s.ID, len(pic.all)); ok {
				s.Counted = last
			}
		}
		pic.all = append(pic.all, s)
	}
}

// settle finds where the question's reading ends: at the latest instant that all
// its live series have reached. Where none lives, or that is longer ago than counters
// are carried, there is nothing to wait for, and nothing is fresh.
func (b *batch) settle(x *question) {
	pic := x.known
	pic.step = b.stepOf(x)
	pic.reached = series.Reach(pic.all, series.Horizon{
		To: x.To.UnixMilli(), Step: pic.step.Milliseconds(), Patience: b.patience(x, pic.step).Milliseconds(),
	})
	pic.to = x.To
	if end := time.UnixMilli(pic.reached.At).UTC(); b.now.Sub(end) <= gap(pic.step)+b.s.cfg.Lag {
		pic.to = end
	}
	if lag := b.s.cfg.Lag; lag > 0 {
		// Whole seconds, so that rollouts that ask for the same instant get the same.
		if end := x.To.Add(min(b.now.Sub(x.To).Truncate(time.Second)-lag, 0)); end.Before(pic.to) {
			pic.to = end
		}
	}
	if pic.to.Before(x.from) {
		pic.to = x.from
	}
}

// next is when all of the question's series will have come as far as the newest of them
// has, or where all have, when they will have a sample more: a scrape interval after the
// last of them, or a whole number where they are late; zero where nothing is known of them.
func (b *batch) next(pic *picture) time.Time {
	if pic.reached.Head == 0 || pic.step <= 0 {
		return time.Time{}
	}
	last := cmp.Or(pic.reached.Second, pic.reached.Head)
	due := time.UnixMilli(last).UTC().Add(pic.step + scraping)
	if late := b.now.Sub(due); late >= 0 {
		due = due.Add(late.Truncate(pic.step) + pic.step)
	}
	return due
}

// stepOf is the scrape interval of the question's series.
func (b *batch) stepOf(x *question) time.Duration {
	var step time.Duration
	for _, p := range x.parts {
		if d, known := b.s.step(p.shared.name); known {
			step = max(step, d)
		}
	}
	if step == 0 {
		return guess
	}
	return step
}

// patience is how far a series may be behind and still be waited for: three scrape
// intervals, or for as long as it took others before that came after all.
func (b *batch) patience(x *question, step time.Duration) time.Duration {
	return min(max(stale(step), b.s.ledger.usual(x.parts[0].shared.name, b.now)+step+step/2), gap(step))
}

// markers asks about the series that are behind: a plain selector leaves out those
// whose end the server was told of, which raw samples do not show. What cannot be
// asked is taken for late.
func (b *batch) markers(ctx context.Context) {
	asked := map[*group]map[string]bool{}
	for _, x := range b.questions {
		if x.err != nil || x.known == nil {
			continue
		}
		for g, keys := range x.doubtful() {
			if asked[g] == nil {
				asked[g] = map[string]bool{}
			}
			maps.Copy(asked[g], keys)
		}
	}
	if len(asked) == 0 {
		return
	}
	var rs []request
	for _, key := range slices.Sorted(maps.Keys(b.groups)) {
		g := b.groups[key]
		for c := range slices.Chunk(slices.Sorted(maps.Keys(asked[g])), b.s.chunk(g.shared.name)) {
			rs = append(rs, request{g, c, 0, ""})
		}
	}
	live := make([]map[uint64]bool, len(rs))
	b.parallel(len(rs), func(i int) {
		r, err := b.s.api.query(ctx, rs[i].selector(), rs[i].group.to, 0)
		if err != nil || r.kind != "vector" {
			return
		}
		live[i] = map[uint64]bool{}
		for _, s := range r.series {
			live[i][b.s.ledger.series(s.Labels)] = true
		}
	})
	answered := map[*group]map[string]map[uint64]bool{}
	for i, r := range rs {
		if answered[r.group] == nil {
			answered[r.group] = map[string]map[uint64]bool{}
		}
		for _, k := range r.keys {
			answered[r.group][k] = live[i]
		}
	}
	for _, x := range b.questions {
		if x.err == nil && x.known != nil && len(x.known.reached.Late) > 0 {
			b.bury(x, answered)
		}
	}
}

// doubtful are the keys whose series are behind.
func (x *question) doubtful() map[*group]map[string]bool {
	out := map[*group]map[string]bool{}
	for _, s := range x.known.reached.Late {
		for g, set := range x.known.sets {
			if !slices.Contains(set, s) {
				continue
			}
			if out[g] == nil {
				out[g] = map[string]bool{}
			}
			out[g][g.keyOf(s)] = true
		}
	}
	return out
}

// bury marks the series that have ended, and finds anew where the reading ends.
func (b *batch) bury(x *question, answered map[*group]map[string]map[uint64]bool) {
	changed := false
	for _, s := range x.known.reached.Late {
		for g, set := range x.known.sets {
			live := answered[g][g.keyOf(s)]
			if live == nil || live[s.ID] || !slices.Contains(set, s) {
				continue
			}
			s.Ended, changed = true, true
			b.s.ledger.end(s.ID, s.Last(x.To.UnixMilli()))
		}
	}
	if changed {
		b.settle(x)
	}
}

// remember writes down what the question's reading counted, and learns how late
// its series were.
func (b *batch) remember(x *question) {
	pic := x.known
	if len(pic.all) == 0 {
		return
	}
	if pic.reached.Head != 0 {
		b.s.ledger.see(x.parts[0].shared.name, b.now, pic.to, pic.all, pic.reached)
	}
	if !pic.to.After(x.from) {
		return
	}
	to := pic.to.UnixMilli()
	p := page{from: x.From, to: pic.to, written: b.now, marks: make(marks, 0, len(pic.all))}
	for _, s := range pic.all {
		p.marks = append(p.marks, mark{s.ID, max(s.Last(to), s.Counted, series.Uncounted)})
	}
	for i, m := range x.counted {
		if _, ok := p.marks.find(m.series, i); !ok && to-m.last < forgetAfter.Milliseconds() {
			p.marks = append(p.marks, m) // it may come back
		}
	}
	b.s.ledger.put(x.id, p)
}
