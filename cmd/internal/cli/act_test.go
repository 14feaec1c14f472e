package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/view"
)

// held is a rollout that a guardrail without enough evidence holds.
func held() view.Rollout {
	r := baking()
	r.Phase, r.Reason, r.WaitingFor = rollout.PhaseHeld, decision.ReasonUndecided, "a person"
	r.Sentence = "The evidence is still not enough after 5m0s more: p95 is undecided."
	r.ManualRollback = `curl -X PUT http://127.0.0.1:1234/endpoints/recs -d '{"weights":{"blue":100}}'`
	return r
}

// An order that was taken and yet leaves the rollout where it is says so: promote
// at a gate, extend in a hold. The others, and those that lead somewhere, do not.
func TestActsSayWhatIsLeft(t *testing.T) {
	at := func(p rollout.Phase, waits string) view.Rollout {
		r := baking()
		r.Phase, r.WaitingFor = p, waits
		return r
	}
	const until = "approval product-owner until 2026-11-24T11:00:00Z"
	for _, c := range []struct {
		verb string
		r    view.Rollout
		want string
	}{
		{"promote", at(rollout.PhaseWaiting, until), "opens no approval and no window; the rollout still waits for approval product-owner until 11:00:00 (in 59m30s)"},
		{"promote", at(rollout.PhaseWaiting, "a change window"), "still waits for a change window"},
		{"promote", at(rollout.PhaseShifting, "the endpoint to show the new weights"), ""},
		{"extend", held(), "stays held: `belay resume " + held().ID + " --reason"},
		{"extend", at(rollout.PhasePaused, "a person"), "stays paused: `belay resume"},
		{"extend", at(rollout.PhaseHeld, "the readings to come back"), "stays held and waits for the readings to come back"},
		{"extend", baking(), ""},
		{"pause", at(rollout.PhasePaused, "a person"), ""},
	} {
		s := newShell(t)
		d := newFakeDaemon(t, c.r)
		args := []string{c.verb, c.r.ID, "--reason", "r", "--server", d.URL}
		if c.verb == "extend" {
			args = append(args, "--by", "5m")
		}
		s.want(exitOK, args...)
		if got := s.err.String(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s of a rollout that is %s: got %q, want %q", c.verb, c.r.Phase, got, c.want)
		}
	}
}

// A phase that there is none of is a mistake, of a daemon's list as of a file's.
func TestListKnowsThePhases(t *testing.T) {
	s := newShell(t)
	d := newFakeDaemon(t, baking())
	for _, from := range []string{"--server " + d.URL, "--store /nowhere"} {
		s.want(exitUsage, append([]string{"list", "--phase", "open,bakign"}, strings.Fields(from)...)...)
		if got := s.err.String(); !strings.Contains(got, `there is no phase "bakign"; there are open, `) {
			t.Errorf("list %s: got %q, want the phases that there are", from, got)
		}
	}
}

// Whoever is called to a held rollout finds the command that puts the traffic
// back without Belay wherever the rollout is shown.
func TestHeldShowsTheWayBackByHand(t *testing.T) {
	s := newShell(t)
	r := held()
	d := newFakeDaemon(t, r)
	for _, verb := range []string{"status", "explain"} {
		s.run(verb, r.ID, "--server", d.URL)
		if got := s.out.String(); !strings.Contains(got, "by hand    curl -X PUT") {
			t.Errorf("%s of a held rollout: got\n%s\nwant the command that rolls back by hand", verb, got)
		}
	}
	lines := strings.Join(newScreen(terminal(&bytes.Buffer{}, 80, 24)).lines(r, nil), "\n")
	if !strings.Contains(lines, "by hand    curl -X PUT") || !strings.Contains(lines, "roll back  belay rollback") {
		t.Errorf("watch: got\n%s\nwant both ways back", lines)
	}
}
