package analysis

import (
	"fmt"
	"testing"
)

// TestPassDoesNotOutliveTheNews: a candidate that was clean for ten minutes and
// then fails everything no longer passes from the first bad interval on, lets no
// step end, and is a breach within four.
func TestPassDoesNotOutliveTheNews(t *testing.T) {
	for _, limit := range []Limit{atMost1, atMost12x} {
		for begins := 41; begins <= 48; begins++ {
			t.Run(fmt.Sprintf("%s/%d", limit.Text, begins), func(t *testing.T) {
				detect := 0.02
				if limit.Relative {
					detect = 2
				}
				p := errorsPanel(limit, detect)
				var e Evidence
				start := moment(0).At
				for n := 1; ; n++ {
					bad := 5.0
					if n >= begins {
						bad = 5000
					}
					at := moment(n)
					at.StepStart = start
					var vs Verdicts
					e, vs = Judge(p, e, at, []Reading{counted(n, 5000, bad, 5000, 5)})
					if n == begins-1 && vs.Each[0].Outcome != OutcomePass {
						t.Fatalf("before the failures: got %s, want pass", vs.Each[0].Outcome)
					}
					if n < begins {
						continue
					}
					if vs.MayEnd || vs.Each[0].Outcome == OutcomePass {
						t.Errorf("bad interval %d: got %s, mayEnd %v: %s", n-begins+1, vs.Each[0].Outcome, vs.MayEnd, vs.Each[0].Sentence)
					}
					if len(vs.Breaches) > 0 {
						if took := n - begins + 1; took > 4 {
							t.Errorf("a breach after %d bad intervals, want at most 4", took)
						}
						return
					}
					if n > begins+20 {
						t.Fatal("no breach in twenty bad intervals")
					}
				}
			})
		}
	}
}
