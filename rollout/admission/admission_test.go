package admission

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

var recs = rollout.EndpointRef{Router: "edge", Name: "recs"}

// writes counts appends to a store that takes its time.
type writes struct {
	store.Store
	n atomic.Int64
}

func (w *writes) Append(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
	w.n.Add(1)
	time.Sleep(10 * time.Millisecond)
	return w.Store.Append(ctx, key, entry, state, after)
}

// Two hundred releases claim one endpoint at once: a few writes have them all, one is
// active and the others wait, each in one place.
func TestManyClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &writes{Store: mem.New()}
		r := &Records{Store: s, Append: s.Append, Changed: func(string) {}}
		const many = 200
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				ev := claim.Event{Kind: claim.KindClaim, At: time.Now(), Rollout: fmt.Sprintf("r%03d", i), Most: many}
				if _, err := r.Admit(t.Context(), recs, ev); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		rec, err := r.Read(t.Context(), recs)
		if err != nil || rec.Active == "" || len(rec.Queue) != many-1 {
			t.Fatalf("got %q active and %d that wait, %v, want one and %d", rec.Active, len(rec.Queue), err, many-1)
		}
		if n := s.n.Load(); n > 10 {
			t.Errorf("got %d writes, want a few", n)
		}
	})
}

// Two processes change one record by turns. Neither overwrites the other, and each
// tells those whose turn has come.
func TestTwoProcesses(t *testing.T) {
	s := mem.New()
	var told []string
	one := &Records{Store: s, Append: s.Append, Changed: func(id string) { told = append(told, id) }}
	two := &Records{Store: s, Append: s.Append, Changed: func(string) {}}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	ask := func(r *Records, id string) claim.Record {
		rec, err := r.Admit(t.Context(), recs, claim.Event{Kind: claim.KindClaim, At: now, Rollout: id, Most: 9})
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	if rec := ask(one, "a"); rec.Active != "a" {
		t.Fatalf("got %q active, want a", rec.Active)
	}
	if rec := ask(two, "b"); rec.Active != "a" {
		t.Fatalf("got %q active, want a", rec.Active)
	}
	if rec := ask(one, "c"); rec.Active != "a" || len(rec.Queue) != 2 {
		t.Errorf("got %q active and %d that wait, want what the other wrote too", rec.Active, len(rec.Queue))
	}

	told = nil
	if _, err := two.Admit(t.Context(), recs, claim.Event{Kind: claim.KindRelease, At: now, Rollout: "a"}); err != nil {
		t.Fatal(err)
	}
	head, err := s.Head(t.Context(), recs.Key())
	if err != nil {
		t.Fatal(err)
	}
	one.Committed(recs, head)
	if !slices.Contains(told, "b") {
		t.Errorf("told %v, want b, whose turn it is", told)
	}
	told = nil
	if one.Committed(recs, head); len(told) != 0 {
		t.Errorf("the same record again: told %v, want nobody", told)
	}
}
