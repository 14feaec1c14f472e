package serve

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// Of the handshakes that wait, the one that came last is next; one that is given up
// is passed over, and holds nobody up.
func TestHandshakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handshakes{}
		if err := h.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		var order []string
		come := func(name string, ctx context.Context) {
			go func() {
				if err := h.enter(ctx); err != nil {
					name += " gave up"
				} else {
					defer h.leave()
				}
				order = append(order, name)
			}()
			synctest.Wait()
		}
		impatient, cancel := context.WithCancel(t.Context())
		come("first", t.Context())
		come("impatient", impatient)
		come("last", t.Context())
		cancel()
		synctest.Wait()
		h.leave()
		synctest.Wait()
		if len(order) != 3 || order[0] != "impatient gave up" || order[1] != "last" || order[2] != "first" {
			t.Errorf("got %q, want the last before the first", order)
		}
		if err := h.enter(t.Context()); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if err := h.enter(impatient); !errors.Is(err, context.Canceled) {
			t.Errorf("of one that has gone while another has the turn: got %v", err)
		}
	})
}

// A stranger who asks for the same again and again on one connection waits after a
// few answers; whoever is recognised does not.
func TestStrangersPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConn(nil)
		asked := 0
		go func() {
			for asked < 100 && c.wait(t.Context()) {
				asked++
			}
		}()
		synctest.Wait()
		if asked != strangerBurst {
			t.Errorf("at once: got %d answers, want %d", asked, strangerBurst)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if c.wait(cancelled) {
			t.Error("one that has gone has got its turn")
		}
		close(c.recognised)
		synctest.Wait()
		if asked != 100 {
			t.Errorf("once recognised: got %d answers, want all 100 at once", asked)
		}
	})
}
