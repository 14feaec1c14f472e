package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/belayd/belay/rollout"
)

// Triggers knows what starts rollouts by events.
type Triggers interface {
	// Triggers lists them, by name.
	Triggers(ctx context.Context) []Trigger
	// Refused returns a page of the events that a trigger refused and still keeps,
	// the last first, and the cursor of the next page; rollout.ErrNotFound when there
	// is no such trigger.
	Refused(ctx context.Context, trigger, cursor string, limit int) (page []RefusedEvent, next string, err error)
}

// A TriggerList is what starts rollouts by events.
type TriggerList struct {
	SchemaVersion int       `json:"schemaVersion"`
	Triggers      []Trigger `json:"triggers"`
}

// A Trigger consumes release events.
type Trigger struct {
	Name string `json:"name"`
	// Kind is the adapter's: "nats".
	Kind     string   `json:"kind"`
	Stream   string   `json:"stream"`
	Subjects []string `json:"subjects"`
	Durable  string   `json:"durable"`
	// Error says why no events are consumed now; empty when they are.
	Error string `json:"error,omitempty"`
	// Refused counts the events refused since belayd started.
	Refused uint64 `json:"refused"`
}

// A RefusedList is a page of refused events.
type RefusedList struct {
	SchemaVersion int            `json:"schemaVersion"`
	Trigger       string         `json:"trigger"`
	Refused       []RefusedEvent `json:"refused"`
	Next          string         `json:"next,omitempty"`
}

// A RefusedEvent is a message that could not become a rollout and is not delivered
// again.
type RefusedEvent struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	Subject  string `json:"subject"`
	// Source and ID are the event's key; empty where it could not be read.
	Source string `json:"source,omitempty"`
	ID     string `json:"id,omitempty"`
	// Reason is for people.
	Reason string `json:"reason"`
	// Published is when the stream took the message, At when it was refused.
	Published time.Time         `json:"published"`
	At        time.Time         `json:"at"`
	Header    map[string]string `json:"header,omitempty"`
	// Body is the beginning of the message as text; Bytes the same where it is none.
	Body  string `json:"body,omitempty"`
	Bytes []byte `json:"bytes,omitempty"`
}

// refusedDefault and refusedMax bound a page of refused events.
const (
	refusedDefault = 20
	refusedMax     = 100
)

// triggers lists what starts rollouts by events.
func (s *Server) triggers(w http.ResponseWriter, r *http.Request, a Actor) error {
	if _, err := query(r); err != nil {
		return err
	}
	if !a.May(nil, RoleOperate) {
		return forbidden(a, []Role{RoleOperate})
	}
	out := TriggerList{SchemaVersion: SchemaVersion, Triggers: []Trigger{}}
	if s.c.Triggers != nil {
		out.Triggers = append(out.Triggers, s.c.Triggers.Triggers(r.Context())...)
	}
	return send(w, http.StatusOK, out)
}

// refused answers with a page of what a trigger refused. Bodies may be about any
// policy: the role must hold for all of them.
func (s *Server) refused(w http.ResponseWriter, r *http.Request, a Actor) error {
	q, err := query(r, "limit", "cursor")
	if err != nil {
		return err
	}
	if !a.May(nil, RoleOperate) {
		return forbidden(a, []Role{RoleOperate})
	}
	n, err := limitOf(q["limit"], refusedDefault)
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	if s.c.Triggers == nil {
		return problem(http.StatusNotFound, TypeNotFound, "No such trigger", "belayd has no triggers")
	}
	out := RefusedList{SchemaVersion: SchemaVersion, Trigger: name}
	out.Refused, out.Next, err = s.c.Triggers.Refused(r.Context(), name, q["cursor"], min(n, refusedMax))
	switch {
	case errors.Is(err, rollout.ErrNotFound):
		return problem(http.StatusNotFound, TypeNotFound, "No such trigger",
			fmt.Sprintf("there is no trigger %q", clip(name, 100)))
	case err != nil:
		return err
	}
	if out.Refused == nil {
		out.Refused = []RefusedEvent{}
	}
	return send(w, http.StatusOK, out)
}

// Triggers lists what starts rollouts by events.
func (c *Client) Triggers(ctx context.Context) (l TriggerList, err error) {
	_, err = c.call(ctx, call{method: "GET", path: "/v1/triggers", out: &l})
	return l, err
}

// Refused returns a page of the events that a trigger refused, the last first;
// cursor is the Next of the page before.
func (c *Client) Refused(ctx context.Context, trigger, cursor string, limit int) (l RefusedList, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	_, err = c.call(ctx,
		call{method: "GET", path: "/v1/triggers/" + url.PathEscape(trigger) + "/refused", query: q, out: &l})
	return l, err
}
