package claim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/split"
)

// claims of rollouts, each folded into the record in turn.
func claimed(r Record, at time.Time, c rollout.Concurrency, ids ...string) Record {
	for _, id := range ids {
		r = Admit(r, Event{Kind: KindClaim, At: at, Rollout: id, Version: "v of " + id, Concurrency: c})
	}
	return r
}

// So many releases wait that no count of those that were dropped would do. One that
// supersedes takes the place of all of them, for good: whoever asks again, in whatever
// order and however often, is told so, until it has given its claim back.
func TestSupersedeDropsAll(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	r := claimed(Record{}, at, rollout.ConcurrencyQueue, "first")
	var ids []string
	for i := range 150 {
		ids = append(ids, fmt.Sprintf("r%03d", i))
	}
	r = claimed(r, at, rollout.ConcurrencyQueue, ids...)
	r = claimed(r, at, rollout.ConcurrencySupersede, "newest")
	before := r
	for range 2 {
		for _, id := range ids {
			r = claimed(r, at, rollout.ConcurrencyQueue, id)
			if r.Refused != decision.ReasonSuperseded {
				t.Fatalf("%s asks again: got refused %q, queue %v, want it told that a newer one took its place", id, r.Refused, r.Queue)
			}
		}
	}
	if !before.SameRights(r) || len(r.Queue) != 1 || r.Queue[0].Rollout != "newest" {
		t.Errorf("got the queue %v, want the newest alone", r.Queue)
	}
	for _, id := range ids {
		r = Admit(r, Event{Kind: KindRelease, At: at, Rollout: id})
	}
	if len(r.Dropped) != 0 || r.Active != "first" || len(r.Queue) != 1 {
		t.Errorf("all have heard it: got %d dropped, active %s, queue %v, want none, first and the newest", len(r.Dropped), r.Active, r.Queue)
	}
}

// A queue has a bound, and who is refused is told which.
func TestQueueIsBounded(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	claim := func(r Record, id string) Record {
		return Admit(r, Event{Kind: KindClaim, At: at, Rollout: id, Concurrency: rollout.ConcurrencyQueue, Most: 2})
	}
	r := Record{Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}}
	for _, id := range []string{"a", "b", "c"} {
		if r = claim(r, id); r.Refused != "" {
			t.Errorf("%s: got refused %s", id, r.Refused)
		}
	}
	if r = claim(r, "d"); r.Refused != decision.ReasonBusy || !strings.Contains(r.Sentence, "2 releases wait") || !strings.Contains(r.Sentence, "queue: 2") {
		t.Errorf("one too many: got %q, %q, want it refused with the bound", r.Refused, r.Sentence)
	}
	if r = claim(r, "c"); r.Refused != "" || len(r.Queue) != 2 {
		t.Errorf("who waits asks again: got %q, queue %v, want its place kept", r.Refused, r.Queue)
	}
}

// Changed names exactly those to whom a record says something else than the one
// before: what each would be answered differs.
func TestChanged(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	plan := func(id string) *rollout.Plan { return &rollout.Plan{ID: id} }
	answer := func(r Record, id string) string {
		r.Refused, r.Sentence = "", ""
		return fmt.Sprint(r.Result(plan(id), rollout.Effect{}))
	}
	all := []string{"a", "b", "c", "d", "e", "s"}
	full := claimed(Record{}, at, rollout.ConcurrencyQueue, all[:5]...)
	release := func(r Record, ids ...string) Record {
		for _, id := range ids {
			r = Admit(r, Event{Kind: KindRelease, At: at, Rollout: id, Version: "v of " + id})
		}
		return r
	}
	for name, next := range map[string]Record{
		"nothing":                full,
		"the active one ends":    release(full, "a"),
		"one in the middle ends": release(full, "c"),
		"the last one ends":      release(full, "e"),
		"two end":                release(full, "b", "d"),
		"active and next end":    release(full, "a", "b"),
		"all end":                release(full, "e", "d", "c", "b", "a"),
		"another one comes":      claimed(full, at, rollout.ConcurrencyQueue, "s"),
		"one ends, one comes":    claimed(release(full, "b"), at, rollout.ConcurrencyQueue, "s"),
		"one supersedes":         claimed(full, at, rollout.ConcurrencySupersede, "s"),
	} {
		var want []string
		for _, id := range all[:5] {
			gone := full.Active == id && next.Active != id
			if answer(full, id) != answer(next, id) && !gone {
				want = append(want, id)
			}
		}
		if got := full.Changed(next); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// What an endpoint shows that no rollout moves is put on record; what one moves is
// that rollout's business.
func TestObserved(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	shown := split.Split{Weights: map[string]int{"green": 100}}
	observed := Event{Kind: KindObserved, At: at, Confirmed: &shown}
	r := Admit(Record{}, observed)
	if r.Confirmed == nil || !r.Confirmed.Equal(shown) || (Record{}).SameRights(r) {
		t.Errorf("an idle endpoint: got %+v, want what it shows on record", r)
	}
	shown.Weights["green"] = 0
	if r.Confirmed.Weights["green"] != 100 {
		t.Error("the record shares the event's split")
	}
	if busy := Admit(claimed(Record{}, at, rollout.ConcurrencyQueue, "r1"), observed); busy.Confirmed != nil {
		t.Errorf("an endpoint that a rollout moves: got %v on record", busy.Confirmed)
	}
}
