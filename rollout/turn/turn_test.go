package turn

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// After a turn nobody has one: for as long as it took where nobody waits, for longer
// where somebody does, and never for more than restMax.
func TestTurnsRest(t *testing.T) {
	for _, c := range []struct {
		took, rest time.Duration
		crowded    bool
	}{
		{took: 10 * time.Millisecond, rest: 10 * time.Millisecond},
		{took: 10 * time.Millisecond, rest: restTimes * 10 * time.Millisecond, crowded: true},
		{took: time.Minute, rest: restMax, crowded: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := NewQueue()
			first, err := s.Enter(t.Context(), "ann")
			if err != nil {
				t.Fatal(err)
			}
			given := make(chan time.Time, 1)
			next := func() {
				one, err := s.Enter(t.Context(), "bob")
				if err != nil {
					t.Error(err)
				}
				given <- time.Now()
				one.End()
			}
			if c.crowded {
				go next()
			}
			time.Sleep(c.took)
			first.End()
			first.End() // it has ended
			ended := time.Now()
			if !c.crowded {
				next()
			}
			if got := (<-given).Sub(ended); got != c.rest {
				t.Errorf("%+v: the next began %s later", c, got)
			}
		})
	}
}

// What comes in pieces goes on for turnMax, and then others have their turn.
func TestTurnsArePieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewQueue()
		var order []string
		work := func(actor string) {
			one, err := s.Enter(t.Context(), actor)
			if err != nil {
				t.Error(err)
			}
			defer one.End()
			for range 4 {
				order = append(order, actor)
				time.Sleep(turnMax / 2)
				if err := one.GoOn(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		var both sync.WaitGroup
		both.Go(func() { work("ann") })
		synctest.Wait()
		both.Go(func() { work("bob") })
		both.Wait()
		want := []string{"ann", "ann", "bob", "bob", "ann", "ann", "bob", "bob"}
		if !slices.Equal(order, want) {
			t.Errorf("got %v, want %v", order, want)
		}
	})
}

// Whoever is alone goes on for longer.
func TestTurnsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewQueue()
		one, err := s.Enter(t.Context(), "ann")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for time.Since(began) < aloneMax {
			if one.Over() {
				t.Fatalf("over after %s, want %s", time.Since(began), aloneMax)
			}
			time.Sleep(turnMax)
		}
		if err := one.GoOn(t.Context()); err != nil || time.Since(began) != 2*aloneMax {
			t.Errorf("went on after %s, %v, want a rest as long as the turn", time.Since(began), err)
		}
		one.End()
		time.Sleep(restMax)
	})
}

// Those that wait for something else before they want a turn are waited for.
func TestTurnsAfter(t *testing.T) {
	s := NewQueue()
	leave, err := s.After(func() (func(), error) {
		if !s.crowded() {
			t.Error("while one waits for a slot: not crowded")
		}
		return func() {}, nil
	})
	if leave == nil || err != nil || s.crowded() {
		t.Errorf("got %v, and crowded %v, want neither", err, s.crowded())
	}
}

// One who asks for much waits behind themselves: somebody else is next but one.
func TestTurnsOfActors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewQueue()
		var order []string
		ask := func(actor string) {
			one, err := s.Enter(t.Context(), actor)
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, actor)
			time.Sleep(time.Millisecond)
			one.End()
		}
		var all sync.WaitGroup
		for _, actor := range append(slices.Repeat([]string{"mallory"}, 64), "ann", "bob", "ann") {
			all.Go(func() { ask(actor) })
			synctest.Wait()
		}
		all.Wait()
		got := []int{slices.Index(order, "ann"), slices.Index(order, "bob")}
		if !slices.Equal(got, []int{2, 3}) || len(order) != 67 {
			t.Errorf("of %d turns ann's and bob's first were %v, want the third and the fourth", len(order), got)
		}
	})
}

// Whoever waits no longer keeps nobody from their turn, also when it was given in the
// same moment.
func TestTurnsAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewQueue()
		for range 100 {
			first, err := s.Enter(t.Context(), "ann")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), restTimes*time.Millisecond+time.Millisecond)
			left := make(chan error)
			go func() {
				one, err := s.Enter(ctx, "bob")
				one.End()
				left <- err
			}()
			synctest.Wait()
			time.Sleep(time.Millisecond)
			first.End() // the next turn and the end of ctx come at the same time
			if err := <-left; err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		time.Sleep(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.busy || len(s.waiting) > 0 || len(s.rounds) > 0 {
			t.Errorf("when all have gone: got %d that wait, want none, and no turn", len(s.waiting))
		}
	})
}
