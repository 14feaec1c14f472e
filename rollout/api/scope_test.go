package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/realtest"
)

// Somebody who has every role, but for team a only, asks every operation of the
// document, about their own rollout and endpoint and about team b's: no answer and
// no stream, from the first event on, tells anything of team b's, and nothing of
// theirs is changed.
func TestScopeTellsNothingOfOthers(t *testing.T) {
	const token = "token-of-all-of-team-a-4d10"
	auth := append(actors(), Token{SHA256: sha256.Sum256([]byte(token)), Actor: Actor{Person: person.Person{ID: "al"},
		Grants: []Grant{{Roles: access.Roles, Labels: map[string]string{"team": "a"}}}}})
	r := serve(t, Config{Auth: auth, Rate: 1e6, Burst: 1e6, Triggers: fakeTriggers{}, AuditHead: fakeHead})
	own, other := r.started(t, "k1", "recs", "7"), r.started(t, "k2", "ads", "secret-version")
	realtest.Eventually(t, "both rollouts in the index", func() bool {
		_, all := r.ask(t, "GET", "/v1/rollouts", tokenOf(RoleView), "")
		return strings.Contains(string(all), own) && strings.Contains(string(all), other)
	})
	before, err := r.engine.Rollout(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	// What team b's policy, rollout, endpoint and label are known by; r1 and r2 are at
	// the endpoints, and nobody knows whose they are.
	secrets := []string{"team-b", `"team":"b"`, "text of ads", "secret-version", "no route to host", `"r1"`, `"r2"`}
	served := 0
	for _, op := range operations(t) {
		for _, about := range []struct {
			id, name string
			also     []string
		}{{own, "recs", []string{other, "ads"}}, {other, "ads", nil}} {
			if op.Security != nil && op.Roles == nil {
				continue // open to all, and the same for all
			}
			status, body := r.glimpse(t, op, fill(op.path, about.id, about.name), token, bodyOf(op.OperationID, about.name))
			if status < 300 {
				served++
			}
			for _, secret := range append(about.also, secrets...) {
				if strings.Contains(body, secret) {
					t.Errorf("%s %s about %s: got %d with %q: %s", op.method, op.path, about.name, status, secret, clip(body, 600))
				}
			}
			if named := about.id == other && strings.Contains(op.path, "{id}"); named && status != http.StatusNotFound && status != http.StatusForbidden {
				t.Errorf("%s %s about another's: got %d, want that there is none: %s", op.method, op.path, status, clip(body, 600))
			}
		}
	}
	if served < 10 {
		t.Errorf("got %d answers, want those to one's own questions", served)
	}
	if after, err := r.engine.Rollout(t.Context(), other); err != nil || after.Revision != before.Revision {
		t.Errorf("team b's rollout: got revision %d, %v, want %d: nobody has touched it", after.Revision, err, before.Revision)
	}
}

// glimpse asks and reads for as long as an answer takes, or a stream has something
// to tell from its first event on.
func (r *rig) glimpse(t *testing.T, op operation, path, token, body string) (status int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var in io.Reader = http.NoBody
	if op.Body != nil {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, op.method, r.url+path, in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "glimpse")
	req.Header.Set("Last-Event-ID", "0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		quiet := time.AfterFunc(3*newsDelay, cancel)
		defer quiet.Stop()
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("%s %s: %v", op.method, path, err)
	}
	return resp.StatusCode, string(b)
}
