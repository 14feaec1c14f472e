package analysis

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// Evidence of whatever age adds up to a mass of one: over steps and restarts
// every interval no more than the whole weight is ever started.
func TestSegmentsSumToOne(t *testing.T) {
	p := errorsPanel(atMost1, 0.02)
	p.Guardrails[0].Steps = []int{0, 1, 2, 3}
	var e Evidence
	n := 0
	for step := range 4 {
		start := moment(n).At
		for range 60 * 4 * 5 {
			n++
			at := moment(n)
			at.Step, at.StepStart = step, start
			e, _ = Judge(p, e, at, []Reading{counted(n, 20, 0, 380, 0)})
		}
		s := e.Standings[0]
		if s.Restarts != 1199 {
			t.Errorf("step %d: got %d restarts in five hours, want 1199", step, s.Restarts)
		}
		if s.Breach.Started > 1 || step == 3 && s.Breach.Started < 0.98 {
			t.Errorf("step %d: got a mass of %v started, want at most 1 and nearly all in the end", step, s.Breach.Started)
		}
	}
}

// What is learnt of stable alone is used from the next interval on, and is no
// evidence.
func TestLearn(t *testing.T) {
	p := errorsPanel(atMost12x, 2)
	var rs []Reading
	for i := -40; i < 0; i++ {
		x := counted(i, 0, 0, 4000, 20)
		x.Candidate = Sample{}
		for j := range 8 {
			x.Stable.Instances = append(x.Stable.Instances, Instance{Name: fmt.Sprint(j), Sample: Sample{Fresh: true, N: 500, K: float64(2 + (i+j)&1)}})
		}
		rs = append(rs, x)
	}
	e := Evidence{}.clone(len(p.Guardrails))
	for i := range rs {
		e.teach(&p, &rs[i])
	}
	s := e.Standings[0]
	if rate, ok := s.Pilot.Rate(); !ok || math.Abs(rate-0.005) > 1e-4 {
		t.Errorf("got a pilot of %v, want 0.5%%", rate)
	}
	if phi := s.Dispersion.Phi(); phi != 1 {
		t.Errorf("got a dispersion of %v, want 1", phi)
	}
	_, v := Judge(p, e, moment(0), nil)
	if math.Abs(v.Each[0].LogE)+math.Abs(v.Each[0].LogEPass) > 1e-12 {
		t.Errorf("got evidence %v and %v, want none", v.Each[0].LogE, v.Each[0].LogEPass)
	}
}

// The evidence of five guardrails with instances fits the store's records.
func TestEvidenceIsSmall(t *testing.T) {
	p := errorsPanel(atMost12x, 2)
	p.Metrics = append(p.Metrics, Metric{Name: "latency", Histogram: &Histogram{Series: "l", Unit: "s"}})
	absolute, quantile, tail, hold := p.Guardrails[0], p.Guardrails[0], p.Guardrails[0], p.Guardrails[0]
	absolute.Name, absolute.Limit, absolute.Detect = "absolute", atMost1, 0.02
	quantile.Name, quantile.Metric, quantile.Quantile, quantile.Limit, quantile.Detect = "p95", "latency", 0.95, Limit{Value: 0.45, Text: "<= 450ms"}, 0.1
	tail.Name, tail.Metric, tail.Quantile, tail.Limit = "tail", "latency", 0.99, Limit{Relative: true, Value: 1.2, Text: "<= 1.2x stable"}
	hold.Name, hold.OnBreach = "hold", ActionHold
	p.Guardrails = append(p.Guardrails, absolute, quantile, tail, hold)
	p.Budget = &Budget{Metric: "failures", AtMost: 500}
	r := seeded(1)
	var e Evidence
	for i := 1; i <= 40; i++ {
		x := counted(i, 0, 0, 9000, 43)
		var parts [][2]float64
		for range 12 {
			parts = append(parts, [2]float64{80 + pois(r, 5), pois(r, 0.5)})
		}
		x = withInstances(x, parts...)
		l := counted(i, 0, 0, 0, 0)
		l.Metric, l.Candidate, l.Stable = "latency", lognormal(r, 1000, 0.1, nativeBounds(3)), lognormal(r, 9000, 0.1, nativeBounds(3))
		e, _ = Judge(p, e, moment(i), []Reading{x, l})
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("five guardrails: %d bytes", len(b))
	if len(b) > 8192 {
		t.Errorf("got %d bytes of evidence, want at most 8192", len(b))
	}
	roundTrip(t, e)
}

// The metrics of a step are those of its guardrails and the budget's.
func TestAsked(t *testing.T) {
	p := demoPanel()
	p.Guardrails[2].Steps = []int{2, 3}
	p.Budget = &Budget{Metric: "failures"}
	p.Guardrails[0].Steps = []int{3}
	for step, want := range []string{"failures latency", "failures latency", "failures latency watched", "failures latency watched"} {
		if got := strings.Join(p.Asked(step), " "); got != want {
			t.Errorf("step %d: got %q, want %q", step, got, want)
		}
	}
}

// A guardrail that is judged from the second step on takes nothing of the first
// into its evidence, although its metric's first reading begins there.
func TestFromLaterStep(t *testing.T) {
	p := errorsPanel(atMost1, 0.02)
	p.Guardrails[0].Steps = []int{1}
	at := moment(41)
	at.Step, at.StepStart = 1, moment(40).At.Add(time.Second)
	long := counted(41, 2000, 1000, 38000, 38)
	long.From = epoch
	e, v := Judge(p, Evidence{}, at, []Reading{long})
	if v.Each[0].Outcome != OutcomeUndecided || e.Standings[0].Step.NC != 0 || e.Standings[0].Breach.LogE() > 1e-9 {
		t.Errorf("got %+v, want nothing judged", v.Each[0])
	}
	if s := e.Standings[0]; s.Pilot.N == 0 || !e.Cursor("failures").Equal(long.To) {
		t.Errorf("got pilot %+v and cursor %v, want stable's part learnt and the reading consumed", s.Pilot, e.Cursor("failures"))
	}
}

// A cursor only ever moves forward, and a step begins once.
func TestSkipAndBeginStep(t *testing.T) {
	e := Evidence{}.Skip("failures", epoch.Add(time.Hour))
	if same := e.Skip("failures", epoch); !same.Cursor("failures").Equal(epoch.Add(time.Hour)) {
		t.Errorf("got the cursor moved back to %v", same.Cursor("failures"))
	}
	p := errorsPanel(atMost1, 0.02)
	begun := e.BeginStep(p, moment(1))
	if len(e.Standings) != 0 || begun.Standings[0].Breach.Started == 0 {
		t.Errorf("got standings %+v, want one begun in a copy", begun.Standings)
	}
	if again := begun.BeginStep(p, moment(2)); again.Standings[0].Breach != begun.Standings[0].Breach {
		t.Error("beginning the same step again changed the evidence")
	}
}

// Restarting keeps what was learnt, and begins anew with the whole weight.
func TestRestartKeepsWhatWasLearnt(t *testing.T) {
	p := meanPanel(Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}, 0.9)
	p.Guardrails[0].Steps = []int{0, 1, 2, 3}
	r := seeded(3)
	var e Evidence
	for i := 1; i <= 10; i++ {
		x := counted(i, 0, 0, 0, 0)
		x.Metric, x.Candidate, x.Stable = "revenue", spend(r, 200, 7, 0.5), spend(r, 800, 10, 0.5)
		e, _ = Judge(p, e, moment(i), []Reading{x})
	}
	fresh := e.Restart(p, ActionRollback, moment(10)).Standings[0]
	if fresh.Moments == nil || fresh.Moments.PastStable != e.Standings[0].Moments.PastStable || fresh.Moments.WaitCandidate.N != 0 {
		t.Errorf("got moments %+v, want the past kept and nothing waiting", fresh.Moments)
	}
	if math.Abs(fresh.Breach.LogE()) > 1e-12 || math.Abs(fresh.Breach.Started-0.4125) > 1e-12 {
		t.Errorf("got %+v, want fresh evidence on a ladder of four", fresh.Breach)
	}
	if other := e.Restart(p, ActionHold, moment(10)).Standings[0]; other.Breach != e.Standings[0].Breach {
		t.Error("restarting another group changed this one")
	}
}

// A person's override begins the broken guardrail's evidence anew and leaves that of the
// others; where these together are a breach as well, as many as that takes. What it spent of
// α is kept, and each new start adds that guardrail's part.
func TestOverride(t *testing.T) {
	p := errorsPanel(atMost12x, 2)
	p.Guardrails[0].Steps = []int{0, 1, 2, 3}
	for _, name := range []string{"plays", "stalls"} {
		g, m := p.Guardrails[0], p.Metrics[0]
		g.Name, g.Metric, m.Name = name, name, name
		p.Guardrails, p.Metrics = append(p.Guardrails, g), append(p.Metrics, m)
	}
	judged := func(k ...float64) (e Evidence, v Verdicts) {
		for i := 1; i <= 40 && len(v.Breaches) == 0; i++ {
			var rs []Reading
			for j := range p.Metrics {
				x := counted(i, 1000, k[j], 19000, 190)
				x.Metric = p.Metrics[j].Name
				rs = append(rs, x)
			}
			e, v = Judge(p, e, moment(i), rs)
		}
		return e, v
	}
	part := chance(p.Alpha) / 3
	e, v := judged(10, 60, 12)
	if len(v.Breaches) != 1 || v.Breaches[0].Guardrail != "plays" {
		t.Fatalf("got %+v, want plays in breach", v.Breaches)
	}
	spent := e.Spent(p)
	if spent <= 0 || spent > p.Alpha {
		t.Errorf("got %v spent of %v", spent, p.Alpha)
	}
	after := e.Override(p, ActionRollback, "plays", moment(40))
	for i, want := range []bool{false, true, false} {
		if got := after.Standings[i].Breach != e.Standings[i].Breach; got != want {
			t.Errorf("%s: got begun anew %t, want %t", p.Guardrails[i].Name, got, want)
		}
	}
	if more := after.Spent(p) - spent; more <= 0 || more > part {
		t.Errorf("got %v spent by the override, want a part of %v at most", more, part)
	}
	if _, v := Judge(p, after, moment(40), nil); len(v.Breaches) != 0 {
		t.Errorf("after it: got %+v, want no breach", v.Breaches)
	}
	// Two that are broken as much: to override the one without the other would be to
	// be asked again at once.
	e, v = judged(10, 60, 60)
	after = e.Override(p, ActionRollback, v.Breaches[0].Guardrail, moment(40))
	if after.Standings[0].Breach != e.Standings[0].Breach || after.Standings[1].Breach == e.Standings[1].Breach || after.Standings[2].Breach == e.Standings[2].Breach {
		t.Error("two that are broken: want both begun anew, and failures not")
	}
	// Overridden again and again, every start is counted.
	again := after
	for range 10 {
		again = again.Override(p, ActionRollback, "plays", moment(40))
	}
	if more := again.Spent(p) - after.Spent(p); math.Abs(more-10*part*after.Standings[1].Breach.Started) > 1e-12 {
		t.Errorf("got %v spent by ten overrides, want ten starts of %v", more, after.Standings[1].Breach.Started)
	}
	// Nobody knows which it was, and nothing is a breach any more: the greatest begins anew.
	if e, _ = judged(10, 14, 10); e.Override(p, ActionRollback, "", moment(40)).Standings[1].Breach == e.Standings[1].Breach {
		t.Error("without a name: want the greatest begun anew")
	}
}
