package slack

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestInTime tells of a store that takes ten seconds: Slack is answered within
// three, and the person hears the outcome when there is one.
func TestInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorkspace(t), &ledger{delay: 10 * time.Second}
		c := w.open(nil)
		running(t, c, l)
		for _, test := range []struct{ name, payload, ack, postEphemeral string }{
			{"click", clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.1"), "null", "U0APPROVER: Recorded."},
			{"accepted dialog", sent("U0APPROVER", "hold", "n0nce-5be1", "look", "t1"), `"response_action":"clear"`, "U0APPROVER: Recorded."},
			{"refused dialog", sent("U0OTHER", "reject", "n0nce-5be1", "no", "t2"), `"response_action":"clear"`, "U0OTHER: Not accepted: slack:T0TEAM/U0OTHER is not among those"},
		} {
			w.Set(func() { w.Whispers = nil })
			began := time.Now()
			if got := say(t, c, test.payload); !strings.Contains(got, test.ack) {
				t.Errorf("%s: got %s for Slack, want %s", test.name, got, test.ack)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%s: acknowledged after %s, want at most 3s", test.name, took)
			}
			if got := w.Heard(); len(got) != 0 {
				t.Errorf("%s: got whispers %q before there was an outcome, want none", test.name, got)
			}
			settle(c)
			if got := w.Heard(); len(got) != 1 || !strings.HasPrefix(got[0], test.postEphemeral) || time.Since(began) != 10*time.Second {
				t.Errorf("%s: got whispers %q after %s, want %q after 10s", test.name, got, time.Since(began), test.postEphemeral)
			}
		}
		// A store that never answers: the act ends, and the person is told so.
		l.delay = time.Hour
		w.Set(func() { w.Whispers = nil })
		say(t, c, clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.9"))
		settle(c)
		if got := w.Heard(); len(got) != 1 || !strings.Contains(got[0], "could not be recorded") {
			t.Errorf("a store that never answers: got whispers %q, want the person told", got)
		}
	})
}

// TestOverload: an act that finds no slot is not taken up, and nothing waits.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorkspace(t), &ledger{delay: time.Minute}
		c := w.open(nil)
		running(t, c, l)
		for i := range maxActs {
			if got := say(t, c, clicked("U0APPROVER", actionApprove, "n0nce-5be1", fmt.Sprint(i))); got != "null" {
				t.Fatalf("click %d: got %s, want it taken up", i, got)
			}
			// say returns after the 2.5 s that Slack waits; let them all be under way.
			if i == 4 {
				break
			}
		}
		for range maxActs - 5 {
			c.inbox.slots <- struct{}{}
		}
		if got := say(t, c, clicked("U0APPROVER", actionApprove, "n0nce-5be1", "last")); got != "not taken up" {
			t.Errorf("click without a slot: got %s, want it not taken up", got)
		}
		for range maxActs - 5 {
			<-c.inbox.slots
		}
		settle(c)
	})
}

// TestStop: acts under way when the daemon stops are finished, and later ones are
// not taken up.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorkspace(t), &ledger{delay: time.Second}
		c := w.open(nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx, l.deliver) }()
		synctest.Wait()
		told := make(chan string, 1)
		go func() { told <- say(t, c, clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.1")) }()
		synctest.Wait()
		if err := c.Run(ctx, l.deliver); err == nil {
			t.Error("Run a second time: got no error, want one")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if got := w.Heard(); l.decided != "approve" || len(got) != 1 {
			t.Errorf("act under way when Run returned: got decided %q, whispers %q, want it finished", l.decided, got)
		}
		if got := <-told; got != "null" {
			t.Errorf("act under way: got %s for Slack, want an empty acknowledgement", got)
		}
		if got := say(t, c, clicked("U0APPROVER", actionApprove, "n0nce-5be1", "1.2")); got != "not taken up" {
			t.Errorf("act after the end: got %s, want it not taken up", got)
		}
	})
}
