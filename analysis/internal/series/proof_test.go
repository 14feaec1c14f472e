package series

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// shifted is the series, sampled so many milliseconds later.
func shifted(s *Series, ms int64) *Series {
	for i := range s.Points {
		s.Points[i].T += ms
	}
	return s
}

// workers is what one port shows behind which n processes take turns at random.
func workers(n int, first, each float64) *Series {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	counts := make([]float64, n)
	for i := range counts {
		counts[i] = first * (1 - 0.3*float64(i)/float64(n))
	}
	var values []float64
	for range 20 {
		for i := range counts {
			counts[i] += each
		}
		values = append(values, counts[r.IntN(n)])
	}
	return make1("r", "instance=a", values...)
}

// What is no counter, and what is counted twice, is an error with its cause; what
// counters really do is none. The interval is the second half of twenty scrapes.
func TestProven(t *testing.T) {
	steady := func(labels string) *Series {
		var values []float64
		for i := range 20 {
			values = append(values, 1000+float64(10*i))
		}
		return make1("r", labels, values...)
	}
	alternating, crash, gauge, crashOften := make([]float64, 20), make([]float64, 20), make([]float64, 20), make([]float64, 20)
	for i := range 20 {
		alternating[i] = 500_000 - 200_000*float64(i%2) + float64(10*i)
		crash[i] = float64(1 + i%10*30)
		gauge[i] = []float64{12.5, 11.25, 13, 9, 10.5}[i%5]
		crashOften[i] = float64(30 * (1 + i%2))
	}
	for name, c := range map[string]struct {
		all  []*Series
		want string
	}{
		"steady":                             {[]*Series{steady("instance=a"), steady("instance=b")}, ""},
		"two codes that are always equal":    {[]*Series{steady("instance=a,code=200"), steady("instance=a,code=201")}, ""},
		"one restart":                        {[]*Series{make1("r", "instance=a", 9e5, 9e5+10, 9e5+20, 9e5+30, 9e5+40, 9e5+50, 9e5+60, 9e5+70, 9e5+80, 9e5+90, 9e5+100, 9e5+110, 12, 22, 30)}, ""},
		"a burst after a restart":            {[]*Series{make1("r", "instance=a", 9e5, 9e5+1, 9e5+2, 9e5+3, 9e5+4, 9e5+5, 9e5+6, 9e5+7, 9e5+8, 9e5+9, 9e5+10, 9e5+11, 40, 41)}, ""},
		"a restart every ten scrapes":        {[]*Series{make1("r", "instance=a", crash...)}, ""},
		"two workers in turns":               {[]*Series{make1("r", "instance=a", alternating...)}, "several processes answer behind one address"},
		"two workers at random":              {[]*Series{workers(2, 1e6, 10)}, "several processes answer behind one"},
		"two that are nearly equal":          {[]*Series{workers(2, 1e4, 10)}, "several processes answer behind one"},
		"eight workers":                      {[]*Series{workers(8, 1e6, 10)}, "several processes answer behind one"},
		"a gauge":                            {[]*Series{make1("r", "instance=a", gauge...)}, "it is a gauge or a rate"},
		"a process that restarts every time": {[]*Series{make1("r", "instance=a", crashOften...)}, "restarted all the time"},
		"an HA pair": {[]*Series{steady("instance=a,code=200,replica=0"), steady("instance=a,code=503,replica=0"),
			shifted(steady("instance=a,code=200,replica=1"), 400), shifted(steady("instance=a,code=503,replica=1"), 400)}, `replica="0"`},
		"two clusters with equal names": {[]*Series{steady("instance=a,cluster=x"), shifted(make1("r", "instance=a,cluster=y", 5, 50, 60, 2000, 2100, 2500, 3000, 3100, 3200, 3300, 3400), 400)}, ""},
	} {
		Align(c.all, identity)
		_, err := Counts(c.all, nil, Extraction{From: 10_000, To: 21_000, Gap: 60_000, Stale: 20_000, Instance: "instance"})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: got %v, want no error", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want an error that says %q", name, err, c.want)
		}
	}
}

// One series among those of both deployments is an error with its cure.
func TestShared(t *testing.T) {
	a, b := make1("r", "pod=recs-1", 1), make1("r", "pod=recs-canary-1", 1)
	if err := Shared([]*Series{a}, []*Series{b}, [2]string{"recs", "recs-canary"}); err != nil {
		t.Errorf("apart: got %v", err)
	}
	err := Shared([]*Series{a, b}, []*Series{b}, [2]string{"recs", "recs-canary"})
	if err == nil || !strings.Contains(err.Error(), `r{pod="recs-canary-1"} counts for both recs and recs-canary`) {
		t.Errorf("both: got %v, want an error that names the series", err)
	}
}

// A name and the bounds that contradict the metric's unit are an error; one of
// them alone is none.
func TestUnitError(t *testing.T) {
	for _, c := range []struct {
		name, unit string
		largest    float64
		wrong      bool
	}{
		{"latency_milliseconds_bucket", "s", 10_000, true}, {"latency_ms", "", 500, true}, {"latency_seconds", "ms", 10, true},
		{"latency_milliseconds", "ms", 10_000, false}, {"latency_seconds_bucket", "s", 10, false}, {"latency", "s", 10_000, false},
		{"latency_milliseconds", "s", 10, false}, {"latency_seconds", "ms", 60_000, false}, {"items", "ms", 5, false},
	} {
		if err := UnitError(c.name, c.unit, c.largest); (err != nil) != c.wrong {
			t.Errorf("%s in %q up to %v: got %v, want an error: %t", c.name, c.unit, c.largest, err, c.wrong)
		}
	}
}

// An interval ends where the last of the live series is. Who has ended, or is
// behind for longer than is usual, is not waited for.
func TestReach(t *testing.T) {
	const step = 1000
	at := func(name string, last int) *Series {
		values := make([]float64, last)
		return make1("r", "instance="+name, values...)
	}
	ended := at("ended", 3)
	ended.Ended = true
	for name, c := range map[string]struct {
		all      []*Series
		at, head int64
		late     int
	}{
		"all together":                 {[]*Series{at("a", 20), at("b", 20)}, 20_000, 20_000, 0},
		"one is a phase behind":        {[]*Series{at("a", 20), shifted(at("b", 19), 100)}, 19_100, 20_000, 0},
		"one is late":                  {[]*Series{at("a", 20), at("b", 18)}, 18_000, 20_000, 1},
		"one is later than it ever is": {[]*Series{at("a", 20), at("b", 9)}, 20_000, 20_000, 1},
		"one has ended":                {[]*Series{at("a", 20), ended}, 20_000, 20_000, 0},
		"all are late":                 {[]*Series{at("a", 5), at("b", 5)}, 5_000, 5_000, 0},
		"all have ended":               {[]*Series{ended}, 0, 3_000, 0},
		"nothing":                      {nil, 0, 0, 0},
	} {
		r := Reach(c.all, Horizon{To: 30_000, Step: step, Patience: 5 * step})
		if want := c.at != c.head && c.at > 0; (r.Second > 0) != want || want && (r.Second < r.At || r.Second >= r.Head) {
			t.Errorf("%s: got a second of %d, want one between %d and %d: %v", name, r.Second, r.At, r.Head, want)
		}
		if r.At != c.at || r.Head != c.head || len(r.Late) != c.late {
			t.Errorf("%s: got %d of %d, %d late, want %d of %d, %d late", name, r.At, r.Head, len(r.Late), c.at, c.head, c.late)
		}
	}
}

// What was counted up to an older instant counts on from there: nothing is lost
// and nothing twice.
func TestCountedLate(t *testing.T) {
	late := make1("r", "instance=b", 5, 6, 8, 9, 13)
	late.Counted = 2000
	born := make1("r", "code=503,instance=a", none, 3, 4, 4, 6)
	born.Counted = Uncounted
	all := []*Series{make1("r", "instance=a", 10, 20, 30, 40, 50), late, born}
	Align(all, identity)
	got, err := Counts(all, nil, Extraction{From: 4000, To: 5000, Gap: 60_000, Stale: 2000})
	if err != nil || got.N != 10+(13-6)+6 {
		t.Errorf("got %+v, %v, want n=%d", got, err, 10+7+6)
	}
}
