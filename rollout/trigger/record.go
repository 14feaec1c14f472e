package trigger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/store"
)

// A Record is what the store keeps of an event that became a rollout, under
// trigger/<source>/<id>. It is created once.
type Record struct {
	SchemaVersion int             `json:"schemaVersion"`
	Trigger       string          `json:"trigger"`
	Source        string          `json:"source"`
	ID            string          `json:"id"`
	Digest        string          `json:"digest"`
	Rollout       string          `json:"rollout"`
	Release       rollout.Release `json:"release"`
	Subject       string          `json:"subject"`
	Sequence      uint64          `json:"sequence"`
	At            time.Time       `json:"at"`
}

// A Refusal is a message that was terminated, as the store keeps it under
// trigger/<trigger>/refused/<stream>-<sequence>. Its event's key stays free.
type Refusal struct {
	SchemaVersion int    `json:"schemaVersion"`
	Trigger       string `json:"trigger"`
	Stream        string `json:"stream"`
	Sequence      uint64 `json:"sequence"`
	Subject       string `json:"subject"`
	// Source and ID are the event's key; empty where it could not be read.
	Source string `json:"source,omitempty"`
	ID     string `json:"id,omitempty"`
	// Reason is for people.
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	// Header holds the ce- headers, Content-Type and Nats-Msg-Id; Body the first
	// 64 KiB of the message.
	Header map[string]string `json:"header,omitempty"`
	Body   []byte            `json:"body"`
	// Published is when the stream took the message: with Sequence it identifies
	// it, also when a stream was made anew.
	Published time.Time `json:"published"`
}

// keptMax bounds what a refusal keeps of a body, keptHeaderMax of each header, and
// keptRefusals how many refusals of one trigger are kept; pruneEvery is after how
// many new ones that is looked at.
const (
	keptMax       = 64 << 10
	keptHeaderMax = 1 << 10
	keptRefusals  = 500
	pruneEvery    = 50
)

func recordKey(source, id string) string {
	return "trigger/" + url.PathEscape(source) + "/" + url.PathEscape(id)
}

// trail reads and writes a trigger's records.
type trail struct {
	store store.Store
	name  string
}

// find returns the record of an event's key; false when there is none.
func (t trail) find(ctx context.Context, source, id string) (Record, bool, error) {
	head, err := t.store.Head(ctx, recordKey(source, id))
	if errors.Is(err, store.ErrNotFound) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("read trigger record: %w", err)
	}
	var r Record
	if err := json.Unmarshal(head.Entry, &r); err != nil {
		return Record{}, false, fmt.Errorf("read trigger record %s: %w", head.Key, err)
	}
	return r, true, nil
}

// create writes the record, or finds the one that is there already.
func (t trail) create(ctx context.Context, r Record) (Record, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return Record{}, fmt.Errorf("encode trigger record: %w", err)
	}
	_, err = t.store.Append(ctx, recordKey(r.Source, r.ID), b, nil, 0)
	switch {
	case err == nil:
		return r, nil
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrUnknown):
		there, ok, findErr := t.find(ctx, r.Source, r.ID)
		if findErr == nil && ok {
			return there, nil
		}
	}
	return Record{}, fmt.Errorf("append trigger record: %w", err)
}

// keep writes a refusal; it reports false when this very message was kept
// before.
func (t trail) keep(ctx context.Context, r Refusal) (bool, error) {
	key := refusedPrefix(t.name) + place(r)
	b, err := json.Marshal(r)
	if err != nil {
		return false, fmt.Errorf("encode refusal: %w", err)
	}
	after := store.Revision(0)
	head, err := t.store.Head(ctx, key)
	switch {
	case err == nil:
		var there Refusal
		if json.Unmarshal(head.Entry, &there) == nil && there.Published.Equal(r.Published) {
			return false, nil
		}
		after = head.Revision // a stream that was made anew counts from 1 again
	case !errors.Is(err, store.ErrNotFound):
		return false, fmt.Errorf("read refusal: %w", err)
	}
	if _, err := t.store.Append(ctx, key, b, nil, after); err != nil {
		return false, fmt.Errorf("append refusal: %w", err)
	}
	return true, nil
}

// prune deletes the oldest refusals beyond the newest keptRefusals: a producer that
// sends nothing else does not fill the store.
func (t trail) prune(ctx context.Context) error {
	var all []store.Record // keys and revisions only
	for head, err := range t.store.Heads(ctx, refusedPrefix(t.name)) {
		if err != nil {
			return fmt.Errorf("read refusals: %w", err)
		}
		all = append(all, store.Record{Key: head.Key, Revision: head.Revision})
	}
	if len(all) <= keptRefusals {
		return nil
	}
	slices.SortFunc(all, func(a, b store.Record) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, old := range all[:len(all)-keptRefusals] {
		if err := t.store.Delete(ctx, old.Key, old.Revision); err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("delete refusal: %w", err)
		}
	}
	return nil
}

func refusedPrefix(name string) string { return "trigger/" + url.PathEscape(name) + "/refused/" }

// place is where a refusal stands among those of its trigger.
func place(r Refusal) string { return fmt.Sprintf("%s-%020d", url.PathEscape(r.Stream), r.Sequence) }

// Refusals returns a page of what the trigger refused and still keeps, the last of
// the stream first, at most limit of them. before is the next of the page before,
// "" for the first one; next is "" where nothing is left.
func (t *Trigger) Refusals(ctx context.Context, before string, limit int) (page []Refusal, next string, err error) {
	more := false
	for head, err := range t.c.Store.Heads(ctx, refusedPrefix(t.c.Name)) {
		if err == nil && before != "" && strings.TrimPrefix(head.Key, refusedPrefix(t.c.Name)) >= before {
			continue // heads may come in any order
		}
		var r Refusal
		if err == nil {
			err = json.Unmarshal(head.Entry, &r)
		}
		if err != nil {
			return nil, "", fmt.Errorf("read refusals of %s: %w", t.c.Name, err)
		}
		i, _ := slices.BinarySearchFunc(page, r, func(a, b Refusal) int { return cmp.Compare(place(b), place(a)) })
		if page = slices.Insert(page, i, r); len(page) > limit {
			page, more = page[:limit], true
		}
	}
	if more && len(page) > 0 {
		next = place(page[len(page)-1])
	}
	return page, next, nil
}

// refusal describes a message that is to be terminated.
func (t *Trigger) refusal(m message, e event, reason string) Refusal {
	r := Refusal{
		SchemaVersion: 1, Trigger: t.c.Name, Stream: t.c.Stream, Sequence: m.sequence, Subject: m.subject,
		Source: e.source, ID: e.id, Reason: reason, At: time.Now().UTC(), Published: m.published.UTC(),
		Header: map[string]string{}, Body: m.body[:min(len(m.body), keptMax)],
	}
	for k, v := range lowered(m.header) {
		if strings.HasPrefix(k, "ce-") || slices.Contains([]string{"content-type", strings.ToLower(nats.MsgIdHdr)}, k) {
			r.Header[k] = strings.ToValidUTF8(v[0][:min(len(v[0]), keptHeaderMax)], "?")
		}
	}
	return r
}

// String says in one line what was refused and why.
func (r Refusal) String() string {
	return fmt.Sprintf("event %s of %s (%s #%d) was refused: %s",
		cmp.Or(r.ID, "without a key"), cmp.Or(r.Source, r.Trigger), r.Stream, r.Sequence, r.Reason)
}
