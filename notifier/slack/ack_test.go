package slack

import (
	"strings"
	"testing"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/notifiertest"
)

// A page has a button by which somebody takes charge of it, as long as nobody has,
// and where it is a rollout's: the click is an act of that person, and the same
// click is the same act.
func TestAcknowledge(t *testing.T) {
	w, l := newWorkspace(t), &ledger{}
	c := w.open(nil)
	running(t, c, l)
	page := notifiertest.Notice(notifier.TopicPage)
	page.Ref = notify(t, c, page)
	click, ok := w.Messages[0].Button("U0OTHER", actionAck, "1.1")
	if !ok {
		t.Fatalf("the page: got no button to acknowledge it in %s", w.Messages[0].Blocks)
	}
	say(t, c, click.JSON())
	say(t, c, click.JSON())
	settle(c)
	heard := l.answers()
	if len(heard) != 2 || heard[0].ID != heard[1].ID {
		t.Fatalf("one click told twice: got %+v, want the same act twice", heard)
	}
	if a := heard[0]; a.Command != "ack" || a.Rollout != "r-7f3a" || a.Who != "slack:T0TEAM/U0OTHER" || a.At.IsZero() {
		t.Errorf("got %+v, want that somebody acknowledges the page of r-7f3a", a)
	}

	acked := notifiertest.Acknowledged()
	acked.Ref = page.Ref
	notify(t, c, acked)
	if _, ok := w.Messages[0].Button("U0OTHER", actionAck, "1.2"); ok || !strings.Contains(string(w.Messages[0].Blocks), "*Acknowledged* by") {
		t.Errorf("once acknowledged: got %s, want who did it and no button", w.Messages[0].Blocks)
	}

	own := page // of belayd itself, of no rollout
	own.Key, own.Ref, own.Rollout = "store/here", "", notifier.Rollout{}
	notify(t, c, own)
	if _, ok := w.Messages[1].Button("U0OTHER", actionAck, "1.3"); ok {
		t.Error("a page of no rollout: got a button, want none")
	}
}

// The words after /belay that acknowledge.
func TestAcknowledgeByCommand(t *testing.T) {
	if a, ok := parseCommand("ack `r-7f3a` looking into it"); !ok || a.Command != "ack" || a.Rollout != "r-7f3a" || a.Reason != "looking into it" {
		t.Errorf("got %+v, %t, want an acknowledgement of r-7f3a with its reason", a, ok)
	}
}
