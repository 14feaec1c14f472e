// Package admission keeps the records of who may move an endpoint.
//
// The rules of the package:
//   - What becomes of a claim is the core's to decide (see claim.Admit).
//   - A process has one writer of an endpoint's record: whoever wants to change it
//     leaves a request, and who comes first does the work of all in one write. Of
//     races with other processes only so many are run at once.
//   - A rollout learns of the record when it says something else to it than before.
package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

// tries bounds how often a change is tried against other processes' at once.
const tries = 8

// Records are the records of all endpoints. Its methods are safe for concurrent use.
type Records struct {
	Store store.Store
	// Append appends a record and settles what the store leaves open.
	Append func(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error)
	// Changed is told of each rollout to which a record says something else than before.
	Changed func(rolloutID string)

	mu      sync.Mutex
	writers map[rollout.EndpointRef]*writer
}

// A writer is the one writer of an endpoint's record.
type writer struct {
	turn chan struct{}

	mu       sync.Mutex
	requests []*request
	// rec is the record at rev as it was last read or written; known: there is one.
	rec   claim.Record
	rev   store.Revision
	known bool
}

// A request is a change that somebody wants, and what came of it.
type request struct {
	ev   claim.Event
	done chan struct{}
	rec  claim.Record
	err  error
}

// Admit folds an event into an endpoint's record until it is in the store, and
// returns the record: as it was right after the event where that refused a claim, and
// otherwise as it is in the store.
func (r *Records) Admit(
	ctx context.Context, ref rollout.EndpointRef, ev claim.Event,
) (claim.Record, error) {
	w, q := r.writer(ref), &request{ev: ev, done: make(chan struct{})}
	w.mu.Lock()
	w.requests = append(w.requests, q)
	w.mu.Unlock()
	select {
	case w.turn <- struct{}{}:
		// Even if this caller goes away meanwhile: others wait for the same write.
		r.settle(context.WithoutCancel(ctx), ref, w)
		<-w.turn
	case <-q.done:
	case <-ctx.Done():
	}
	select {
	case <-q.done:
		return q.rec, q.err
	case <-ctx.Done():
		return claim.Record{}, context.Cause(ctx)
	}
}

// Read reads an endpoint's record from the store; a fresh one when there is none.
func (r *Records) Read(ctx context.Context, ref rollout.EndpointRef) (claim.Record, error) {
	rec, _, err := r.read(ctx, ref)
	return rec, err
}

// Committed notes what was committed of an endpoint's record, by this process or
// another.
func (r *Records) Committed(ref rollout.EndpointRef, rec store.Record) {
	w := r.writer(ref)
	w.mu.Lock()
	old := w.known && rec.Revision <= w.rev
	w.mu.Unlock()
	if old {
		return
	}
	if decoded, err := record.DecodeEndpoint(ref, rec); err == nil {
		r.learn(w, decoded, rec.Revision)
	} else {
		w.forget()
	}
}

// writer returns the writer of an endpoint's record.
func (r *Records) writer(ref rollout.EndpointRef) *writer {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.writers[ref]
	if w == nil {
		if r.writers == nil {
			r.writers = map[rollout.EndpointRef]*writer{}
		}
		w = &writer{turn: make(chan struct{}, 1)}
		r.writers[ref] = w
	}
	return w
}

// settle does what all requests ask for, in one write.
func (r *Records) settle(ctx context.Context, ref rollout.EndpointRef, w *writer) {
	w.mu.Lock()
	all := w.requests
	w.requests = nil
	w.mu.Unlock()
	if len(all) == 0 {
		return
	}
	var err error
	for range tries {
		if err = r.write(ctx, ref, w, all); !errors.Is(err, store.ErrConflict) {
			break
		}
		// Somebody else wrote the record: decide again on what is true now.
	}
	if errors.Is(err, store.ErrConflict) {
		err = fmt.Errorf("change endpoint %s: too many writers at once: %w", ref.Key(), err)
	}
	for _, q := range all {
		q.err = err
		close(q.done)
	}
}

// write folds the requests into the record and writes it where it then differs.
func (r *Records) write(ctx context.Context, ref rollout.EndpointRef, w *writer, all []*request) error {
	before, rev, err := r.present(ctx, ref, w)
	if err != nil {
		return err
	}
	after := before
	evs := make([]claim.Event, len(all))
	for i, q := range all {
		after = claim.Admit(after, q.ev)
		after.Endpoint = ref
		q.rec, evs[i] = after, q.ev
	}
	if !before.SameRights(after) {
		entry, err := json.Marshal(evs)
		if err != nil {
			return fmt.Errorf("encode endpoint events: %w", err)
		}
		state, err := json.Marshal(after)
		if err != nil {
			return fmt.Errorf("encode endpoint %s: %w", ref.Key(), err)
		}
		if rev, err = r.Append(ctx, ref.Key(), entry, state, rev); err != nil {
			w.forget()
			return err
		}
	}
	after.Refused, after.Sentence = "", ""
	r.learn(w, after, rev)
	for _, q := range all {
		if q.rec.Refused == "" {
			q.rec = after
		}
	}
	return nil
}

// present is the record as it is known, or as it stands in the store.
func (r *Records) present(
	ctx context.Context, ref rollout.EndpointRef, w *writer,
) (claim.Record, store.Revision, error) {
	w.mu.Lock()
	rec, rev, known := w.rec, w.rev, w.known
	w.mu.Unlock()
	if known {
		return rec, rev, nil
	}
	rec, rev, err := r.read(ctx, ref)
	if err != nil {
		return rec, rev, err
	}
	r.learn(w, rec, rev)
	return rec, rev, nil
}

// read reads an endpoint's record and its revision.
func (r *Records) read(ctx context.Context, ref rollout.EndpointRef) (claim.Record, store.Revision, error) {
	fresh := claim.Record{SchemaVersion: record.SchemaVersion, Endpoint: ref}
	rec, err := r.Store.Head(ctx, ref.Key())
	if errors.Is(err, store.ErrNotFound) {
		return fresh, 0, nil
	}
	if err != nil {
		return fresh, 0, fmt.Errorf("read endpoint %s/%s: %w", ref.Router, ref.Name, err)
	}
	decoded, err := record.DecodeEndpoint(ref, rec)
	if err != nil {
		return fresh, 0, err
	}
	return decoded, rec.Revision, nil
}

// forget makes the record be read again.
func (w *writer) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known = false
}

// learn notes what the record is, and tells of those to whom it says something else
// than before.
func (r *Records) learn(w *writer, rec claim.Record, rev store.Revision) {
	w.mu.Lock()
	if w.known && rev < w.rev {
		w.mu.Unlock()
		return
	}
	before := w.rec
	w.rec, w.rev, w.known = rec, rev, true
	w.mu.Unlock()
	for _, id := range before.Changed(rec) {
		r.Changed(id)
	}
}
