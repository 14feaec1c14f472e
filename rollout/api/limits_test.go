package api

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout/turn"
)

// A stream that has told everything waits until the index knows more, and ends
// with its reader.
func TestBeyond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newIndex()
		ctx, cancel := context.WithCancel(t.Context())
		var told []bool
		go func() {
			told = append(told, b.beyond(ctx, 7))
			told = append(told, b.beyond(ctx, 8))
		}()
		for _, revision := range []uint64{7, 8} {
			synctest.Wait()
			if len(told) != 0 {
				t.Fatalf("before revision %d: got %v", revision, told)
			}
			b.mu.Lock()
			b.moveTo(revision)
			b.mu.Unlock()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if len(told) != 2 || !told[0] || told[1] {
			t.Errorf("got %v, want news once and then the end", told)
		}
	})
}

// A policy to check is not even parsed before it is its turn: a body costs nothing
// until then, whatever is in it.
func TestCheckParsesInItsTurn(t *testing.T) {
	r := serve(t, Config{})
	other, err := r.turns.Enter(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	go func() {
		resp, _ := r.ask(t, "POST", "/v1/policies/check", "", `no JSON at all`)
		answered <- resp.StatusCode
	}()
	select {
	case code := <-answered:
		t.Errorf("while another has the turn: got %d, want no answer yet", code)
	case <-time.After(200 * time.Millisecond):
	}
	other.End()
	if code := <-answered; code != 400 {
		t.Errorf("afterwards: got %d, want 400", code)
	}
}

// Who waits for their turn for too long is told to ask later; and a turn ends with
// what is done in it, however that ends.
func TestInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ann := &Server{turns: turn.NewQueue()}, Actor{}
		func() {
			defer func() { _ = recover() }()
			_ = s.inTurn(t.Context(), ann, func(*turn.Turn) error { panic("a parser's fault") })
		}()
		one, err := s.turns.Enter(t.Context(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err = s.inTurn(t.Context(), ann, func(*turn.Turn) error { return nil })
		var p *ProblemDetails
		if !errors.As(err, &p) || p.Status != 429 || time.Since(began) != slotWait {
			t.Errorf("got %v after %s, want a refusal after %s", err, time.Since(began), slotWait)
		}
		one.End()
		time.Sleep(time.Minute) // the rest after it
	})
}
