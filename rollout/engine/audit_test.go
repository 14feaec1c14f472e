package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/record"
)

// audit checks what must hold of the world at the end: the chains (I7), that every
// journal replays to the states it records (promise 7), that the endpoint shows
// what a closed rollout ended with (I9), that every message has one key, and that
// a page was resolved.
func (w *world) audit(ids ...string) []string {
	w.t.Helper()
	for _, id := range ids {
		w.auditJournal(id)
	}
	for _, p := range []*people{w.chat, w.pager} {
		keys := map[string]string{}
		for _, n := range p.all("") {
			if k, ok := keys[n.Delivery]; ok && k != n.Key {
				w.violate("promise 5: delivery %s was sent as %s and as %s", n.Delivery, k, n.Key)
			}
			keys[n.Delivery] = n.Key
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.violations)
}

func (w *world) auditJournal(id string) {
	ctx := context.Background()
	rec, err := w.store.Head(ctx, record.PlanKey(id))
	if err != nil {
		w.violate("plan of %s: %v", id, err)
		return
	}
	p, err := record.DecodePlan(rec)
	if err != nil {
		w.violate("plan of %s: %v", id, err)
		return
	}
	prev, epoch, owner := "", 0, ""
	var s rollout.State
	acts := map[string]int{}
	seq := 0
	for rec, err := range w.store.History(ctx, record.RolloutKey(id)) {
		if err != nil {
			w.violate("journal of %s: %v", id, err)
			return
		}
		e, err := record.DecodeEntry(rec)
		if err != nil {
			w.violate("journal of %s: %v", id, err)
			return
		}
		seq++
		if e.Seq != seq || e.Prev != prev {
			w.violate("I7: entry %d of %s: got seq %d, prev %.8s, want %d, %.8s", seq, id, e.Seq, e.Prev, seq, prev)
		}
		if e.Epoch < epoch || e.Epoch == epoch && owner != "" && e.Owner != owner {
			w.violate("I7: entry %d of %s: epoch %d of %s after %d of %s", seq, id, e.Epoch, e.Owner, epoch, owner)
		}
		epoch, owner = e.Epoch, e.Owner
		if prev, err = e.Hash(); err != nil {
			w.violate("I7: entry %d of %s: %v", seq, id, err)
		}
		for i, ev := range e.Events {
			if seq == 1 && i == 0 {
				s = rollout.Start(p, ev.At)
			}
			if ev.Kind == rollout.EventAnswered || ev.Kind == rollout.EventCommanded {
				if acts[ev.Key]++; acts[ev.Key] > 1 {
					w.violate("I5: act %s was folded in %d times", ev.Key, acts[ev.Key])
				}
			}
			s = rollout.Next(p, s, ev)
		}
		if got := hashState(s); got != e.State {
			w.violate("promise 7: entry %d of %s replays to another state", seq, id)
		}
	}
	if s.Closed() {
		w.auditEnd(p, &s)
	}
}

func hashState(s rollout.State) string {
	b, err := json.Marshal(s)
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (w *world) auditEnd(p *rollout.Plan, s *rollout.State) {
	truth := w.router.Truth(p.Endpoint.Name)
	if s.Phase == rollout.PhasePromoted && truth.Weights["green"] != 100 {
		w.violate("I9: %s is promoted and the endpoint shows %s", p.ID, truth)
	}
	if (s.Phase == rollout.PhaseRolledBack || s.Phase == rollout.PhaseStopped) && truth.Weights["blue"] != 100 {
		w.violate("I9: %s is %s and the endpoint shows %s", p.ID, s.Phase, truth)
	}
}

// clean fails the test for every violation.
func (w *world) clean(ids ...string) {
	w.t.Helper()
	for _, v := range w.audit(ids...) {
		w.t.Error(v)
	}
}
