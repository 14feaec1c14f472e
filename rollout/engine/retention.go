package engine

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"

	"github.com/belayd/belay/rollout/audit"
	"github.com/belayd/belay/store"
)

// sweep deletes finished rollouts that are older than the retention and that
// every sink has seen. The rollout's own record goes last, so that a sweep that is
// cut off is finished by the next one.
func (e *Engine) sweep(ctx context.Context) {
	retention := e.reach.Load().retention
	if retention <= 0 {
		return // It was given up meanwhile.
	}
	seen, err := e.seen(ctx)
	if err != nil {
		e.log.Warn("old rollouts not deleted", "outcome", err.Error())
		return
	}
	deleted := 0
	for rec, err := range e.cfg.Store.Heads(ctx, rolloutPrefix) {
		if err != nil {
			break
		}
		s, _, err := decodeHead(rec)
		if err != nil || !isClosed(&s) || e.now().Sub(s.At) < retention || rec.Revision > seen {
			continue
		}
		if err := e.erase(ctx, strings.TrimPrefix(rec.Key, rolloutPrefix), rec); err != nil {
			if ctx.Err() == nil {
				e.log.Warn("old rollout not deleted", "rollout", s.ID, "outcome", err.Error())
			}
			return
		}
		deleted++
	}
	if deleted > 0 {
		e.log.Info("old rollouts deleted", "outcome", deleted)
	}
}

// seen is the revision that every sink has got to. A cursor is the state of its
// record: {"revision": n}.
func (e *Engine) seen(ctx context.Context) (store.Revision, error) {
	least := store.Revision(math.MaxUint64)
	for rec, err := range e.cfg.Store.Heads(ctx, cursorPrefix) {
		if err != nil {
			return 0, err
		}
		var c struct {
			Revision store.Revision `json:"revision"`
		}
		if err := json.Unmarshal(rec.State, &c); err != nil {
			return 0, err
		}
		least = min(least, c.Revision)
	}
	return least, nil
}

// erase deletes everything of one rollout, whose head is last, but for a tombstone:
// a deletion behind belayd's back leaves none. Where there is no space for one it is
// written when the deletion has made some.
func (e *Engine) erase(ctx context.Context, id string, last store.Record) error {
	stone, err := audit.Of(ctx, e.cfg.Store, id, last)
	if err != nil {
		return err
	}
	buried := audit.Bury(ctx, e.cfg.Store, stone)
	if buried != nil && !errors.Is(buried, store.ErrFull) {
		return buried
	}
	var acts []store.Record
	for rec, err := range e.cfg.Store.Heads(ctx, inboxKey(id, "")) {
		if err != nil {
			return err
		}
		acts = append(acts, rec)
	}
	if rec, err := e.cfg.Store.Head(ctx, planKey(id)); err == nil {
		acts = append(acts, rec)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	for _, rec := range acts {
		if err := e.cfg.Store.Delete(ctx, rec.Key, rec.Revision); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	if err := e.cfg.Store.Delete(ctx, rolloutKey(id), last.Revision); err != nil {
		return err
	}
	e.news.erased(id)
	if buried != nil {
		return audit.Bury(ctx, e.cfg.Store, stone)
	}
	return nil
}
