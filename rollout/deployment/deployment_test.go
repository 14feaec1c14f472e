package deployment_test

import (
	"testing"

	"github.com/belayd/belay/rollout/deployment"
)

// TestSameVersion: a router and a release mean one version in whatever common spelling.
func TestSameVersion(t *testing.T) {
	for _, c := range []struct {
		told, released string
		same           bool
	}{
		{"v3", "v3", true}, {"3", "v3", true}, {"v3", "3", true}, {"V3", "v3", true}, {" v3 ", "v3", true},
		{"ranker:17", "17", true}, {"ranker:17", "v17", true}, {"ranker:17", "ranker:17", true}, {"registry:5000/ranker:17", "17", true},
		{"v4", "v3", false}, {"ranker:17", "7", false}, {"ranker:17", "ranker:18", false}, {"17", "ranker:18", false}, {"2026.11.2", "2026.11.20", false},
	} {
		if got := deployment.SameVersion(c.told, c.released); got != c.same {
			t.Errorf("told %q, released %q: got %v, want %v", c.told, c.released, got, c.same)
		}
	}
}
