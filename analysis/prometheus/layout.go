package prometheus

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/analysis/internal/series"
	"github.com/belayd/belay/analysis/promql"
)

const (
	// layoutAge is how long the bounds of a histogram are taken for known.
	layoutAge = 10 * time.Minute
	// maxLayouts bounds what is remembered.
	maxLayouts = 100_000
)

// A layout is which buckets a deployment's histogram has.
type layout struct {
	// bounds are the finite bounds, sorted, each with its text: one bound may be
	// written in two ways.
	bounds []bound
	// classic and native say which forms there are.
	classic, native bool
	at              time.Time
}

type bound struct {
	value float64
	text  string
}

// layouts remembers the bounds of histograms. To ask for the buckets next to a
// cut one must know which there are, and how le is written.
type layouts struct {
	mu sync.Mutex
	by map[string]layout
}

func newLayouts() *layouts { return &layouts{by: map[string]layout{}} }

func layoutKey(p *part, key, deployment string) string {
	return p.shared.key() + "\xfe" + key + "\xfe" + deployment
}

// deploymentLabel is the label by which the part's deployments are told apart.
func (x *question) deploymentLabel(p *part) string {
	if x.label == "" && p.shared.byDeployment {
		return p.shared.index
	}
	return cmp.Or(x.label, p.shared.deployment)
}

// find is the layout of a bucket part's deployment; ok is false where it must be
// looked up.
func (l *layouts) find(x *question, p *part, now time.Time) (layout, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	y, ok := l.by[layoutKey(p, p.key, p.deployment)]
	return y, ok && now.Sub(y.at) < layoutAge
}

func (l *layouts) put(p *part, key, deployment string, y layout) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.by) >= maxLayouts {
		clear(l.by)
	}
	l.by[layoutKey(p, key, deployment)] = y
}

// forget makes the question's bounds be looked up again.
func (l *layouts) forget(x *question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range x.parts {
		delete(l.by, layoutKey(p, p.key, p.deployment))
	}
}

// buckets are the texts of le that the part asks for, nil for all; ask is false
// where the part has nothing to ask for. The layouts are those that findLayouts
// has looked up just before.
func (l *layouts) buckets(x *question, p *part) (les []string, ask bool) {
	if p.role != roleBucket && p.role != roleNative {
		return nil, true
	}
	var all []bound
	classic, native := false, false
	l.mu.Lock()
	for _, q := range x.parts {
		if q.role == roleBucket {
			y := l.by[layoutKey(q, q.key, q.deployment)]
			all = append(all, y.bounds...)
			classic, native = classic || y.classic, native || y.native
		}
	}
	l.mu.Unlock()
	if p.role == roleNative {
		return nil, native
	}
	if len(all) == 0 || len(x.Cuts) == 0 {
		return nil, classic
	}
	return next(all, x.Cuts, x.Metric.Histogram.Unit), true
}

// next are the texts of the bounds next to the cuts, and of +Inf, which counts
// all.
func next(all []bound, cuts []float64, unit string) []string {
	scaled := slices.Clone(cuts)
	if unit == "ms" {
		for i := range scaled {
			scaled[i] *= 1000
		}
	}
	slices.SortFunc(all, func(a, b bound) int { return cmp.Compare(a.value, b.value) })
	values := make([]float64, len(all))
	for i, b := range all {
		values[i] = b.value
	}
	keep := series.Next(slices.Compact(values), scaled)
	texts := []string{"+Inf"}
	for _, b := range all {
		if slices.Contains(keep, b.value) {
			texts = append(texts, b.text)
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// findLayouts looks up the bounds that are not known, merged over endpoints. A
// look-up that does not succeed is the questions' error.
func (b *batch) findLayouts(ctx context.Context) {
	type lookup struct {
		part  *part
		label string
		at    time.Time
		keys  map[string][]*question
	}
	todo := map[string]*lookup{}
	for _, q := range b.questions {
		for _, p := range q.parts {
			if q.err != nil || p.role != roleBucket {
				continue
			}
			if _, ok := b.s.layouts.find(q, p, b.now); ok {
				continue
			}
			key := strings.Join([]string{p.shared.key(), q.deploymentLabel(p), q.To.String()}, "\xfe")
			if todo[key] == nil {
				todo[key] = &lookup{part: p, label: q.deploymentLabel(p), at: q.To, keys: map[string][]*question{}}
			}
			t := todo[key]
			k := p.key
			if qs := t.keys[k]; len(qs) == 0 || qs[len(qs)-1] != q {
				t.keys[k] = append(qs, q)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(todo)) {
		t := todo[key]
		chunks := slices.Collect(slices.Chunk(slices.Sorted(maps.Keys(t.keys)), b.s.cfg.Chunk))
		errs := make([]error, len(chunks))
		b.parallel(len(chunks), func(i int) {
			errs[i] = b.lookup(ctx, t.part, t.label, t.at, chunks[i])
		})
		for i, c := range chunks {
			for _, e := range c {
				for _, q := range t.keys[e] {
					if errs[i] != nil {
						q.err = errs[i]
					}
				}
			}
		}
	}
}

// lookup asks which bounds there are: group by (index, deployment, le).
func (b *batch) lookup(ctx context.Context, p *part, label string, when time.Time, keys []string) error {
	var by, ms []string
	ms = append(ms, p.shared.fixed...)
	if p.shared.index != "" {
		by = append(by, promql.LabelName(p.shared.index))
		ms = append(ms, alternatives(p.shared.index, keys))
	}
	if label != "" && label != p.shared.index {
		by = append(by, promql.LabelName(label))
	}
	classic, err := b.s.api.query(ctx, "group by ("+strings.Join(append(slices.Clone(by), "le"), ",")+") ("+
		selector(p.shared.name, ms)+")", when, 0)
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(p.shared.name, "_bucket")
	native, err := b.s.api.query(ctx, "group by ("+strings.Join(by, ",")+") ("+selector(name, ms)+")", when, 0)
	if err != nil {
		return err
	}
	found := map[place]*layout{}
	at := func(l series.Labels) *layout {
		k := place{deployment: l.Get(label)}
		if p.shared.index != "" {
			k.key = l.Get(p.shared.index)
		}
		if found[k] == nil {
			found[k] = &layout{at: b.now}
		}
		return found[k]
	}
	for _, s := range classic.series {
		y := at(s.Labels)
		y.classic = true
		text := s.Labels.Get("le")
		if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) {
			y.bounds = append(y.bounds, bound{v, text})
		}
	}
	for _, s := range native.series {
		y := at(s.Labels)
		y.native = !y.classic
	}
	for k, y := range found {
		b.s.layouts.put(p, k.key, k.deployment, *y)
	}
	return nil
}

// A place is where a layout was found.
type place struct{ key, deployment string }
