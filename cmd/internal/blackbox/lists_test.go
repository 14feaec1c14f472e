package blackbox

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/realtest"
)

// What an SRE's fleet page shows: one version was rolled back, and its pipeline asks
// for it again and again, in a crowd, within the cooldown. The list says of every
// rollout what its journal says, and shows none as open that has ended.
func TestListsAreTrue(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	w := newWorld(t, e, "", policy("recs", "recs", "", "[{weight: 5%, bake: 1h}, {weight: 100%, bake: 1h}]"))
	first := strings.TrimSpace(w.want(0, "", "start", "--policy", "recs", "--candidate", "green", "--version", "9", "--output", "name"))
	realtest.Eventually(t, "green to have 5%", func() bool { return e.green("recs") == 5 })
	w.want(0, "", "rollback", first, "--reason", "a hunch")
	w.want(6, "", "watch", first)

	var crowd sync.WaitGroup
	for worker := range 8 {
		crowd.Go(func() {
			for i := range 10 {
				if code, out := w.run("", "start", "--policy", "recs", "--candidate", "green", "--version", "9", "--idempotency-key", fmt.Sprintf("%d-%d", worker, i)); code != 0 {
					t.Errorf("start: got exit code %d: %s", code, out)
				}
			}
		})
	}
	crowd.Wait()
	realtest.Eventually(t, "the list to show nothing open", func() bool { return w.want(0, "", "list", "--phase", "open", "--limit", "0", "--output", "name") == "" })
	var l api.List
	if out := w.want(0, "", "list", "--limit", "0", "--output", "json"); json.Unmarshal([]byte(out), &l) != nil || len(l.Rollouts) != 81 {
		t.Fatalf("list: got %d rollouts, want 81", len(l.Rollouts))
	}
	for _, r := range l.Rollouts[:20] {
		if ps := phases(w, r.ID); len(ps) == 0 || ps[len(ps)-1].To != r.Phase {
			t.Errorf("%s: the list says %s, its journal %v", r.ID, r.Phase, ps)
		}
	}
}
