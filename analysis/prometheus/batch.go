package prometheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/analysis/internal/fetch"
	"github.com/belayd/belay/analysis/internal/series"
	"github.com/belayd/belay/analysis/promql"
)

// A batch is the work of one Read.
type batch struct {
	s         *Source
	now       time.Time
	questions []*question
	groups    map[string]*group
	instants  map[string]*instant
}

// A group is the series that many questions share: one form of selector, one
// interval, one set of buckets, many endpoints.
type group struct {
	shared shared
	// les are the texts of the buckets that are asked for; all where it is empty.
	les []string
	// name is what the server calls the metric; counter says that it is one, which
	// servers call with _total behind it or without.
	name    string
	counter bool
	// to and reach are when and how far back is asked.
	to    time.Time
	reach time.Duration

	// keys are the values of the index, an endpoint's or a deployment's name.
	keys, deployments map[string]bool
	// series and errs are by key.
	series map[string][]*series.Series
	errs   map[string]error
	// have is since when all samples were asked for.
	have map[string]time.Time
}

// merge puts the parts of all questions into groups.
func (b *batch) merge() {
	for _, q := range b.questions {
		if q.err != nil {
			continue
		}
		for _, p := range q.parts {
			les, ask := b.s.layouts.buckets(q, p)
			if !ask {
				continue
			}
			step, known := b.s.step(p.shared.name)
			back := b.patience(q, step)
			if !known {
				back = gap(step)
			}
			b.join(p, q, les, ladder(q.To.Sub(q.from)+back))
		}
	}
}

// join finds the part's group, or makes it.
func (b *batch) join(p *part, q *question, les []string, reach time.Duration) {
	key := strings.Join([]string{p.shared.key(), strings.Join(les, ","), q.To.String(), reach.String()}, "\xfe")
	g := b.groups[key]
	if g == nil {
		g = &group{
			shared: p.shared, les: les, to: q.To, reach: reach, name: b.s.storedAs(p.shared.name),
			keys: map[string]bool{}, deployments: map[string]bool{},
			series: map[string][]*series.Series{}, errs: map[string]error{}, have: map[string]time.Time{},
		}
		b.groups[key] = g
	}
	g.counter = g.counter || p.role == roleTotal || p.role == roleCount
	g.keys[p.key] = true
	g.deployments[p.deployment] = true
	p.group = g
}

// ladder rounds up by at most a quarter, so that questions of nearly the same
// length share a request.
func ladder(d time.Duration) time.Duration {
	s := uint64((d + time.Second - 1) / time.Second)
	if s < 4 {
		return 4 * time.Second
	}
	step := uint64(1) << (bits.Len64(s) - 1) / 4
	return time.Duration((s+step-1)/step*step) * time.Second
}

// A request is one question to the server.
type request struct {
	group *group
	keys  []string
	reach time.Duration
	// name is asked for instead of the group's where it is not empty.
	name string
}

// otherNames are the questions for counters of which nothing was found, under the
// name with _total behind it, or without; now and then, because a counter that
// counts nothing yet may have no series under either.
func (b *batch) otherNames() []request {
	var out []request
	for _, key := range slices.Sorted(maps.Keys(b.groups)) {
		g := b.groups[key]
		if !g.counter || !g.empty() || !b.s.maySeek(g.name, b.now) {
			continue
		}
		other, ok := strings.CutSuffix(g.name, "_total")
		if !ok {
			other = g.name + "_total"
		}
		for c := range slices.Chunk(slices.Sorted(maps.Keys(g.keys)), b.s.chunk(g.shared.name)) {
			out = append(out, request{g, c, g.reach, other})
		}
	}
	return out
}

// requests are those of all groups, or of only the keys given, which are
// asked about as much further back.
func (b *batch) requests(only map[*group]map[string]time.Duration) []request {
	var out []request
	for _, key := range slices.Sorted(maps.Keys(b.groups)) {
		g := b.groups[key]
		keys, reach := slices.Sorted(maps.Keys(g.keys)), g.reach
		if only != nil {
			keys = slices.Sorted(maps.Keys(only[g]))
			for _, d := range only[g] {
				reach = max(reach, g.reach+d)
			}
		}
		for c := range slices.Chunk(keys, b.s.chunk(g.shared.name)) {
			out = append(out, request{g, c, reach, ""})
		}
	}
	return out
}

// empty says whether the server answered that there are no series.
func (g *group) empty() bool {
	for k := range g.keys {
		if g.errs[k] != nil || len(g.series[k]) > 0 {
			return false
		}
	}
	return true
}

// keyOf is where in the group a series stands.
func (g *group) keyOf(s *series.Series) string {
	if g.shared.index == "" {
		return ""
	}
	return s.Labels.Get(g.shared.index)
}

// expr is the request in PromQL.
func (r request) expr() string { return r.selector() + "[" + window(r.reach) + "]" }

// selector is the request's selector in PromQL.
func (r request) selector() string {
	g := r.group
	ms := slices.Clone(g.shared.fixed)
	if g.shared.index != "" {
		ms = append(ms, alternatives(g.shared.index, r.keys))
	}
	if g.shared.deployment != "" {
		ms = append(ms, alternatives(g.shared.deployment, slices.Sorted(maps.Keys(g.deployments))))
	}
	if len(g.les) > 0 {
		ms = append(ms, alternatives("le", g.les))
	}
	return selector(cmp.Or(r.name, g.name), ms)
}

// selector writes a selector of matchers that are written already.
func selector(name string, matchers []string) string {
	s := promql.Selector{Name: name}.String()
	body := strings.Join(matchers, ",")
	if quoted, ok := strings.CutSuffix(s, "}"); ok {
		return strings.TrimSuffix(quoted+","+body, ",") + "}"
	}
	return s + "{" + body + "}"
}

// alternatives is a matcher for any of the values, which are taken literally.
func alternatives(label string, values []string) string {
	if len(values) == 1 {
		return promql.LabelName(label) + "=" + strconv.Quote(values[0])
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return promql.LabelName(label) + "=~" + strconv.Quote(strings.Join(quoted, "|"))
}

// fetch carries the requests out, some at a time, and hands their series out.
func (b *batch) fetch(ctx context.Context, rs []request) {
	results := make([]*result, len(rs))
	errs := make([]error, len(rs))
	b.parallel(len(rs), func(i int) {
		r := rs[i]
		results[i], errs[i] = b.s.api.query(ctx, r.expr(), r.group.to, 0)
		if errs[i] == nil && results[i].kind != "matrix" {
			errs[i] = fmt.Errorf("it answered with a %s, not with samples", results[i].kind)
		}
	})
	var halves []request
	for i, r := range rs {
		if n := len(r.keys); n > 1 && errors.Is(errs[i], fetch.ErrTooLarge) {
			b.s.shrink(r.group.shared.name, n)
			halves = append(halves, request{r.group, r.keys[:n/2], r.reach, r.name},
				request{r.group, r.keys[n/2:], r.reach, r.name})
			continue
		}
		for _, k := range r.keys {
			r.group.errs[k] = errs[i]
			r.group.series[k] = nil
			r.group.have[k] = r.group.to.Add(-r.reach)
		}
		if errs[i] != nil {
			continue
		}
		if r.name != "" && len(results[i].series) > 0 {
			r.group.name = r.name
			b.s.store(r.group.shared.name, r.name)
		}
		for _, s := range results[i].series {
			k := r.group.keyOf(s)
			r.group.series[k] = append(r.group.series[k], s)
		}
	}
	if len(halves) > 0 {
		b.fetch(ctx, halves)
	}
}

// parallel calls f for 0 to n-1, some at a time, and waits.
func (b *batch) parallel(n int, f func(i int)) {
	free := make(chan struct{}, b.s.cfg.Parallel)
	var wg sync.WaitGroup
	for i := range n {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			f(i)
		})
	}
	wg.Wait()
}

// learn sees the scrape intervals in some of what was fetched.
func (b *batch) learn() {
	const enough = 32
	seen := map[string][]*series.Series{}
	for _, key := range slices.Sorted(maps.Keys(b.groups)) {
		g := b.groups[key]
		for i, k := range slices.Sorted(maps.Keys(g.series)) {
			if i == enough {
				break
			}
			// One series of an endpoint says as much as all of them.
			for _, s := range g.series[k] {
				if len(s.Points) > 1 {
					seen[g.shared.name] = append(seen[g.shared.name], s)
					break
				}
			}
		}
	}
	for name, all := range seen {
		b.s.learnStep(name, series.Interval(all))
	}
}

// lacking are the keys of which more must be seen to count the interval exactly,
// and how much further back: whether a series that begins in it is new, what one
// that falls in it did before, and where one that comes late was left.
func (b *batch) lacking() map[*group]map[string]time.Duration {
	out := map[*group]map[string]time.Duration{}
	for _, q := range b.questions {
		if q.err != nil || q.Metric.Value != nil {
			continue
		}
		pic, err := b.picture(q)
		if err != nil {
			continue
		}
		from, to, most := q.from.UnixMilli(), pic.to.UnixMilli(), gap(pic.step).Milliseconds()
		for g, all := range pic.sets {
			keys := q.keys(g)
			if !series.NeedsPast(all, from, to, most, g.have[keys[0]].UnixMilli()) {
				continue
			}
			more := gap(pic.step)
			for _, s := range all {
				if s.Counted > series.Uncounted && s.Counted < from {
					more = max(more, min(q.from.Sub(time.UnixMilli(s.Counted))+pic.step, b.s.cfg.MaxLookback))
				}
			}
			if out[g] == nil {
				out[g] = map[string]time.Duration{}
			}
			for _, k := range keys {
				out[g][k] = max(out[g][k], more)
			}
		}
	}
	for _, q := range b.questions {
		q.forget(out)
	}
	return out
}
