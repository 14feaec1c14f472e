package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

// A storeReader reads a store's file, read-only and without a daemon.
type storeReader struct {
	store  *bolt.Store
	engine *engine.Engine
}

// openStore opens the file. A file that a belayd has open cannot be read beside
// it: ask that belayd.
func openStore(file string) (*storeReader, error) {
	s, err := bolt.Open(file, bolt.Options{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", file, err)
	}
	e, err := engine.New(engine.Config{Store: s, Leaser: store.Always{}, Owner: "belay", Version: version()})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", file, err), s.Close())
	}
	return &storeReader{s, e}, nil
}

func (s *storeReader) close() error { return s.store.Close() }

// Rollout implements reader.
func (s *storeReader) Rollout(ctx context.Context, id string) (api.Rollout, error) {
	snap, err := s.engine.Rollout(ctx, id)
	if err != nil {
		return api.Rollout{}, err
	}
	return api.RenderSnapshot(snap), nil
}

// Rollouts implements reader. A plan is written just before its rollout's first
// record, so the revisions of the plans are the order in which rollouts were
// made: only what is yielded needs to be decoded.
func (s *storeReader) Rollouts(ctx context.Context, f api.Filter) iter.Seq2[api.Rollout, error] {
	return func(yield func(api.Rollout, error) bool) {
		type made struct {
			id       string
			revision store.Revision
		}
		var all []made
		for rec, err := range s.store.Heads(ctx, "plan/") {
			if err != nil {
				yield(api.Rollout{}, fmt.Errorf("list rollouts: %w", err))
				return
			}
			all = append(all, made{strings.TrimPrefix(rec.Key, "plan/"), rec.Revision})
		}
		slices.SortFunc(all, func(a, b made) int { return cmp.Compare(b.revision, a.revision) })
		n := 0
		for _, m := range all {
			r, err := s.Rollout(ctx, m.id)
			if errors.Is(err, rollout.ErrNotFound) {
				continue // a crash between the two records: there is no rollout
			}
			if err == nil && !chosen(r, f) {
				continue
			}
			if n++; !yield(r, err) || err != nil || n == f.Limit {
				return
			}
		}
	}
}

// chosen reports whether a filter chooses a rollout, as the daemon's list does.
func chosen(r api.Rollout, f api.Filter) bool {
	router, name, both := strings.Cut(f.Endpoint, "/")
	if !both {
		router, name = "", f.Endpoint
	}
	inPhase := func(p string) bool { return p == string(r.Phase) || p == "open" && !r.Phase.Terminal() }
	switch {
	case name != "" && name != r.Endpoint.Name, router != "" && router != r.Endpoint.Router:
		return false
	case len(f.Owners) > 0 && !slices.Contains(f.Owners, r.Owner):
		return false
	}
	return len(f.Phases) == 0 || slices.ContainsFunc(f.Phases, inPhase)
}

// Journal implements reader.
func (s *storeReader) Journal(ctx context.Context, id string) iter.Seq2[rollout.Entry, error] {
	return s.engine.Journal(ctx, id)
}

// Plan implements reader.
func (s *storeReader) Plan(ctx context.Context, id string) (*rollout.Plan, error) {
	snap, err := s.engine.Rollout(ctx, id)
	return snap.Plan, err
}

// head returns the record that a rollout's key points to, for the audit.
func (s *storeReader) head(ctx context.Context, id string) (store.Record, error) {
	return s.store.Head(ctx, "rollout/"+id)
}
