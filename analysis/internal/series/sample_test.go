package series

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
)

// make1 is a series of samples a second apart; NaN leaves one out.
func make1(name string, labels string, values ...float64) *Series {
	s := &Series{Labels: Labels{{NameLabel, name}}}
	for kv := range strings.SplitSeq(labels, ",") {
		k, v, _ := strings.Cut(kv, "=")
		s.Labels = append(s.Labels, Label{k, v})
	}
	s.Labels.Sort()
	for i, v := range values {
		if !math.IsNaN(v) {
			s.Points = append(s.Points, Point{T: int64(i+1) * 1000, V: v})
		}
	}
	return s
}

func identity(l Labels) string { return l.Get("instance") }

var none = math.NaN()

// The rules of counting, one by one: total and bad series of one deployment,
// sampled at seconds 1, 2, 3, …; what was counted in (1 s, 4 s].
func TestCounts(t *testing.T) {
	for _, c := range []struct {
		name       string
		total, bad []*Series
		n, k       float64
	}{
		{"steady", []*Series{make1("r", "instance=a", 10, 20, 30, 40, 50)}, nil, 30, 0},
		{"a reset counts from zero", []*Series{make1("r", "instance=a", 10, 20, 3, 5)}, nil, 10 + 3 + 2, 0},
		{"a missed sample loses nothing", []*Series{make1("r", "instance=a", 10, none, none, 40)}, nil, 30, 0},
		{"a series born on a target that was seen counts from zero",
			[]*Series{make1("r", "code=200,instance=a", 10, 20, 30, 40), make1("r", "code=503,instance=a", none, none, 4, 5)},
			[]*Series{make1("b", "code=503,instance=a", none, none, 4, 5)}, 30 + 5, 5},
		{"a new target is counted from its second sample",
			[]*Series{make1("r", "instance=a", 10, 20, 30, 40), make1("r", "instance=b", none, none, 1000, 1005)},
			nil, 30 + 5, 0},
		{"a series without an instance is counted from its second sample",
			[]*Series{make1("r", "code=200", 10, 20, 30, 40), make1("r", "code=503", none, none, 4, 5)}, nil, 30 + 1, 0},
		{"a series that a scrape lacked goes on from what it had",
			[]*Series{make1("r", "code=200,instance=a", 10, 20, 30, 40), make1("r", "code=503,instance=a", 7000, none, 7002, 7003)}, nil, 30 + 3, 0},
		{"a series that a scrape lacked and that fell was born again",
			[]*Series{make1("r", "code=200,instance=a", 10, 20, 30, 40), make1("r", "code=503,instance=a", 7, none, 5, 6)}, nil, 30 + 6, 0},
		{"a series that a restart took away counts from zero, even above its old value",
			[]*Series{make1("r", "code=200,instance=a", 1000, 1010, 20, 30), make1("r", "code=503,instance=a", 3, none, 5, 6)}, nil, 10 + 20 + 10 + 6, 0},
		{"a label that every series of a target gets at once is no birth",
			[]*Series{make1("r", "code=200,instance=a", 90_000, 90_010), make1("r", "code=503,instance=a", 900, 901),
				make1("r", "code=200,instance=a,cluster=x", none, none, 90_020, 90_030), make1("r", "code=503,instance=a,cluster=x", none, none, 902, 903)},
			nil, 10 + 1 + 10 + 1, 0},
		{"a restart is told by the largest counter: the small one grew beyond its old value",
			[]*Series{make1("r", "code=200,instance=a", 1000, 1010, 20, 30), make1("r", "code=503,instance=a", 3, 3, 5, 6)},
			[]*Series{make1("b", "code=503,instance=a", 3, 3, 5, 6)}, 10 + 20 + 10 + 0 + 5 + 1, 0 + 5 + 1},
		{"a single small counter that falls is no restart",
			[]*Series{make1("r", "code=200,instance=a", 1000, 1010, 1020, 1030), make1("r", "code=503,instance=a", 30, 30, 2, 2)}, nil, 30 + 2, 0},
		{"a bad series that is ahead of its total is cut to it",
			[]*Series{make1("r", "instance=a", 10, 10, 10, 12)}, []*Series{make1("b", "instance=a", 0, 0, 0, 3)}, 2, 2},
		{"a vanished target keeps what it counted",
			[]*Series{make1("r", "instance=a", 10, 20, none, none), make1("r", "instance=b", 10, 20, 30, 40)}, nil, 10 + 30, 0},
	} {
		all := append(append([]*Series{}, c.total...), c.bad...)
		Align(all, identity)
		got, err := Counts(c.total, c.bad, Extraction{From: 1000, To: 4000, Gap: 60_000, Stale: 2000, Instance: "instance"})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !got.Fresh || got.N != c.n || got.K != c.k {
			t.Errorf("%s: got n=%v k=%v fresh=%t, want n=%v k=%v", c.name, got.N, got.K, got.Fresh, c.n, c.k)
		}
	}
}

// However a quarter of an hour of resets, gaps and births is cut, the parts add up.
func TestCountsTile(t *testing.T) {
	a, b := make1("r", "code=200,instance=a"), make1("r", "code=503,instance=a")
	seed := uint64(1)
	rnd := func(n uint64) uint64 { seed = seed*6364136223846793005 + 1442695040888963407; return (seed >> 33) % n }
	var va, vb float64
	for i := int64(1); i < 900; i++ {
		switch rnd(40) {
		case 0:
			va, vb = 0, 0
		case 1:
			i += int64(rnd(90))
		}
		va += float64(rnd(9))
		a.Points = append(a.Points, Point{T: i * 1000, V: va})
		if d := float64(rnd(2)); vb+d > 0 {
			vb += d
			b.Points = append(b.Points, Point{T: i * 1000, V: vb})
		}
	}
	all := []*Series{a, b}
	Align(all, identity)
	count := func(from, to int64) float64 {
		x, err := Counts(all, nil, Extraction{From: from, To: to, Gap: 60_000, Stale: 1 << 40})
		if err != nil {
			t.Fatal(err)
		}
		return x.N
	}
	whole := count(0, 900_000)
	for _, step := range []int64{700, 1000, 15_000, 61_000} {
		var sum float64
		for from := int64(0); from < 900_000; from += step {
			sum += count(from, min(from+step, 900_000))
		}
		if sum != whole {
			t.Errorf("in pieces of %d ms: got %v, want %v", step, sum, whole)
		}
	}
}

// A counter against time: an instance's trials are the time in which it was seen to
// count, once however many series it has, and intervals tile.
func TestRate(t *testing.T) {
	all := []*Series{
		make1("r", "container=x,instance=a", 0, 0, 1, 1, none, 2), make1("r", "container=y,instance=a", 5, 5, 5, 5, none, 5),
		make1("r", "container=x,instance=b", 3, 3, 0, 1), make1("r", "container=z,instance=b", none, none, none, 1),
	}
	Align(all, identity)
	spec := Extraction{Gap: 60_000, Stale: 1 << 40, Instance: "instance", Per: 1000, Trials: 100}
	at := func(from, to int64) analysis.Sample {
		spec.From, spec.To = from, to
		x, err := Rate(all, spec)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	got := at(1000, 6000)
	want := analysis.Sample{Fresh: true, N: 800, K: 4, Instances: []analysis.Instance{
		{Name: "a", Sample: analysis.Sample{Fresh: true, N: 500, K: 2}}, {Name: "b", Sample: analysis.Sample{Fresh: true, N: 300, K: 2}}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("a rate (-want +got):\n%s", d)
	}
	var n, k float64
	for from := int64(1000); from < 6000; from += 500 {
		x := at(from, from+500)
		n, k = n+x.N, k+x.K
	}
	if n != got.N || k != got.K {
		t.Errorf("in pieces: got n=%v k=%v, want %v and %v", n, k, got.N, got.K)
	}
	spec.Stale = 1
	if x := at(6000, 9000); x.Fresh {
		t.Errorf("without a young sample: got %+v", x)
	}
}

// A deployment without a young sample is not fresh; numbers that are none are
// errors, wherever they stand.
func TestCountsRefuses(t *testing.T) {
	spec := Extraction{From: 1000, To: 4000, Gap: 60_000, Stale: 2000}
	for _, c := range []struct {
		total *Series
		want  string
	}{
		{make1("r", "a=b", 1, 2), "not fresh"},
		{make1("r", "a=b"), "not fresh"},
		{make1("r", "a=b", 1, 2, 3, 4), ""},
		{make1("r", "a=b", 1, 2, 3, math.Inf(1)), "+Inf"},
		{make1("r", "a=b", 1, 2, 3, -1), "-1"},
		{&Series{Points: []Point{{T: 1000, V: math.NaN()}, {T: 3000, V: 1}}}, "NaN"},
	} {
		got, err := Counts([]*Series{c.total}, nil, spec)
		text := fmt.Sprint(err)
		if err == nil && !got.Fresh {
			text = "not fresh"
		}
		if err == nil && got.Fresh {
			text = ""
		}
		if (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
			t.Errorf("%v: got %q, want %q", c.total.Points, text, c.want)
		}
	}
}

// Two writers that share an identity take turns: a sample that the other wrote
// does not make a series look missing.
func TestAlignInterleaved(t *testing.T) {
	a, b := make1("r", "code=200,instance=a"), make1("r", "code=503,instance=a")
	for i := range int64(5) {
		a.Points = append(a.Points, Point{T: i * 15_000, V: 1000 + float64(i)})
		b.Points = append(b.Points, Point{T: i*15_000 + 7000, V: 500 + float64(i)})
	}
	Align([]*Series{a, b}, identity)
	if a.Target != nil || b.Target != nil {
		t.Error("interleaved writers: got a target, want none")
	}
	got, err := Counts([]*Series{a, b}, nil, Extraction{From: 0, To: 60_000, Gap: 300_000, Stale: 60_000})
	if err != nil || got.N != 7 {
		t.Errorf("interleaved writers: got n=%v, %v, want 7", got.N, err)
	}
}

func histogram(instance string, les []string, rows ...[]float64) []*Series {
	var out []*Series
	for j, le := range les {
		var col []float64
		for _, r := range rows {
			col = append(col, r[j])
		}
		out = append(out, make1("h_bucket", "instance="+instance+",le="+le, col...))
	}
	return out
}

func buckets(xs ...float64) []analysis.Bucket {
	var out []analysis.Bucket
	for i := 0; i < len(xs); i += 2 {
		out = append(out, analysis.Bucket{Upper: xs[i], Count: xs[i+1]})
	}
	return out
}

// Classic histograms: buckets are reset together, cut at the bounds that all
// instances have, and left out where no cut is near.
func TestBucketsClassic(t *testing.T) {
	les := []string{"0.1", "0.5", "1.0", "+Inf"}
	for _, c := range []struct {
		name string
		all  []*Series
		unit string
		cuts []float64
		n    float64
		want []analysis.Bucket
	}{
		{"steady", histogram("a", les, []float64{1, 2, 3, 4}, []float64{2, 5, 8, 10}), "s", nil, 6, buckets(0.1, 1, 0.5, 2, 1, 2)},
		{"milliseconds", histogram("a", []string{"100", "+Inf"}, []float64{1, 4}, []float64{2, 10}), "ms", nil, 6, buckets(0.1, 1)},
		{"the buckets are reset together", histogram("a", les, []float64{1, 2, 3, 40}, []float64{2, 5, 8, 10}), "s", nil, 10, buckets(0.1, 2, 0.5, 3, 1, 3)},
		{"a cut between two bounds keeps both", histogram("a", les, []float64{1, 2, 3, 4}, []float64{2, 5, 8, 10}), "s", []float64{0.45}, 6, buckets(0.1, 1, 0.5, 2)},
		{"a cut on a bound keeps it alone", histogram("a", les, []float64{1, 2, 3, 4}, []float64{2, 5, 8, 10}), "s", []float64{0.5}, 6, buckets(0.5, 3)},
		{"a cut above all keeps the last", histogram("a", les, []float64{1, 2, 3, 4}, []float64{2, 5, 8, 10}), "s", []float64{3}, 6, buckets(1, 5)},
		{"instances with other bounds are cut where both can be",
			append(histogram("a", les, []float64{1, 2, 3, 4}, []float64{2, 5, 8, 10}), histogram("b", []string{"0.5", "2", "+Inf"}, []float64{0, 0, 0}, []float64{3, 3, 9})...),
			"s", nil, 6 + 9, buckets(0.5, 6, 1, 2)},
		{"a bucket that was read later than the one above it is cut to it", histogram("a", les, []float64{0, 0, 0, 0}, []float64{1, 5, 4, 4}), "s", nil, 4, buckets(0.1, 1, 0.5, 3, 1, 0)},
		{"a sample that lacks a bucket is left out", append(histogram("a", []string{"0.1"}, []float64{1}, []float64{none}, []float64{3}), histogram("a", []string{"+Inf"}, []float64{2}, []float64{4}, []float64{8})...), "s", nil, 6, buckets(0.1, 2)},
		{"a bucket that appears late only marks its beginning",
			append(histogram("a", []string{"0.1"}, []float64{none}, []float64{none}, []float64{3}, []float64{4}), histogram("a", []string{"+Inf"}, []float64{1000}, []float64{1004}, []float64{1008}, []float64{1009})...),
			"s", nil, 1, buckets(0.1, 1)},
	} {
		Align(c.all, identity)
		got, err := Buckets(c.all, nil, Extraction{From: 1000, To: 4000, Gap: 60_000, Stale: 4000, Unit: c.unit, Cuts: c.cuts})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if d := cmp.Diff(c.want, got.Buckets); d != "" || got.N != c.n {
			t.Errorf("%s: got n=%v, want %v; buckets (-want +got):\n%s", c.name, got.N, c.n, d)
		}
	}
	if _, err := Buckets(histogram("a", []string{"0.1"}, []float64{1}), nil, Extraction{To: 4000, Stale: 4000}); err == nil {
		t.Error("no +Inf bucket: got no error")
	}
	if _, err := Buckets(histogram("a", []string{"x", "+Inf"}, []float64{1, 1}), nil, Extraction{To: 4000, Stale: 4000}); err == nil {
		t.Error("le=x: got no error")
	}
}

// native is a histogram with these buckets by index.
func native(schema int, perIndex map[int]float64) *Histogram {
	h := &Histogram{Schema: schema}
	for i := -2000; i <= 2000; i++ {
		if c, ok := perIndex[i]; ok {
			h.Buckets = append(h.Buckets, Bucket{Bound(schema, i-1), Bound(schema, i), c})
			h.Count += c
		}
	}
	return h
}

// Native histograms: differences by bucket, the bounds of the grid next to the
// cut although nothing is in them, and a resolution that is halved on the way.
func TestBucketsNative(t *testing.T) {
	s := &Series{Labels: Labels{{"instance", "a"}}, Points: []Point{
		{T: 1000, H: native(1, map[int]float64{-2: 5, 0: 1})}, // (2^-1.5, 2^-1], (2^-0.5, 1]
		{T: 2000, H: native(1, map[int]float64{-2: 8, -1: 2, 0: 1})},
		{T: 3000, H: native(0, map[int]float64{-1: 8, 0: 4})}, // merged: (1/4, 1/2], (1/2, 1]
		{T: 4000, H: native(0, map[int]float64{-1: 2})},       // restarted
	}}
	count := func(from, to int64, cuts ...float64) analysis.Sample {
		t.Helper()
		x, err := Buckets(nil, []*Series{s}, Extraction{From: from, To: to, Gap: 60_000, Stale: 60_000, Cuts: cuts})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	half, root := 0.5, math.Exp2(-0.5)
	if got := count(1000, 2000, 0.6); got.N != 5 || cmp.Diff(buckets(half, 3, root, 2), got.Buckets) != "" {
		t.Errorf("one resolution: got n=%v %v, want 5 with 3 up to %v and 2 up to %v", got.N, got.Buckets, half, root)
	}
	if got := count(2000, 3000, 0.6); got.N != 1 || cmp.Diff(buckets(half, 0, 1, 1), got.Buckets) != "" {
		t.Errorf("halved resolution: got n=%v %v, want 1 between %v and 1", got.N, got.Buckets, half)
	}
	if got := count(3000, 4000, 0.5); got.N != 2 || cmp.Diff(buckets(half, 2), got.Buckets) != "" {
		t.Errorf("reset: got n=%v %v, want 2 up to %v", got.N, got.Buckets, half)
	}
	if got := count(1000, 4000, 100); got.N != 8 || cmp.Diff(buckets(64, 8, 128, 0), got.Buckets) != "" {
		t.Errorf("a cut far above: got n=%v %v, want the bounds 64 and 128", got.N, got.Buckets)
	}
}

// The resolution is seen in the buckets; bounds that lie elsewhere are custom.
func TestInferSchema(t *testing.T) {
	for schema := minSchema; schema <= maxSchema; schema++ {
		h := native(schema, map[int]float64{-3: 1, 1: 2})
		if got := InferSchema(h.Buckets); got != schema {
			t.Errorf("schema %d: got %d", schema, got)
		}
	}
	for _, bs := range [][]Bucket{nil, {{-1, 1, 3}}, {{0.1, 0.2, 1}}, {{0.25, 0.5, 1}, {0.5, 0.75, 1}}, {{1, math.Inf(1), 1}}} {
		if got := InferSchema(bs); got != GridUnknown {
			t.Errorf("%v: got %d, want no grid", bs, got)
		}
	}
}

// The sum of a mean may fall; a count that falls is a reset of all three.
func TestMean(t *testing.T) {
	c := make1("plays", "instance=a", 10, 12, 1)
	sum := make1("sum", "instance=a", 100, 90, 4)
	sq := make1("sq", "instance=a", 900, 1000, 16)
	spec := Extraction{From: 1000, To: 3000, Gap: 60_000, Stale: 2000, Instance: "instance"}
	got, err := Mean([]*Series{c}, []*Series{sum}, []*Series{sq}, spec)
	if err != nil || got.N != 3 || got.Sum != -10+4 || got.SumSq != 100+16 || len(got.Instances) != 1 {
		t.Errorf("got %+v, %v, want n=3 sum=-6 sumSq=116", got, err)
	}
	if _, err := Mean([]*Series{c}, []*Series{make1("sum", "instance=b", 1)}, []*Series{sq}, spec); err == nil {
		t.Error("no sum with the count's labels: got no error")
	}
}

// A value is one number, or several folded into one.
func TestPlain(t *testing.T) {
	two := []*Series{make1("g", "instance=a", 1, 2, 3, 4), make1("g", "instance=b", 1, 2, 3, 6)}
	spec := Extraction{To: 4000, Stale: 2000}
	for fold, want := range map[string]float64{"max": 6, "min": 4, "sum": 10, "avg": 5} {
		if got, err := Plain(two, fold, spec); err != nil || got.Value != want || !got.Fresh {
			t.Errorf("%s: got %+v, %v, want %v", fold, got, err, want)
		}
	}
	if _, err := Plain(two, "", spec); err == nil {
		t.Error("two series without a fold: got no error")
	}
	if got, err := Plain(two, "max", Extraction{To: 9000, Stale: 2000}); err != nil || got.Fresh {
		t.Errorf("stale: got %+v, %v, want not fresh", got, err)
	}
	if _, err := Plain([]*Series{{Points: []Point{{T: 4000, V: math.NaN()}}}}, "", spec); err == nil {
		t.Error("NaN: got no error")
	}
}

// Without squares a mean is made of batches: a series' events from one sample to the
// next.
func TestMeanBatches(t *testing.T) {
	count := []*Series{make1("n", "instance=a", 0, 4, 8), make1("n", "instance=b", 0, 0, 2)}
	sum := []*Series{make1("s", "instance=a", 0, 8, 20), make1("s", "instance=b", 0, 0, 5)}
	got, err := Mean(count, sum, nil, Extraction{From: 1000, To: 3000, Gap: 60_000, Stale: 5000, Instance: "instance", Batches: true})
	if want := 8.0*8/4 + 12.0*12/4 + 5.0*5/2; err != nil || got.N != 10 || got.Sum != 25 || got.SumSq != want || got.Batches != 3 {
		t.Errorf("got %+v, %v, want n=10 sum=25 of 3 batches, %v", got, err, want)
	}
}
