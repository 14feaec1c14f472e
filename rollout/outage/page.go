package outage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/paging"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
)

// A page is what people were told about the engine's store.
type page struct {
	SchemaVersion int `json:"schemaVersion"`
	// Rollout is the rollout whose humans are called, Order are the notifiers to be
	// tried.
	Rollout string   `json:"rollout,omitempty"`
	Order   []string `json:"order,omitempty"`
	// Outage names the outage, Since is when it began. Open: it lasts.
	Outage string            `json:"outage,omitempty"`
	Since  time.Time         `json:"since,omitzero"`
	Open   bool              `json:"open,omitempty"`
	Paging paging.Ledger     `json:"paging"`
	Refs   map[string]string `json:"refs,omitempty"`
	// Stopped is when the process that wrote this stopped in peace.
	Stopped time.Time `json:"stopped,omitzero"`
}

// text identifies the page for its Paging; "" while there is no outage.
func (p *page) text() string {
	if !p.Open {
		return ""
	}
	return p.Outage
}

// shown reports whether somebody shows the page.
func (p *page) shown() bool {
	return slices.ContainsFunc(p.Paging.Views, func(v paging.View) bool { return v.Shows != "" })
}

// A Trace is what the journals tell of this owner's process before: when it appended
// last, and whom it would have called.
type Trace struct {
	at       time.Time
	revision store.Revision
	rollout  string
	page     []string
}

// Add notes the head of a rollout; page is whom it calls, nil when it has ended.
func (t *Trace) Add(s *rollout.State, h record.Head, page []string) {
	if s.At.After(t.at) {
		t.at = s.At
	}
	t.revision = max(t.revision, h.Revision)
	for _, name := range page {
		t.rollout = s.ID
		if !slices.Contains(t.page, name) {
			t.page = append(t.page, name)
		}
	}
}

func (w *Watch) key() string { return record.PagePrefix + url.PathEscape(w.Owner) }

// name names an outage that begins now, with the lock held.
func (w *Watch) name() string { return fmt.Sprintf("store/%s/%d", w.Owner, w.newest) }

// Recall reads, before anything is carried, what people were told, and takes into
// account what the process before could not write down.
func (w *Watch) Recall(ctx context.Context, before Trace) error {
	rec, err := w.Store.Head(ctx, w.key())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read the page about the store: %w", err)
	}
	told := page{SchemaVersion: record.SchemaVersion}
	if err == nil {
		if err := json.Unmarshal(rec.State, &told); err != nil || told.SchemaVersion > record.SchemaVersion {
			w.Log.Error("page about the store not readable",
				"outcome", fmt.Sprintf("schema version %d: %v", told.SchemaVersion, err))
			told = page{SchemaVersion: record.SchemaVersion}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.page, w.revision, w.saved, w.written = told, rec.Revision, "", false
	w.newest, w.settles = max(before.revision, rec.Revision), time.Now().Add(settles)
	peace := !told.Stopped.IsZero() && rec.Revision > before.revision
	w.page.Stopped = time.Time{}
	if peace || w.Now().Sub(before.at) < after {
		return nil
	}
	for _, name := range before.page {
		if !w.page.Paging.OpenAt(name) {
			w.page.Rollout, w.page.Order, w.page.Outage = before.rollout, before.page, ""
			w.page.Paging.Unsure(name)
		}
	}
	return nil
}

// unsaved reports whether the page is to be written, with the lock held.
func (w *Watch) unsaved() bool {
	if w.saved == "" && len(w.page.Paging.Views) == 0 && w.page.Stopped.IsZero() {
		return false
	}
	return !time.Now().Before(w.saveAt) && w.encoded() != w.saved
}

// encoded is the page as it would be written, with the lock held.
func (w *Watch) encoded() string {
	b, err := json.Marshal(w.page)
	if err != nil {
		panic(err) // Unreachable: it is plain data.
	}
	return string(b)
}

// save writes the page down where it has changed.
func (w *Watch) save(ctx context.Context) {
	w.mu.Lock()
	text, after, due := w.encoded(), w.revision, w.unsaved()
	w.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, saveWithin)
	defer cancel()
	rev, err := w.Append(ctx, w.key(), []byte(text), []byte(text), after)
	if errors.Is(err, store.ErrConflict) {
		if rec, readErr := w.Store.Head(ctx, w.key()); readErr == nil {
			after = rec.Revision // Another process of this name: the last word counts.
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.revision, w.saveAt = after, time.Now().Add(saveEvery)
		return
	}
	w.saved, w.revision, w.saveAt, w.written = text, rev, time.Time{}, true
}

// Stop notes that the process stops in peace, so that the next one knows that nobody
// is to be told anything.
func (w *Watch) Stop(ctx context.Context) {
	w.mu.Lock()
	peace := !w.page.Open && len(w.page.Paging.Views) == 0 && len(w.waiting) == 0
	if peace {
		w.page.Stopped = w.Now()
	}
	w.mu.Unlock()
	if peace {
		w.save(ctx)
	}
}
