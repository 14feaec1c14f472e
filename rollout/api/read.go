package api

import (
	"context"
	"encoding/base64"
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
	"github.com/belayd/belay/rollout/journal"
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
	q, err := query(r, "endpoint", "phase", "owner", "limit", "cursor")
	if err != nil {
		return err
	}
	n, err := limitOf(q["limit"], pageDefault)
	if err != nil {
		return err
	}
	match, err := filter(q, a)
	if err != nil {
		return err
	}
	from, err := parseCursor(q["cursor"])
	if err != nil {
		return err
	}
	if err := s.index.ready(r.Context()); err != nil {
		return err
	}
	page, more := s.index.page(from, n, match)
	next := ""
	if more {
		next = cursorOf(page[len(page)-1])
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

// filter makes the condition of a list: the endpoint is a name or router/name;
// phase and owner may be repeated by commas.
func filter(q map[string]string, a Actor) (func(*entry) bool, error) {
	phases := listed(q["phase"])
	for _, p := range phases {
		if !slices.Contains(rollout.Phases, rollout.Phase(p)) && p != "open" {
			return nil, badRequest(fmt.Sprintf("phase: there is no phase %q", clip(p, 40)))
		}
	}
	owners := listed(q["owner"])
	router, name, both := strings.Cut(q["endpoint"], "/")
	if !both {
		router, name = "", q["endpoint"]
	}
	return func(c *entry) bool {
		switch {
		case name != "" && c.name != name, router != "" && c.router != router:
			return false
		case len(owners) > 0 && !slices.Contains(owners, c.owner):
			return false
		case len(phases) > 0 && !slices.ContainsFunc(phases, func(p string) bool { return p == string(c.phase) || p == "open" && !c.phase.Terminal() }):
			return false
		}
		return a.May(c.labels, RoleView)
	}, nil
}

func listed(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// cursorOf names a entry's place in the list; parseCursor finds it again, also
// when the entry is gone.
func cursorOf(c entry) string {
	return base64.RawURLEncoding.EncodeToString([]byte(c.created.UTC().Format(time.RFC3339Nano) + " " + c.id))
}

func parseCursor(s string) (*entry, error) {
	if s == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	at, id, ok := strings.Cut(string(b), " ")
	created, timeErr := time.Parse(time.RFC3339Nano, at)
	if err != nil || !ok || timeErr != nil {
		return nil, badRequest("cursor: want the `next` of a page before")
	}
	return &entry{id: id, created: created}, nil
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
	out, err := s.pageOf(r.Context(), snap.Plan.ID, after, n)
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, out)
}

// pageOf is a page of a rollout's journal: n entries at most, after the one of that
// number.
func (s *Server) pageOf(ctx context.Context, id string, after, n int) (History, error) {
	done, err := s.heavy.enter(ctx)
	if err != nil {
		return History{}, err
	}
	defer done()
	out := History{SchemaVersion: SchemaVersion, Rollout: id, Entries: []journal.Entry{}}
	for entry, err := range s.c.Engine.Journal(ctx, id) {
		switch {
		case err != nil:
			return History{}, err
		case entry.Seq <= after:
			continue
		}
		if len(out.Entries) == n {
			out.Next = out.Entries[n-1].Seq
			break
		}
		out.Entries = append(out.Entries, entry)
	}
	return out, nil
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
			return nil, badRequest(fmt.Sprintf("query: there is no parameter %q; there are %s", clip(k, 40), strings.Join(known, ", ")))
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
