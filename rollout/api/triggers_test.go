package api

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/belayd/belay/rollout"
)

// fakeTriggers is one trigger that refused three messages.
type fakeTriggers struct{}

func (fakeTriggers) Triggers(context.Context) []Trigger {
	return []Trigger{{Name: "nats:RELEASES", Kind: "nats", Stream: "RELEASES", Subjects: []string{"models.approved.>"}, Durable: "belay", Error: "no server", Refused: 3}}
}

func (fakeTriggers) Refused(_ context.Context, name, cursor string, limit int) ([]RefusedEvent, string, error) {
	if name != "nats:RELEASES" {
		return nil, "", rollout.ErrNotFound
	}
	all := []RefusedEvent{
		{Stream: "RELEASES", Sequence: 9, Subject: "models.approved.recs", Reason: "not JSON", Published: begun, At: begun, Body: "hello"},
		{Stream: "RELEASES", Sequence: 7, Subject: "models.approved.recs", Reason: "not JSON", Published: begun, At: begun, Bytes: []byte{0xff}},
		{Stream: "RELEASES", Sequence: 4, Subject: "models.approved.recs", Source: "ci", ID: "1", Reason: "no policy", Published: begun, At: begun, Header: map[string]string{"ce-id": "1"}},
	}
	if cursor == "9" {
		all = all[1:]
	}
	if len(all) > limit {
		return all[:limit], "9", nil
	}
	return all, "", nil
}

// An operator reads what a trigger refused, page by page, the last first, and what
// is not text comes as it was.
func TestRefused(t *testing.T) {
	r := serve(t, Config{Auth: actors(), Triggers: fakeTriggers{}})
	op := r.client(t, tokenOf(RoleOperate))
	l, err := op.Triggers(t.Context())
	if err != nil || len(l.Triggers) != 1 || l.Triggers[0].Error != "no server" || l.Triggers[0].Refused != 3 {
		t.Fatalf("triggers: got %+v, %v", l, err)
	}
	first, err := op.Refused(t.Context(), l.Triggers[0].Name, "", 1)
	if err != nil || len(first.Refused) != 1 || first.Refused[0].Body != "hello" || first.Next == "" {
		t.Fatalf("first page: got %+v, %v, want message 9 and a next", first, err)
	}
	rest, err := op.Refused(t.Context(), l.Triggers[0].Name, first.Next, 5)
	if err != nil || len(rest.Refused) != 2 || !bytes.Equal(rest.Refused[0].Bytes, []byte{0xff}) || rest.Next != "" {
		t.Errorf("the rest: got %+v, %v, want messages 7 and 4", rest, err)
	}
	if _, err := op.Refused(t.Context(), "nobody", "", 5); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("a trigger that there is not: got %v, want ErrNotFound", err)
	}
	if resp, b := r.ask(t, "GET", "/v1/triggers/nobody/refused", tokenOf(RoleOperate), ""); resp.StatusCode != 404 || !bytes.Contains(b, []byte(`there is no trigger \"nobody\"`)) {
		t.Errorf("a trigger that there is not: got %d %s, want 404 and the trigger named", resp.StatusCode, b)
	}
	if _, err := op.Refused(t.Context(), "nats:RELEASES", "", 0); err == nil {
		t.Error("a page of nothing: got no error")
	}
	// The bodies may be about any team's policies.
	if resp, _ := r.ask(t, "GET", "/v1/triggers/nats:RELEASES/refused", "token-of-team-a-77aa", ""); resp.StatusCode != 403 {
		t.Errorf("an operator of one team only: got %d, want 403", resp.StatusCode)
	}
	none := serve(t, Config{})
	if l, err := none.client(t, "").Triggers(t.Context()); err != nil || l.Triggers == nil || len(l.Triggers) != 0 {
		t.Errorf("without triggers: got %+v, %v, want an empty list", l, err)
	}
}
