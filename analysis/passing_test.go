package analysis

import "testing"

// Where neither deployment fails at all there is nothing to compare: the absolute part of
// what a pass excludes lets the step end, and the planner knows.
func TestPassWithoutFailures(t *testing.T) {
	for _, floor := range []float64{0, 0.01} {
		p := errorsPanel(atMost12x, 2)
		p.Guardrails[0].PassFloor = floor
		var e Evidence
		var v Verdicts
		n := 0
		for n < 120 && !v.MayEnd {
			n++
			e, v = Judge(p, e, moment(n), []Reading{counted(n, 40, 0, 760, 0)})
		}
		if v.MayEnd != (floor > 0) {
			t.Errorf("floor %v: got mayEnd %v after %d intervals: %s", floor, v.MayEnd, n, v.Each[0].Sentence)
		}
		roundTrip(t, e)
	}
}

// A limit with a floor is broken only above it, however many times stable's figure that is.
func TestFloorOfRelativeLimit(t *testing.T) {
	for _, c := range []struct {
		bad    float64
		breach bool
	}{{0.006, false}, {0.04, true}} {
		p := errorsPanel(Limit{Relative: true, Value: 1.2, Floor: 0.01, Text: "<= 1.2x stable or 1%"}, 2)
		var e Evidence
		var v Verdicts
		for n := 1; n <= 40 && len(v.Breaches) == 0; n++ {
			e, v = Judge(p, e, moment(n), []Reading{counted(n, 1000, 1000*c.bad, 19000, 19)})
		}
		if got := len(v.Breaches) > 0; got != c.breach {
			t.Errorf("%v of requests fail: got breach %v, want %v: %s", c.bad, got, c.breach, v.Each[0].Sentence)
		}
	}
}

// Small steps exclude what does as much harm there, and none asks for less than its detect.
func TestPassing(t *testing.T) {
	p := errorsPanel(atMost12x, 2)
	g := &p.Guardrails[0]
	before := 0.0
	for _, weight := range []float64{100, 25, 10, 5, 1} {
		got := g.passing(weight).Detect
		if got < g.Detect || got < before || weight >= evenWeight && got != g.Detect {
			t.Errorf("at %v%%: got detect %v, want no less than at greater weights", weight, got)
		}
		before = got
	}
	g.Limit, g.Detect = Limit{Relative: true, AtLeast: true, Value: 0.98}, 0.95
	if got := g.passing(5).Detect; got >= 0.95 || got <= 0.5 {
		t.Errorf("at least 0.98x: got detect %v at 5%%, want below 0.95", got)
	}
	g.Limit, g.Detect = Limit{Value: 0.4}, 0.8
	if got := g.passing(1).Detect; got <= 0.8 || got >= 1 {
		t.Errorf("at most 40%%: got detect %v at 1%%, want between 0.8 and 1", got)
	}
}

// At 100% there is no stable to compare with: a breach before the step has passed is the
// release's, one after it holds, and ten times the limit rolls back in any case.
func TestAllOfTheTraffic(t *testing.T) {
	for _, c := range []struct {
		name  string
		clean int
		bad   float64
		cause Cause
		to    Action
	}{
		{"before it passed", 0, 150, CauseCandidate, ActionRollback},
		{"after it passed", 40, 150, CauseShared, ActionHold},
		{"after it passed, ten times the limit", 40, 800, CauseCandidate, ActionRollback},
	} {
		p := errorsPanel(atMost1, 0.02)
		var e Evidence
		var v Verdicts
		for n := 1; n <= c.clean+20 && len(v.Breaches) == 0; n++ {
			at, bad := moment(n), c.bad
			at.StableWeight, at.CandidateWeight = 0, 100
			if n <= c.clean {
				bad = 5
			}
			x := counted(n, 5000, bad, 0, 0)
			x.Stable = Sample{}
			e, v = Judge(p, e, at, []Reading{x})
		}
		if len(v.Breaches) != 1 || v.Breaches[0].Cause != c.cause || v.Breaches[0].Action != c.to {
			t.Errorf("%s: got %+v, want %s for %s", c.name, v.Breaches, c.to, c.cause)
		}
	}
}

// Evidence that the whole step could never bring is not asked for where the step has an
// end; a regression as bad as detect does not pass by it.
func TestPassBeforeTheEnd(t *testing.T) {
	atLeast := Limit{Relative: true, AtLeast: true, Value: 0.98, Text: ">= 0.98x stable"}
	for _, c := range []struct {
		watched float64
		ends    bool
		want    bool
	}{{0.6, true, true}, {0.6, false, false}, {0.57, true, false}} {
		p := errorsPanel(atLeast, 0.95)
		var e Evidence
		var v Verdicts
		n := 0
		for n < 360 && !v.MayEnd {
			n++
			at := moment(n)
			at.CandidateWeight, at.StableWeight = 95, 5
			if c.ends {
				at.Until = moment(360).At
			}
			e, v = Judge(p, e, at, []Reading{counted(n, 114, 114*c.watched, 6, 3.6)})
		}
		if v.MayEnd != c.want {
			t.Errorf("%v watched, ends %v: got mayEnd %v after %d intervals, want %v: %s", c.watched, c.ends, v.MayEnd, n, c.want, v.Each[0].Sentence)
		}
		roundTrip(t, e)
	}
}
