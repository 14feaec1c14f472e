package blackbox

import (
	"strings"
	"syscall"
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/realtest"
)

// A day of a rollout as people and scripts live it, with nothing but the two
// programs: started, paused, killed in the middle, approved by the right person,
// promoted; the next one rolled back by hand, its version cooling down.
func TestPeople(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	steps := `[{weight: 5%, bake: 3s}, {weight: 50%, bake: 2s, requires: [owner]}, {weight: 100%, bake: 2s}]`
	approvals := "  approvals:\n    - {name: owner, from: {users: [ann]}, quorum: 1, notBy: [requester], expires: 10m, onExpiry: hold}\n"
	roles := map[string]string{"viewer": "view", "ci": "start", "ann": "approve", "bob": "approve", "sre": "operate"}
	w := newWorld(t, e, tokens(roles), policy("recs", "recs", approvals, steps))
	for actor := range roles {
		w.write("token-"+actor, tokenOf(actor)+"\n")
	}

	w.want(4, "", "list")
	w.want(4, "viewer", "start", "--policy", "recs", "--candidate", "green", "--version", "1")
	w.want(1, "ci", "start", "--policy", "nobody", "--candidate", "green", "--version", "1")
	start := []string{"start", "--policy", "recs", "--candidate", "green", "--version", "1", "--idempotency-key", "k1", "--output", "name"}
	id := strings.TrimSpace(w.want(0, "ci", start...))
	if again := strings.TrimSpace(w.want(0, "ci", start...)); again != id {
		t.Errorf("start again with the same key: got %s, want %s", again, id)
	}
	realtest.Eventually(t, "the candidate to have 5%", func() bool { return e.green("recs") == 5 })
	w.want(4, "viewer", "pause", id, "--reason", "lunch")
	w.want(0, "sre", "pause", id, "--reason", "lunch")
	if got := w.rollout(id); got.Phase != rollout.PhasePaused {
		t.Errorf("after pause: got %s", got.Phase)
	}
	w.kill(syscall.SIGKILL)
	w.want(1, "viewer", "status", id)
	w.start()
	if got := w.rollout(id); got.Phase != rollout.PhasePaused || e.green("recs") != 5 {
		t.Errorf("after kill -9: got %s with %d%%, want paused with 5%%", got.Phase, e.green("recs"))
	}
	w.want(0, "sre", "resume", id, "--reason", "back")
	realtest.Eventually(t, "the gate to be asked", func() bool { return w.rollout(id).Phase == rollout.PhaseWaiting })
	w.want(4, "bob", "approve", id)
	w.want(4, "sre", "approve", id)
	if e.green("recs") != 5 {
		t.Fatalf("before the approval the candidate has %d%%", e.green("recs"))
	}
	w.want(0, "ann", "approve", id, "--gate", "owner", "--reason", "looks good")
	if out := w.want(0, "viewer", "watch", id); !strings.Contains(out, "promoted") {
		t.Errorf("watch: got %s", out)
	}
	if e.green("recs") != 100 {
		t.Errorf("promoted with %d%%", e.green("recs"))
	}
	for _, want := range []string{"ann", "looks good", "lunch"} {
		if out := w.want(0, "viewer", "history", id); !strings.Contains(out, want) {
			t.Errorf("history: %q is missing in %s", want, out)
		}
	}

	next := strings.TrimSpace(w.want(0, "ci", "start", "--policy", "recs", "--candidate", "blue", "--version", "2", "--output", "name"))
	realtest.Eventually(t, "the next candidate to have 5%", func() bool { return e.green("recs") == 95 })
	w.want(0, "ci", "rollback", next, "--reason", "wrong build")
	w.want(6, "viewer", "watch", next)
	if e.green("recs") != 100 {
		t.Errorf("rolled back with %d%%", e.green("recs"))
	}
	if out := w.want(0, "viewer", "explain", next); !strings.Contains(out, "wrong build") {
		t.Errorf("explain: got %s, want the reason", out)
	}
	again := []string{"start", "--policy", "recs", "--candidate", "blue", "--version", "2", "--wait"}
	if out := w.want(9, "ci", again...); !strings.Contains(out, "cool") {
		t.Errorf("a version that cools down: got %s", out)
	}
	w.want(4, "ci", "cooldown", "clear", "edge/recs", "--version", "2", "--reason", "its cause is mended")
	w.want(0, "sre", "cooldown", "clear", "edge/recs", "--version", "2", "--reason", "its cause is mended")
	w.want(7, "ci", append(again, "--timeout", "3s")...)
	for _, x := range []string{id, next} {
		w.want(0, "viewer", "replay", x)
	}
	w.want(0, "viewer", "audit", "verify")
	w.want(0, "viewer", "endpoint", "show", "recs")
	w.kill(syscall.SIGTERM)
	w.want(0, "", "audit", "verify", "--store", w.dir+"/belay.db")
	if strings.Contains(w.logs.String(), "token-of-") {
		t.Error("the log shows a token")
	}
}
