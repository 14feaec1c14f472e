package blackbox

import (
	"strings"
	"testing"

	"github.com/belayd/belay/rollout"
)

// The Monday after: a release was promoted and is wrong all the same. An operator takes
// it back at once, nobody else can, and it does not come again unasked.
func TestUndo(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	roles := map[string]string{"viewer": "view", "ci": "start", "sre": "operate"}
	w := newWorld(t, e, tokens(roles), policy("recs", "recs", "", `[{weight: 50%, bake: 1s}, {weight: 100%, bake: 1s}]`))
	for actor := range roles {
		w.write("token-"+actor, tokenOf(actor)+"\n")
	}
	first := strings.TrimSpace(w.want(0, "ci", "start", "--policy", "recs", "--candidate", "green", "--version", "1", "--output", "name"))
	if out := w.want(1, "sre", "undo", first, "--reason", "too soon"); !strings.Contains(out, "belay rollback "+first) {
		t.Errorf("undo of one under way: got %s, want rollback named", out)
	}
	w.want(0, "ci", "watch", first)
	if out := w.want(1, "sre", "rollback", first, "--reason", "orders are missing"); !strings.Contains(out, "belay undo "+first) {
		t.Errorf("rollback of a promoted one: got %s, want undo named", out)
	}
	w.want(4, "ci", "undo", first, "--reason", "orders are missing")
	w.want(2, "sre", "undo", first)
	undo := []string{"undo", first, "--reason", "orders are missing", "--now", "--idempotency-key", "k", "--output", "name"}
	second := strings.TrimSpace(w.want(0, "sre", undo...))
	w.want(0, "viewer", "watch", second)
	if got := w.rollout(second); e.green("recs") != 0 || got.Candidate != "blue" || got.Undoes != first || got.Phase != rollout.PhasePromoted {
		t.Errorf("undone: got %s %s undoing %q with %d%% for green, want blue promoted with all traffic", got.Candidate, got.Phase, got.Undoes, e.green("recs"))
	}
	if again := strings.TrimSpace(w.want(0, "sre", undo...)); again != second {
		t.Errorf("undo again with the same key: got %s, want %s", again, second)
	}
	for _, want := range []string{"to undo " + first, "orders are missing", "sre"} {
		if out := w.want(0, "viewer", "history", second); !strings.Contains(out, want) {
			t.Errorf("history: %q is missing in %s", want, out)
		}
	}
	if out := w.want(1, "sre", "undo", first, "--reason", "again"); !strings.Contains(out, "something else has changed it") {
		t.Errorf("undo of what is undone: got %s", out)
	}
	// The version that was undone is in its cooldown, for its retry too.
	if out := w.want(9, "ci", "retry", first, "--wait"); !strings.Contains(out, "cooldown") {
		t.Errorf("retry of what was undone: got %s, want its cooldown", out)
	}
	w.want(0, "sre", "cooldown", "clear", "recs", "--reason", "its cause is mended")
	if out := w.want(0, "ci", "retry", first, "--wait"); !strings.Contains(out, "again after "+first) || e.green("recs") != 100 {
		t.Errorf("retry: got %s with %d%% for green", out, e.green("recs"))
	}
	// Under the policy's own ladder, and with the reason and a reversed split.
	third := strings.Fields(w.want(0, "ci", "list", "--phase", "promoted", "--output", "name"))[0]
	if out := w.want(0, "sre", "undo", third, "--reason", "slower on Mondays", "--wait"); e.green("recs") != 0 || !strings.Contains(out, "blue is at 50%") && !strings.Contains(out, "blue 50") {
		t.Errorf("undo by the ladder: got %s with %d%% for green", out, e.green("recs"))
	}
	w.want(0, "viewer", "audit", "verify", second)
}
