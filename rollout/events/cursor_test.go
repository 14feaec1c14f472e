package events

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// A sink that is new begins with the present, and says so in its record, where
// the engine reads it. If the process dies before it can, the engine reads 0: all
// waits, and the next process begins at the same instant.
func TestCursorBegins(t *testing.T) {
	s := mem.New()
	before, err := s.Append(t.Context(), "rollout/r0", []byte("{}"), []byte("{}"), 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &cursor{store: s, sink: "nats"}
	at, err := c.open(t.Context())
	if err != nil || at <= before {
		t.Fatalf("open: got %d, %v, want more than %d", at, err, before)
	}
	if got := engineReads(t, s); got != at {
		t.Errorf("the record: got revision %d, want %d", got, at)
	}
	again := &cursor{store: s, sink: "nats"}
	if got, err := again.open(t.Context()); err != nil || got != at {
		t.Errorf("open again: got %d, %v, want %d", got, err, at)
	}
	if err := again.write(t.Context(), at+7); err != nil {
		t.Fatal(err)
	}
	if got, err := c.open(t.Context()); err != nil || got != at+7 {
		t.Errorf("after a write: got %d, %v, want %d", got, err, at+7)
	}
}

// engineReads is what the engine takes for the cursor's position.
func engineReads(t *testing.T, s store.Store) store.Revision {
	t.Helper()
	var engine struct {
		Revision store.Revision `json:"revision"`
	}
	rec, err := s.Head(t.Context(), "cursor/nats")
	if err != nil || json.Unmarshal(rec.State, &engine) != nil {
		t.Fatalf("the record: %s, %v", rec.State, err)
	}
	return engine.Revision
}

// The process dies between the two writes of a new cursor.
func TestCursorBeginsTwice(t *testing.T) {
	s := mem.New()
	writes := 0
	s.Fault = func(mem.Op) (bool, error) {
		if writes++; writes == 2 {
			return false, store.ErrFull
		}
		return true, nil
	}
	dead := &cursor{store: s, sink: "nats"}
	if _, err := dead.open(t.Context()); !errors.Is(err, store.ErrFull) {
		t.Fatalf("open: got %v, want ErrFull", err)
	}
	if got := engineReads(t, s); got != 0 {
		t.Errorf("in between: got revision %d, want 0", got)
	}
	began := dead.head
	if _, err := s.Append(t.Context(), "rollout/r1", []byte("{}"), []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	c := &cursor{store: s, sink: "nats"}
	if at, err := c.open(t.Context()); err != nil || at != began {
		t.Errorf("open again: got %d, %v, want %d", at, err, began)
	}
}

// The cursor's log does not grow for ever: after cursorTurns writes a new record
// takes its place. Whatever write the process dies at, the position found
// afterwards is one that was written, and none goes back.
func TestCursorTurns(t *testing.T) {
	crash := errors.New("the process died")
	for died := range 6 {
		s := mem.New()
		writes := 0
		s.Fault = func(mem.Op) (bool, error) {
			writes++
			if writes == died+3 { // the first two create the cursor
				return died%2 == 0, crash // applied or not
			}
			return true, nil
		}
		c := &cursor{store: s, sink: "nats"}
		if _, err := c.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.at.Turns = cursorTurns - 2
		written := c.position()
		for range 5 {
			if c.advance(t.Context(), written+10) != nil {
				break
			}
			written += 10
		}
		after := &cursor{store: s, sink: "nats"}
		if err := after.read(t.Context()); err != nil {
			t.Fatalf("dead at write %d: %v", died, err)
		}
		if got := after.position(); got != written && got != written+10 {
			t.Errorf("dead at write %d: got %d, want %d or %d", died, got, written, written+10)
		}
		// Life goes on, also over what the dead one left behind.
		for range 3 {
			after.at.Turns = cursorTurns
			written = after.position() + 10
			if err := after.write(t.Context(), written); err != nil {
				t.Fatalf("dead at write %d: write afterwards: %v", died, err)
			}
		}
		var keys []string
		for rec, err := range s.Heads(t.Context(), cursorPrefix) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, rec.Key)
		}
		if len(keys) != 1 {
			t.Errorf("dead at write %d: got records %v, want one", died, keys)
		}
	}
}

// Another replica wrote the cursor: this one reads it and goes on.
func TestCursorConflict(t *testing.T) {
	s := mem.New()
	a, b := &cursor{store: s, sink: "nats"}, &cursor{store: s, sink: "nats"}
	for _, c := range []*cursor{a, b} {
		if _, err := c.open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.write(t.Context(), 50); err != nil {
		t.Fatal(err)
	}
	if err := b.write(t.Context(), 40); err != nil || b.position() != 50 {
		t.Errorf("behind the other: got %d, %v, want 50", b.position(), err)
	}
	if err := a.write(t.Context(), 60); err != nil {
		t.Fatal(err)
	}
	if err := b.write(t.Context(), 70); !errors.Is(err, store.ErrConflict) {
		t.Errorf("ahead of the other: got %v, want ErrConflict once", err)
	}
	if err := b.write(t.Context(), 70); err != nil || b.position() != 70 {
		t.Errorf("then: got %d, %v, want 70", b.position(), err)
	}
}

// A sink that is not configured any more holds nothing back.
func TestForget(t *testing.T) {
	s := mem.New()
	for _, sink := range []string{"old", "nats"} {
		if _, err := (&cursor{store: s, sink: sink}).open(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Forget(t.Context(), s, "nats")
	if diff := cmp.Diff([]string{"old"}, got); diff != "" || err != nil {
		t.Errorf("Forget (-want +got): %v\n%s", err, diff)
	}
	if _, err := s.Head(t.Context(), "cursor/nats"); err != nil {
		t.Errorf("the cursor that is configured: %v", err)
	}
}
