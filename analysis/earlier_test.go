package analysis

import (
	"encoding/json"
	"os"
	"testing"
)

// The evidence in testdata was stored by a version with fewer effects that knew neither
// Worse nor Apart. It goes on from what it has: a release that turns bad is rolled back as
// soon as one that began now, and what is common to stable is none of the release's doing.
func TestEarlierEvidence(t *testing.T) {
	text, err := os.ReadFile("testdata/earlier-evidence.json")
	if err != nil {
		t.Fatal(err)
	}
	p := errorsPanel(atMost1, 0.02)
	relative := p.Guardrails[0]
	relative.Name, relative.Limit, relative.Detect = "relative", atMost12x, 2
	p.Guardrails = append(p.Guardrails, relative)
	p.Budget = &Budget{Metric: "failures", AtMost: 5000}
	for _, c := range []struct {
		name      string
		cand, all float64 // failures of each instance's 300 and of stable's 16,000
		breach    bool
		action    Action
		cause     Cause
	}{
		{"as before", 1, 80, false, "", ""},
		{"the candidate's own", 40, 80, true, ActionRollback, CauseCandidate},
		{"shared", 40, 2100, true, ActionHold, CauseShared},
	} {
		var e Evidence
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatal(err)
		}
		before := e.Standings[0].Breach.LogE()
		var v Verdicts
		n := 13
		for ; n <= 17 && len(v.Breaches) == 0; n++ {
			x := withInstances(counted(n, 0, 0, 16000, c.all), [2]float64{300, c.cand}, [2]float64{300, c.cand}, [2]float64{300, c.cand})
			e, v = Judge(p, e, moment(n), []Reading{x})
		}
		if (len(v.Breaches) == 1) != c.breach {
			t.Fatalf("%s: got breaches %+v from %v on, want %v", c.name, v.Breaches, before, c.breach)
		}
		if c.breach && (v.Breaches[0].Action != c.action || v.Breaches[0].Cause != c.cause) {
			t.Errorf("%s: got %+v, want %s for %s", c.name, v.Breaches[0], c.action, c.cause)
		}
		roundTrip(t, e)
	}
}
