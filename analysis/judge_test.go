package analysis

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// errorsPanel has one guardrail on failures, at most the limit.
func errorsPanel(limit Limit, detect float64) Panel {
	return Panel{
		Metrics: []Metric{{Name: "failures", Counts: &Counts{Total: "t", Bad: "b"}}},
		Guardrails: []Guardrail{{Name: "failures", Metric: "failures", Limit: limit, Detect: detect,
			OnBreach: ActionRollback, Evidence: EvidenceRequired, Test: TestSequential, Steps: []int{0, 1}}},
		Alpha: 0.01, Beta: 0.05, Steps: 2, Interval: 15 * time.Second, OnSharedBreach: ActionHold,
	}
}

var (
	atMost1   = Limit{Value: 0.01, Text: "<= 1%"}
	atMost12x = Limit{Relative: true, Value: 1.2, Text: "<= 1.2x stable"}
)

// moment is the n-th interval's end in step 0 at 5%.
func moment(n int) StepContext {
	return StepContext{At: epoch.Add(time.Duration(n) * 15 * time.Second), StepStart: epoch, StableWeight: 95, CandidateWeight: 5, Serving: true}
}

// counted is the n-th interval's reading of failures.
func counted(n int, nc, kc, nb, kb float64) Reading {
	return Reading{Metric: "failures", Status: StatusOK,
		From: epoch.Add(time.Duration(n-1) * 15 * time.Second), To: epoch.Add(time.Duration(n) * 15 * time.Second),
		Candidate: Sample{Fresh: true, N: nc, K: kc}, Stable: Sample{Fresh: true, N: nb, K: kb}}
}

// Each reading by itself, and what the judge makes of it.
func TestJudgeOutcomes(t *testing.T) {
	edit := func(f func(*Reading)) Reading {
		r := counted(1, 100, 0, 1900, 2)
		f(&r)
		return r
	}
	settling, full, idle := moment(1), moment(1), moment(1)
	settling.Settling = true
	full.StableWeight, full.CandidateWeight = 0, 100
	idle.Serving = false
	relative := errorsPanel(atMost12x, 2)
	absolute := errorsPanel(atMost1, 0.02)
	for _, c := range []struct {
		name    string
		panel   Panel
		at      StepContext
		reading Reading
		want    Outcome
		read    bool
		cause   Cause
	}{
		{"a little is not enough", absolute, moment(1), counted(1, 100, 0, 1900, 2), OutcomeUndecided, true, ""},
		{"many good requests pass", absolute, moment(1), counted(1, 5000, 5, 95000, 90), OutcomePass, true, ""},
		{"not while settling", absolute, settling, counted(1, 5000, 5, 95000, 90), OutcomeUndecided, true, ""},
		{"nothing happened", absolute, moment(1), counted(1, 0, 0, 0, 0), OutcomeUndecided, true, ""},
		{"relative, many good requests", relative, moment(1), counted(1, 50000, 50, 95000, 95), OutcomePass, true, ""},
		{"relative rests at 100%", relative, full, counted(1, 50000, 50, 0, 0), OutcomeResting, false, ""},
		{"absolute goes on at 100%", absolute, full, counted(1, 5000, 5, 0, 0), OutcomePass, true, ""},
		{"the candidate is missing", absolute, moment(1), edit(func(r *Reading) { r.Candidate = Sample{} }), OutcomeNoData, false, ""},
		{"missing while idle", absolute, idle, edit(func(r *Reading) { r.Candidate = Sample{} }), OutcomeUndecided, false, ""},
		{"stable is missing", relative, moment(1), edit(func(r *Reading) { r.Stable = Sample{} }), OutcomeError, false, ""},
		{"the source failed", absolute, moment(1), edit(func(r *Reading) { r.Status = StatusError; r.Reason = "timed out" }), OutcomeError, false, ""},
		{"NaN", absolute, moment(1), edit(func(r *Reading) { r.Candidate.K = math.NaN() }), OutcomeError, false, ""},
		{"infinite", absolute, moment(1), edit(func(r *Reading) { r.Candidate.N = math.Inf(1) }), OutcomeError, false, ""},
		{"negative", absolute, moment(1), edit(func(r *Reading) { r.Stable.N = -1 }), OutcomeError, false, ""},
		{"more bad than all", absolute, moment(1), edit(func(r *Reading) { r.Candidate.K = 300 }), OutcomeError, false, ""},
		{"a few more bad than all", absolute, moment(1), edit(func(r *Reading) { r.Candidate.N, r.Candidate.K = 2, 3 }), OutcomeUndecided, true, ""},
		{"nothing new", absolute, moment(1), edit(func(r *Reading) { r.To = r.From }), OutcomeUndecided, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, v := Judge(c.panel, Evidence{}, c.at, []Reading{c.reading})
			got := v.Each[0]
			if got.Outcome != c.want || got.Read != c.read || got.Cause != c.cause {
				t.Errorf("got %s (read %v, cause %q), want %s (read %v, cause %q): %s", got.Outcome, got.Read, got.Cause, c.want, c.read, c.cause, got.Sentence)
			}
			if got.Sentence == "" {
				t.Error("got no sentence")
			}
			if consumed := !e.Cursor("failures").IsZero(); c.read && !consumed {
				t.Error("got no cursor after a usable reading")
			}
			roundTrip(t, e)
		})
	}
}

// roundTrip fails unless the evidence survives JSON exactly.
func roundTrip(t *testing.T, e Evidence) {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatalf("marshal evidence: %v", err)
	}
	var back Evidence
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatalf("unmarshal evidence: %v", err)
	}
	again, err := json.Marshal(back)
	if err != nil {
		t.Fatalf("marshal evidence again: %v", err)
	}
	if diff := cmp.Diff(string(b), string(again)); diff != "" {
		t.Errorf("evidence changed in JSON (-first +second):\n%s", diff)
	}
}

// The same interval is never counted twice, and the evidence given to Judge
// stays as it was.
func TestJudgeCountsOnce(t *testing.T) {
	p := errorsPanel(atMost1, 0.02)
	r := counted(1, 1000, 30, 19000, 20)
	e1, _ := Judge(p, Evidence{}, moment(1), []Reading{r})
	before, _ := json.Marshal(e1)
	e2, v := Judge(p, e1, moment(2), []Reading{r})
	if !reflect.DeepEqual(e1.Standings, e2.Standings) {
		t.Errorf("the second time: got other evidence (-first +second):\n%s", cmp.Diff(e1, e2))
	}
	if v.Each[0].Read {
		t.Error("the second time: got read, want not read")
	}
	Judge(p, e1, moment(2), []Reading{counted(2, 1000, 30, 19000, 20)})
	if after, _ := json.Marshal(e1); string(after) != string(before) {
		t.Errorf("Judge changed the evidence it was given: got %s, want %s", after, before)
	}
}

// A failing release is rolled back; when stable fails just as much, it is held
// instead, unless the policy says otherwise.
func TestJudgeBreach(t *testing.T) {
	for _, c := range []struct {
		name     string
		kb       float64
		onShared Action
		want     Breach
	}{
		{"the candidate's own", 19, ActionHold, Breach{Action: ActionRollback, Cause: CauseCandidate}},
		{"shared", 1500, ActionHold, Breach{Action: ActionHold, Cause: CauseShared}},
		{"shared, but roll back", 1500, ActionRollback, Breach{Action: ActionRollback, Cause: CauseShared}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := errorsPanel(atMost1, 0.02)
			p.OnSharedBreach = c.onShared
			var e Evidence
			var v Verdicts
			n := 0
			for len(v.Breaches) == 0 && n < 20 {
				n++
				e, v = Judge(p, e, moment(n), []Reading{counted(n, 1000, 80, 19000, c.kb)})
			}
			if n != 2 {
				t.Errorf("got a decision after %d intervals, want 2", n)
			}
			got := v.Breaches[0]
			if got.Sentence == "" || v.Each[0].Outcome != OutcomeBreach || v.MayEnd {
				t.Errorf("got %+v with %+v, want a breach that is explained", v, got)
			}
			got.Sentence = ""
			c.want.Group, c.want.Guardrail = ActionRollback, "failures"
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			after := e.Restart(p, ActionRollback, moment(n))
			_, v = Judge(p, after, moment(n), nil)
			if len(v.Breaches) != 0 || math.Abs(v.Each[0].LogE) > 1e-9 {
				t.Errorf("after a restart: got breaches %v with log evidence %v, want none with 0", v.Breaches, v.Each[0].LogE)
			}
		})
	}
}

// No data and errors last until a reading is usable again, whatever is not
// asked in between; a pass survives them.
func TestJudgeTroubleLasts(t *testing.T) {
	p := errorsPanel(atMost1, 0.02)
	e, v := Judge(p, Evidence{}, moment(1), []Reading{counted(1, 5000, 5, 95000, 90)})
	if !v.MayEnd || !v.Watched {
		t.Fatalf("got %+v, want a step that may end", v)
	}
	gone := counted(2, 0, 0, 95000, 90)
	gone.Candidate = Sample{}
	e, v = Judge(p, e, moment(2), []Reading{gone})
	if v.Sights[0].Trouble != OutcomeNoData || v.MayEnd || v.Watched {
		t.Errorf("got %+v, want no data", v)
	}
	e, v = Judge(p, e, moment(3), nil)
	if v.Sights[0].Trouble != OutcomeNoData || v.Each[0].Outcome != OutcomeNoData {
		t.Errorf("without a reading: got %+v, want no data still", v)
	}
	back := counted(4, 5000, 5, 95000, 90)
	back.From = counted(2, 0, 0, 0, 0).From
	_, v = Judge(p, e, moment(4), []Reading{back})
	if v.Sights[0].Trouble != "" || !v.MayEnd || v.Each[0].Outcome != OutcomePass {
		t.Errorf("when the readings are back: got %+v, want a pass", v)
	}
}

// The next step asks for its own evidence.
func TestJudgeStepsStartAfresh(t *testing.T) {
	p := errorsPanel(atMost1, 0.02)
	e, _ := Judge(p, Evidence{}, moment(1), []Reading{counted(1, 5000, 5, 95000, 90)})
	next := moment(2)
	next.Step, next.StepStart = 1, moment(1).At
	_, v := Judge(p, e, next, []Reading{counted(2, 100, 0, 100, 0)})
	if v.Each[0].Outcome != OutcomeUndecided || v.MayEnd {
		t.Errorf("got %+v, want undecided", v.Each[0])
	}
	if v.Each[0].Candidate.N != 100 {
		t.Errorf("got an estimate of %v requests, want the step's 100", v.Each[0].Candidate.N)
	}
}
