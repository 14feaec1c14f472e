package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/turn"
	"github.com/belayd/belay/rollout/view"
)

// The length of a page: asked for with ?limit=.
const (
	pageDefault    = 100
	pageMax        = 1000
	historyDefault = 200
)

// list answers with a page of rollouts, the newest first.
func (s *Server) list(w http.ResponseWriter, r *http.Request, a Actor) error {
	q, err := query(r, "id", "endpoint", "phase", "owner", "version", "label", "since", "until", "limit", "cursor")
	if err != nil {
		return err
	}
	n, err := limitOf(q["limit"], pageDefault)
	if err != nil {
		return err
	}
	f, err := filter(q)
	if err != nil {
		return badRequest(err.Error())
	}
	from, err := view.ParseCursor(q["cursor"])
	if err != nil {
		return badRequest("cursor: " + err.Error())
	}
	if err := s.index.ready(r.Context()); err != nil {
		return err
	}
	page, more := s.index.page(from, n, func(c *entry) bool { return f.Chooses(&c.Card) && a.May(c.Labels, RoleView) })
	next := ""
	if more {
		next = page[len(page)-1].Cursor()
	}
	writeList(w, page, next)
	return nil
}

// writeList writes a List. The entries are JSON already; encoding them again would
// cost more than all the rest.
func writeList(w http.ResponseWriter, page []entry, next string) {
	size := 64
	for _, c := range page {
		size += len(c.body) + 1
	}
	b := make([]byte, 0, size+len(next))
	b = append(b, `{"schemaVersion":`+strconv.Itoa(SchemaVersion)+`,"rollouts":[`...)
	for i, c := range page {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, c.body...)
	}
	b = append(b, ']')
	if next != "" {
		b = append(b, `,"next":"`+next+`"`...) // base64 needs no escaping
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, "}\n"...)) // the client has gone; there is nobody to tell
}

// filter reads which rollouts are wanted.
func filter(q map[string]string) (f view.Filter, err error) {
	f = view.Filter{
		ID: q["id"], Endpoint: q["endpoint"], Phases: listed(q["phase"]), Owners: listed(q["owner"]), Version: q["version"],
	}
	if f.Labels, err = view.ParseLabels(q["label"]); err != nil {
		return f, err
	}
	for name, at := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if q[name] == "" {
			continue
		}
		if *at, err = time.Parse(time.RFC3339, q[name]); err != nil {
			return f, fmt.Errorf("%s: want a time like 2026-11-30T03:00:00Z (got %.40q)", name, q[name])
		}
	}
	return f, f.Check()
}

func listed(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// find returns a rollout that the actor may see. One that it may not is not
// found.
func (s *Server) find(r *http.Request, a Actor) (rollout.Snapshot, error) {
	snap, err := s.c.Engine.Rollout(r.Context(), r.PathValue("id"))
	if errors.Is(err, rollout.ErrNotFound) {
		s.index.recheck(r.Context(), s.c.Engine, r.PathValue("id"))
	}
	if err != nil {
		return rollout.Snapshot{}, err
	}
	if !a.May(snap.Plan.Policy.Labels, RoleView) {
		return rollout.Snapshot{}, rollout.ErrNotFound
	}
	return snap, nil
}

// get answers with one rollout as it is now.
func (s *Server) get(w http.ResponseWriter, r *http.Request, a Actor) error {
	snap, err := s.find(r, a)
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, view.OfSnapshot(snap))
}

// getPlan answers with the plan that a rollout follows, with the policy's text.
func (s *Server) getPlan(w http.ResponseWriter, r *http.Request, a Actor) error {
	snap, err := s.find(r, a)
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, snap.Plan)
}

// history answers with a page of a rollout's journal.
func (s *Server) history(w http.ResponseWriter, r *http.Request, a Actor) error {
	q, err := query(r, "after", "limit")
	if err != nil {
		return err
	}
	n, err := limitOf(q["limit"], historyDefault)
	if err != nil {
		return err
	}
	after := 0
	if q["after"] != "" {
		if after, err = strconv.Atoi(q["after"]); err != nil || after < 0 {
			return badRequest("after: want the `next` of a page before")
		}
	}
	snap, err := s.find(r, a)
	if err != nil {
		return err
	}
	var page []byte
	err = s.inTurn(r.Context(), a, func(t *turn.Turn) error {
		page, err = s.pageOf(r.Context(), t, snap.Plan.ID, after, n)
		return err
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(page) // the client has gone; there is nobody to tell
	return nil
}

// pageOf is a page of a rollout's journal, a History as JSON: n entries at most, after
// the one of that number.
func (s *Server) pageOf(ctx context.Context, t *turn.Turn, id string, after, n int) ([]byte, error) {
	page := []byte(`{"schemaVersion":` + strconv.Itoa(SchemaVersion) + `,"rollout":` + strconv.Quote(id) + `,"entries":[`)
	last, shown := 0, 0
	for entry, err := range s.c.Engine.Journal(ctx, id) {
		if err == nil {
			err = t.GoOn(ctx)
		}
		switch {
		case err != nil:
			return nil, err
		case entry.Seq <= after:
			continue
		}
		if shown == n {
			return append(page, `],"next":`+strconv.Itoa(last)+"}\n"...), nil
		}
		body, err := json.Marshal(entry)
		if err != nil {
			return nil, fmt.Errorf("encode entry: %w", err)
		}
		if shown++; shown > 1 {
			page = append(page, ',')
		}
		page, last = append(page, body...), entry.Seq
	}
	return append(page, "]}\n"...), nil
}

// query returns the query's parameters; malformed, unknown and repeated ones are
// errors, so that a misspelt filter does not silently match everything.
func query(r *http.Request, known ...string) (map[string]string, error) {
	all, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("query: " + clip(err.Error(), 100))
	}
	out := map[string]string{}
	for k, v := range all {
		if !slices.Contains(known, k) {
			return nil,
				badRequest(fmt.Sprintf("query: there is no parameter %q; there are %s", clip(k, 40), strings.Join(known, ", ")))
		}
		if len(v) != 1 {
			return nil, badRequest(fmt.Sprintf("query: %s stands there %d times", k, len(v)))
		}
		out[k] = v[0]
	}
	return out, nil
}

func limitOf(s string, otherwise int) (int, error) {
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > pageMax {
		return 0, badRequest(fmt.Sprintf("limit: want 1 to %d", pageMax))
	}
	return n, nil
}

// send answers with JSON.
func send(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client has gone; there is nobody to tell
	return nil
}

// clip bounds text that came from outside before it is repeated.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}
