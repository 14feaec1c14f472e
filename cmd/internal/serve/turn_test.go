package serve

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Of those that wait for a turn, the one that came last is next; one that is given
// up is passed over, and holds nobody up.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &turns{}
		first, err := s.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		come := func(name string, ctx context.Context) {
			go func() {
				turn, err := s.enter(ctx)
				if err != nil {
					name += " gave up"
				}
				defer turn.end()
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
		first.end()
		synctest.Wait()
		if len(order) != 3 || order[0] != "impatient gave up" || order[1] != "last" || order[2] != "first" {
			t.Errorf("got %q, want the last before the first", order)
		}
		if _, err := s.enter(t.Context()); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if _, err := s.enter(impatient); !errors.Is(err, context.Canceled) {
			t.Errorf("of one that has gone while another has the turn: got %v", err)
		}
	})
}

// A turn that does not end is over after turnMax, and is not given twice when it
// ends later.
func TestTurnMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := &turns{}, time.Now()
		var taken []*turn
		for i := range 3 {
			turn, err := s.enter(t.Context())
			if took := time.Since(began); err != nil || took != time.Duration(i)*turnMax {
				t.Fatalf("turn %d: got it after %s, %v, want after %s", i, took, err, time.Duration(i)*turnMax)
			}
			taken = append(taken, turn)
		}
		taken[0].end()
		soon, cancel := context.WithTimeout(t.Context(), turnMax/2)
		defer cancel()
		if _, err := s.enter(soon); err == nil {
			t.Error("a turn was given that another had")
		}
	})
}

// However many strangers ask at a time, what answers them does it for one at a
// time, until it writes, knows who asks, or says that it waits for something.
func TestStrangersTurns(t *testing.T) {
	for name, let := range map[string]func(http.ResponseWriter, *http.Request){
		"one that goes on": nil,
		"one that writes":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("made")); time.Sleep(turnBrief) },
		"one that waits":   func(_ http.ResponseWriter, r *http.Request) { EndTurn(r.Context()) },
		"one that knows":   func(_ http.ResponseWriter, r *http.Request) { MarkAuthenticated(r.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newConnLimiter(nil, 100)
				inside, most := 0, 0
				var mu sync.Mutex
				h := l.tracked(deadlines{body: time.Second, write: time.Second}.handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if let != nil {
						let(w, r)
					}
					mu.Lock()
					inside++
					most = max(most, inside)
					mu.Unlock()
					time.Sleep(turnMax / 2)
					mu.Lock()
					inside--
					mu.Unlock()
				})))
				var all sync.WaitGroup
				for range 20 {
					c := newConn(nil, l)
					all.Go(func() {
						ctx := context.WithValue(t.Context(), connKey{}, c)
						h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody))
					})
				}
				all.Wait()
				if (most == 1) != (let == nil) {
					t.Errorf("got %d at a time", most)
				}
			})
		})
	}
}

// A stranger who asks for the same again and again on one connection waits after a
// few answers; whoever is recognised does not.
func TestStrangersPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConn(nil, newConnLimiter(nil, 1))
		asked := 0
		go func() {
			for asked < 100 {
				turn, ok := c.wait(t.Context())
				if !ok {
					return
				}
				turn.end()
				asked++
			}
		}()
		synctest.Wait()
		if asked != strangerBurst {
			t.Errorf("at once: got %d answers, want %d", asked, strangerBurst)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, ok := c.wait(cancelled); ok {
			t.Error("one that has gone has got its turn")
		}
		close(c.recognised)
		synctest.Wait()
		if asked != 100 {
			t.Errorf("once recognised: got %d answers, want all 100 at once", asked)
		}
	})
}
