package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/belayd/belay/cmd/internal/version"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	heads "github.com/belayd/belay/rollout/audit"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/view"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

// A storeReader reads a store's file, read-only and without a daemon.
type storeReader struct {
	store  store.Store
	engine *engine.Engine
}

// openStore opens the file, all of which is checked first. A file that a belayd has
// open cannot be read beside it: ask that belayd.
func openStore(file string) (*storeReader, error) {
	s, err := bolt.Open(file, bolt.Options{ReadOnly: true})
	if err != nil {
		return nil, err // it names the file
	}
	e, err := engine.New(engine.Config{Store: s, Leaser: store.Always{}, Owner: "belay", Version: version.Of()})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), s.Close())
	}
	return &storeReader{s, e}, nil
}

func (s *storeReader) close() error { return s.store.Close() }

// Rollout implements reader.
func (s *storeReader) Rollout(ctx context.Context, id string) (view.Rollout, error) {
	snap, err := s.engine.Rollout(ctx, id)
	if err != nil {
		return view.Rollout{}, err
	}
	return view.OfSnapshot(snap), nil
}

// Rollouts implements reader. A plan is written just before its rollout's first
// record, so the revisions of the plans are the order in which rollouts were
// made: only what is yielded needs to be decoded.
func (s *storeReader) Rollouts(ctx context.Context, f view.Filter) iter.Seq2[view.Rollout, error] {
	return func(yield func(view.Rollout, error) bool) {
		ids, err := s.newestFirst(ctx)
		if err == nil && len(f.Phases) > 0 {
			ids, err = s.inPhases(ctx, ids, f)
		}
		if err != nil {
			yield(view.Rollout{}, fmt.Errorf("list rollouts: %w", err))
			return
		}
		after, err := view.ParseCursor(f.After)
		if err != nil {
			yield(view.Rollout{}, fmt.Errorf("list rollouts: after: %w", err))
			return
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, f.ID) })
		n := 0
		for id := range s.planned(ctx, ids, f) {
			r, err := s.Rollout(ctx, id)
			if errors.Is(err, rollout.ErrNotFound) {
				continue // a crash between the two records: there is no rollout
			}
			if c := r.Card(); err == nil && (!f.Chooses(&c) || after != nil && after.Before(&c) >= 0) {
				continue
			}
			if n++; !yield(r, err) || err != nil || n == f.Limit {
				return
			}
		}
	}
}

// newestFirst lists the rollouts that have a plan.
func (s *storeReader) newestFirst(ctx context.Context) ([]string, error) {
	type made struct {
		id       string
		revision store.Revision
	}
	var all []made
	for rec, err := range s.store.Heads(ctx, "plan/") {
		if err != nil {
			return nil, err
		}
		all = append(all, made{strings.TrimPrefix(rec.Key, "plan/"), rec.Revision})
	}
	slices.SortFunc(all, func(a, b made) int { return cmp.Compare(b.revision, a.revision) })
	ids := make([]string, len(all))
	for i, m := range all {
		ids[i] = m.id
	}
	return ids, nil
}

// inPhases leaves out the rollouts that are certainly in another phase; of their
// states it reads only that. One whose phase it cannot read stays: who decodes it
// will say what is wrong.
func (s *storeReader) inPhases(ctx context.Context, ids []string, f view.Filter) ([]string, error) {
	others := make(map[string]bool)
	for rec, err := range s.store.Heads(ctx, "rollout/") {
		if err != nil {
			return nil, err
		}
		if p := phaseOf(rec.State); p != "" && !f.ChoosesPhase(p) {
			others[strings.TrimPrefix(rec.Key, "rollout/")] = true
		}
	}
	return slices.DeleteFunc(ids, func(id string) bool { return others[id] }), nil
}

// phaseOf reads the phase of a state without decoding it; "" where it cannot
// tell. A quote within a string is escaped, so the bytes are a name; that of the
// state itself, if no object has begun before.
func phaseOf(state []byte) rollout.Phase {
	const name = `"phase":"`
	before, after, found := bytes.Cut(state, []byte(name))
	phase, _, ends := bytes.Cut(after, []byte(`"`))
	if !found || !ends || bytes.LastIndexByte(before, '{') != 0 ||
		!slices.Contains(rollout.Phases, rollout.Phase(phase)) {
		return ""
	}
	return rollout.Phase(phase)
}

// planned leaves out the rollouts whose plan is certainly for another endpoint or
// of another owner; of the plans it reads only that. It looks at more and more of
// them at a time, because the first may be all that is asked for.
func (s *storeReader) planned(ctx context.Context, ids []string, f view.Filter) iter.Seq[string] {
	if f.Endpoint == "" && len(f.Owners) == 0 {
		return slices.Values(ids)
	}
	f = view.Filter{Endpoint: f.Endpoint, Owners: f.Owners}
	return func(yield func(string) bool) {
		for size := 128; len(ids) > 0; size = min(2*size, 2048) {
			some := ids[:min(size, len(ids))]
			ids = ids[len(some):]
			other := make([]bool, len(some))
			workers := min(runtime.GOMAXPROCS(0), 4)
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					for i := w; i < len(some); i += workers {
						other[i] = s.plannedOtherwise(ctx, some[i], f)
					}
				})
			}
			wg.Wait()
			for i, id := range some {
				if !other[i] && !yield(id) {
					return
				}
			}
		}
	}
}

// plannedOtherwise reports whether a rollout's plan says that the filter does not
// choose it. One that cannot be read is left to who decodes it.
func (s *storeReader) plannedOtherwise(ctx context.Context, id string, f view.Filter) bool {
	rec, err := s.store.Head(ctx, "plan/"+id)
	if err != nil {
		return false
	}
	var r view.Rollout
	if !named(rec.Entry, `"endpoint":`, &r.Endpoint) || !named(rec.Entry, `"owner":`, &r.Owner) {
		return false
	}
	c := r.Card()
	return !f.Chooses(&c)
}

// named decodes the value of the first member so named in a plan's JSON, whatever
// object it is in: a quote within a string is escaped, so the bytes are a name.
// Before a plan's own endpoint and owner there is none whose value is of their
// kind.
func named(plan []byte, name string, v any) bool {
	_, rest, found := bytes.Cut(plan, []byte(name))
	return found && json.NewDecoder(bytes.NewReader(rest)).Decode(v) == nil
}

// Journal implements reader.
func (s *storeReader) Journal(ctx context.Context, id string) iter.Seq2[journal.Entry, error] {
	return s.engine.Journal(ctx, id)
}

// Plan implements reader.
func (s *storeReader) Plan(ctx context.Context, id string) (*rollout.Plan, error) {
	snap, err := s.engine.Rollout(ctx, id)
	return snap.Plan, err
}

// AuditHead implements reader.
func (s *storeReader) AuditHead(ctx context.Context, at uint64) (api.AuditHead, error) {
	var h heads.Checkpoint
	var err error
	if at == 0 {
		h, err = heads.Now(ctx, s.store)
	} else {
		h, err = heads.At(ctx, s.store, store.Revision(at))
	}
	if errors.Is(err, heads.ErrOlder) || errors.Is(err, heads.ErrExpired) {
		err = fmt.Errorf("%w: %w", api.ErrNoHead, err)
	}
	return api.AuditHead{SchemaVersion: api.SchemaVersion, Head: h.String(), Revision: uint64(h.Revision),
		Rollouts: h.Rollouts}, err
}

// head returns the record that a rollout's key points to, for the audit.
func (s *storeReader) head(ctx context.Context, id string) (store.Record, error) {
	return s.store.Head(ctx, "rollout/"+id)
}
