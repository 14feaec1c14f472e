package analysis

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A source may call deployments by other names than the router, by their role or by
// the version that runs.
func TestWhatTheSourceCallsDeployments(t *testing.T) {
	q := Query{
		Metric: Metric{Roles: map[string]string{"candidate": "canary"}, Deployments: map[string]string{"blue": "recs-7f9"}},
		Names:  Names{Endpoint: "recs", Stable: "blue", Candidate: "green", CandidateVersion: "v2"},
	}.Named()
	want := []map[string]string{
		{"endpoint": "recs", "stable": "recs-7f9", "candidate": "green", "deployment": "recs-7f9", "role": "stable"},
		{"endpoint": "recs", "stable": "recs-7f9", "candidate": "green", "deployment": "green", "role": "canary", "version": "v2"},
	}
	if d := cmp.Diff(want, []map[string]string{q.Vars(q.Names.Stable), q.Vars(q.Names.Candidate)}); d != "" {
		t.Errorf("substitutions (-want +got):\n%s", d)
	}
}
