package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/paging"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/view"
)

const good = `{"policy":"recs","candidate":"green","version":"7","requestedBy":"eve","labels":{"a":"b"}}`

// The same key and body is the same rollout: 201, then 200; another body is 409;
// another actor's key is another key; the policy's text may have changed since.
func TestStartIsIdempotent(t *testing.T) {
	r := serve(t, Config{Auth: actors()})
	start := func(role Role, body string, want int) view.Rollout {
		t.Helper()
		resp, b := r.ask(t, "POST", "/v1/rollouts", tokenOf(role), body, "Idempotency-Key", "k1")
		if resp.StatusCode != want {
			t.Fatalf("start %s as %s: got %d, want %d: %s", body, role, resp.StatusCode, want, b)
		}
		var out view.Rollout
		if want < 300 {
			if err := json.Unmarshal(b, &out); err != nil {
				t.Fatal(err)
			}
			if loc := resp.Header.Get("Location"); loc != "/v1/rollouts/"+out.ID {
				t.Errorf("Location: got %q", loc)
			}
		}
		return out
	}
	first := start(RoleStart, good, http.StatusCreated)
	if first.Requester != "of-start" || first.OnBehalfOf != "eve" || first.Phase == "" {
		t.Errorf("rollout: got %+v, want requester of-start on behalf of eve", first)
	}
	if again := start(RoleStart, good, http.StatusOK); again.ID != first.ID {
		t.Errorf("again: got rollout %s, want %s", again.ID, first.ID)
	}
	start(RoleStart, strings.Replace(good, `"7"`, `"8"`, 1), http.StatusConflict)
	start(RoleStart, strings.Replace(good, `{"a":"b"}`, `{"a":"c"}`, 1), http.StatusConflict)
	if other := start(RoleAdmin, good, http.StatusCreated); other.ID == first.ID {
		t.Error("another actor's key is the same rollout")
	}
	text := `{"policyText":"spec: {}","candidate":"green","version":"7"}`
	resp, b := r.ask(t, "POST", "/v1/rollouts", tokenOf(RoleStart), text, "Idempotency-Key", "k2")
	if p := asProblem(t, resp, b); p.Status != http.StatusForbidden {
		t.Errorf("a policy of one's own without admin: got %d, want 403", p.Status)
	}
	resp, b = r.ask(t, "POST", "/v1/rollouts", tokenOf(RoleAdmin), text, "Idempotency-Key", "k2")
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("a policy of one's own as admin: got %d: %s", resp.StatusCode, b)
	}
	resp, b = r.ask(t, "POST", "/v1/rollouts", tokenOf(RoleAdmin), strings.Replace(text, "{}", "{x}", 1), "Idempotency-Key", "k2")
	if p := asProblem(t, resp, b); p.Type != TypeConflict {
		t.Errorf("another text under the same key: got %+v, want a conflict", p)
	}
}

// What is wrong with a request is said precisely, and nothing starts.
func TestStartRefusals(t *testing.T) {
	r := serve(t, Config{Auth: actors()})
	for _, c := range []struct {
		body   string
		header []string
		status int
		want   string
	}{
		{good, []string{"Idempotency-Key", ""}, 400, "Idempotency-Key"},
		{good, []string{"Idempotency-Key", strings.Repeat("k", 257)}, 400, "1 to 256"},
		{`{`, nil, 400, "body: unexpected EOF"},
		{`{} {}`, nil, 400, "something follows"},
		{`{"polcy":"recs"}`, nil, 400, `unknown field \"polcy\"`},
		{`{"policy":3}`, nil, 400, "number"},
		{`{"policy":"recs","policy":"ads","candidate":"green","version":"1"}`, nil, 400, `field \"policy\" stands there twice`},
		{`{"policy":"recs","candidate":"green","version":"1","Policy":"ads"}`, nil, 400, `field \"Policy\" stands there twice`},
		{`{"policy":"recs","candidate":"green","version":"1","labels":{"team":"a","team":"b"}}`, nil, 400, `field \"team\" stands there twice`},
		{`null`, nil, 400, "candidate: is missing"},
		{`{"policy":"recs","candidate":"","version":""}`, nil, 400, "candidate: is missing; version: is missing"},
		{`{"policy":"recs","policyText":"x","candidate":"g","version":"1"}`, nil, 400, "policy: want a policy's name, or policyText"},
		{"{\"policy\":\"recs\",\"candidate\":\"g\\u0000\",\"version\":\"1\"}", nil, 400, "printable"},
		{`{"policy":"nobody","candidate":"g","version":"1"}`, nil, 404, "nobody"},
		{`{"policy":"recs","candidate":"blue","version":"1"}`, nil, 422, "stable deployment"},
		{good, []string{"Content-Type", "text/yaml"}, 415, "application/json"},
		{`{"policyText":"` + strings.Repeat("x", policyBodyMax) + `"}`, nil, 413, "too large"},
	} {
		resp, b := r.ask(t, "POST", "/v1/rollouts", tokenOf(RoleStart), c.body, append([]string{"Idempotency-Key", "k"}, c.header...)...)
		p := asProblem(t, resp, b)
		if p.Status != c.status || resp.StatusCode != c.status || !strings.Contains(string(b), c.want) {
			t.Errorf("%.60s: got %d %s, want %d and %q", c.body, resp.StatusCode, b, c.status, c.want)
		}
	}
	if len(r.engine.rollouts) != 0 {
		t.Errorf("rollouts: got %d, want none", len(r.engine.rollouts))
	}
}

// An actor whose roles are limited to team a starts, sees and orders nothing of
// team b's: to it, team b's rollouts are not there.
func TestLabelsLimitActors(t *testing.T) {
	r := serve(t, Config{Auth: actors()})
	recs, ads := r.started(t, "k1", "recs", "7"), r.started(t, "k2", "ads", "7")
	const bob = "token-of-team-a-77aa"
	for path, want := range map[string]int{"/v1/rollouts/" + recs: 200, "/v1/rollouts/" + ads: 404, "/v1/rollouts/" + ads + "/history": 404, "/v1/rollouts/" + ads + "/events": 404} {
		if resp, b := r.ask(t, "GET", path, bob, ""); resp.StatusCode != want {
			t.Errorf("GET %s: got %d, want %d: %s", path, resp.StatusCode, want, b)
		}
	}
	if resp, _ := r.ask(t, "POST", "/v1/rollouts/"+ads+"/rollback", bob, `{"reason":"x"}`); resp.StatusCode != 404 {
		t.Errorf("rollback of team b's: got %d, want 404", resp.StatusCode)
	}
	if resp, _ := r.ask(t, "POST", "/v1/rollouts", bob, strings.Replace(good, "recs", "ads", 1), "Idempotency-Key", "k"); resp.StatusCode != 403 {
		t.Errorf("start of team b's policy: got %d, want 403", resp.StatusCode)
	}
	if resp, _ := r.ask(t, "DELETE", "/v1/endpoints/edge/recs/cooldown", bob, ""); resp.StatusCode != 403 {
		t.Errorf("clear a cooldown with limited roles: got %d, want 403", resp.StatusCode)
	}
	_, b := r.ask(t, "GET", "/v1/policies", bob, "")
	if strings.Contains(string(b), "ads") || !strings.Contains(string(b), "recs") {
		t.Errorf("policies: got %s, want recs only", b)
	}
	realtest.Eventually(t, "both rollouts in the index", func() bool {
		_, all := r.ask(t, "GET", "/v1/rollouts", tokenOf(RoleView), "")
		return strings.Contains(string(all), recs) && strings.Contains(string(all), ads)
	})
	_, b = r.ask(t, "GET", "/v1/rollouts", bob, "")
	if strings.Contains(string(b), ads) || !strings.Contains(string(b), recs) {
		t.Errorf("list: got %s, want %s only", b, recs)
	}
}

// An approval is answered by those whom it asks, bound to the asking that they
// saw; what changes nothing is said to change nothing.
func TestApprove(t *testing.T) {
	r := serve(t, Config{Auth: actors()})
	id := r.started(t, "k", "recs", "7")
	ask := func(token, verb, body string) (int, string) {
		resp, b := r.ask(t, "POST", "/v1/rollouts/"+id+"/"+verb, token, body)
		return resp.StatusCode, string(b)
	}
	if code, b := ask("token-of-ann-0b5d", "approve", ""); code != 409 || !strings.Contains(b, "no approval is asked for now") {
		t.Errorf("approve before anything is asked: got %d %s", code, b)
	}
	r.engine.set(id, fullState)
	if code, b := ask(tokenOf(RoleApprove), "approve", "{}"); code != 403 || !strings.Contains(b, "ann, owners") {
		t.Errorf("approve by somebody who is not asked: got %d %s", code, b)
	}
	if code, b := ask("token-of-ann-0b5d", "reject", `{}`); code != 400 || !strings.Contains(b, "say why") {
		t.Errorf("reject without a reason: got %d %s", code, b)
	}
	if code, b := ask("token-of-ann-0b5d", "approve", `{"gate":"budget"}`); code != 409 || !strings.Contains(b, `\"budget\" is not asked`) {
		t.Errorf("approve of a gate that is not there: got %d %s", code, b)
	}
	if code, b := ask("token-of-zoe-91c2", "approve", `{"reason":"looks good","nonce":"n1"}`); code != 200 {
		t.Errorf("approve by one of the group: got %d %s", code, b)
	}
	for _, ev := range r.engine.acts {
		if ev.Kind != rollout.EventAnswered || !ev.Approve || ev.Gate != "owner" || ev.Nonce != "n1" || ev.By == nil || ev.By.ID != "zoe" {
			t.Errorf("answer that reached the engine: got %+v", ev)
		}
	}
	if len(r.engine.acts) != 1 {
		t.Errorf("answers that reached the engine: got %d, want 1", len(r.engine.acts))
	}
	if code, b := ask("token-of-ann-0b5d", "approve", `{"gate":"free"}`); code != 409 {
		t.Errorf("approve of a gate that is not asked for: got %d %s", code, b)
	}
	if code, b := ask("token-of-ann-0b5d", "reject", `{"reason":"late"}`); code != 409 {
		t.Errorf("reject after the gate was opened: got %d %s", code, b)
	}
}

// A client whose connection broke repeats its request under the same key. The gate
// is open, or the rollout over, by then: it is told that its answer counted, and
// another answer under the key is refused. Nobody else gains by the key.
func TestRepeatedAct(t *testing.T) {
	r := serve(t, Config{Auth: actors()})
	id := r.started(t, "k", "recs", "7")
	ask := func(token, verb, body, key string) (int, string) {
		t.Helper()
		resp, b := r.ask(t, "POST", "/v1/rollouts/"+id+"/"+verb, token, body, "Idempotency-Key", key)
		return resp.StatusCode, string(b)
	}
	r.engine.set(id, fullState)
	const zoe, ann = "token-of-zoe-91c2", "token-of-ann-0b5d"
	if code, b := ask(zoe, "approve", `{"reason":"good"}`, "k1"); code != 200 {
		t.Fatalf("approve: got %d %s", code, b)
	}
	for _, phase := range []rollout.Phase{rollout.PhaseShifting, rollout.PhasePromoted} {
		r.engine.set(id, func(s *rollout.State) { s.Phase = phase })
		for _, c := range []struct {
			story, token, verb, body, key string
			want                          int
		}{
			{"the same again", zoe, "approve", `{"reason":"good"}`, "k1", 200},
			{"the same again, and which gate", zoe, "approve", `{"reason":"good","gate":"owner","nonce":"n1"}`, "k1", 200},
			{"another gate", zoe, "approve", `{"reason":"good","gate":"free"}`, "k1", 409},
			{"another reason", zoe, "approve", `{"reason":"bad"}`, "k1", 409},
			{"another asking", zoe, "approve", `{"reason":"good","nonce":"n2"}`, "k1", 409},
			{"a no under the key of the yes", zoe, "reject", `{"reason":"good"}`, "k1", 409},
			{"an order under the key of the yes", zoe, "rollback", `{"reason":"good"}`, "k1", 409},
			{"a new key", zoe, "approve", `{"reason":"good"}`, "k2", 409},
			{"somebody else's key", ann, "approve", `{"reason":"good"}`, "k1", 409},
			{"somebody without the role", tokenOf(RoleView), "approve", `{"reason":"good"}`, "k1", 403},
		} {
			if code, b := ask(c.token, c.verb, c.body, c.key); code != c.want {
				t.Errorf("%s while %s: got %d %s, want %d", c.story, phase, code, b, c.want)
			}
		}
	}
	if len(r.engine.acts) != 1 {
		t.Errorf("acts that reached the engine: got %d, want 1", len(r.engine.acts))
	}
}

// Commands reach the engine with who gave them and why; those that change nothing
// are answered with 409 and the reason.
func TestCommands(t *testing.T) {
	r := serve(t, Config{Auth: actors()})
	id := r.started(t, "k", "recs", "7")
	r.engine.set(id, fullState)
	op := r.client(t, tokenOf(RoleOperate))
	paused, err := op.Act(t.Context(), id, "pause", "key-1", Act{Reason: "lunch"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.Act(t.Context(), id, "pause", "key-1", Act{Reason: "lunch"}); err != nil {
		t.Errorf("the same act again: %v", err)
	}
	if _, err := op.Act(t.Context(), id, "pause", "key-1", Act{Reason: "dinner"}); !errors.Is(err, rollout.ErrDifferent) {
		t.Errorf("another act under the same key: got %v, want ErrDifferent", err)
	}
	if paused.Phase != rollout.PhasePaused || len(r.engine.acts) != 1 {
		t.Errorf("after pause: got phase %s and %d acts", paused.Phase, len(r.engine.acts))
	}
	for _, extend := range []string{"", "soon", "-5m", "10000h"} {
		if _, err := op.Act(t.Context(), id, "extend", "", Act{Reason: "r", Extend: extend}); err == nil || !strings.Contains(err.Error(), "like 30m") {
			t.Errorf("extend by %q: got %v, want an error", extend, err)
		}
	}
	if _, err := op.Act(t.Context(), id, "resume", "", Act{Reason: "r", Extend: "5m"}); err == nil {
		t.Error("resume with extend: got no error")
	}
	resumed, err := op.Act(t.Context(), id, "resume", "key-2", Act{Reason: "back"})
	if err != nil || resumed.Phase == rollout.PhasePaused {
		t.Errorf("resume: got phase %s, %v", resumed.Phase, err)
	}
	for _, ev := range r.engine.acts {
		if ev.Hold.IsZero() != (ev.Command == rollout.CommandPause) {
			t.Errorf("%s: got hold %v, want a resume alone to name the hold that it ends", ev.Command, ev.Hold)
		}
	}
	var p *ProblemDetails
	if _, err := op.Act(t.Context(), r.started(t, "k2", "recs", "8"), "extend", "", Act{Reason: "r", Extend: "5m"}); !errors.As(err, &p) || p.Type != TypeNoEffect || p.Detail == "" {
		t.Errorf("extend before there is a step: got %v, want a no-effect problem that says why", err)
	}
	if _, err := op.Act(t.Context(), id, "ack", "", Act{}); !errors.As(err, &p) || !strings.Contains(p.Detail, "no open page") {
		t.Errorf("acknowledge where nobody is called: got %v, want that said", err)
	}
	r.engine.set(id, func(s *rollout.State) {
		s.Phase, s.Shift, s.Hold = rollout.PhaseHeld, nil, &rollout.Hold{Reason: decision.ReasonUndecided, Sentence: "look", Since: s.At}
		s.Page = &paging.OpenPage{Since: s.At, Cause: "hold/" + s.At.UTC().Format("2006-01-02T15:04:05.000Z"), Summary: "look"}
	})
	acked, err := op.Act(t.Context(), id, "ack", "", Act{})
	if err != nil || acked.Page == nil || acked.Page.Acknowledged == nil || acked.Page.Acknowledged.By != "of-operate" || acked.Page.Acknowledged.At.IsZero() {
		t.Errorf("acknowledge without a reason: got page %+v, %v, want that it says who took it", acked.Page, err)
	}
	r.engine.set(id, func(s *rollout.State) { s.Phase, s.Page = rollout.PhasePromoted, nil })
	if _, err := op.Act(t.Context(), id, "rollback", "", Act{Reason: "r"}); !errors.Is(err, rollout.ErrEnded) {
		t.Errorf("rollback of an ended rollout: got %v, want ErrEnded", err)
	}
	if _, err := op.Act(t.Context(), "nobody", "pause", "", Act{Reason: "r"}); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("pause of no rollout: got %v, want ErrNotFound", err)
	}
	if err := op.ClearCooldown(t.Context(), rollout.EndpointRef{Router: "edge", Name: "recs"}, "6", " "); err == nil || !strings.Contains(err.Error(), "say why") {
		t.Errorf("ClearCooldown without a reason: got %v", err)
	}
	if err := op.ClearCooldown(t.Context(), rollout.EndpointRef{Router: "edge", Name: "none"}, "6", "why not"); err == nil || !strings.Contains(err.Error(), "no such cooldown is under way at edge/none") {
		t.Errorf("clear a cooldown that there is none of: got %v, want that said", err)
	}
	if err := op.ClearCooldown(t.Context(), rollout.EndpointRef{Router: "edge", Name: "recs"}, "6", "it was the database"); err != nil || r.engine.cooldown["endpoint/edge/recs 6"] != "of-operate: it was the database" {
		t.Errorf("clear cooldown: got %v %v", err, r.engine.cooldown)
	}
}

// An internal error stays in the log; the client gets the request's id.
func TestInternalErrorsStayInside(t *testing.T) {
	r := serve(t, Config{})
	id := r.started(t, "k", "recs", "7")
	r.engine.fail = fmt.Errorf("open /var/lib/secret-path: denied")
	resp, b := r.ask(t, "POST", "/v1/rollouts/"+id+"/pause", "", `{"reason":"r"}`, "X-Request-Id", "req-42")
	p := asProblem(t, resp, b)
	if p.Status != 500 || strings.Contains(string(b), "secret-path") || p.Instance != "req-42" {
		t.Errorf("got %s, want a 500 with the request's id and no cause", b)
	}
	if log := r.log.String(); !strings.Contains(log, "secret-path") || !strings.Contains(log, "req-42") {
		t.Errorf("log: got %q, want the cause under the request's id", log)
	}
}

// An endpoint whose traffic somebody turned off shows that: an empty split is not
// the same as one that is not known.
func TestTrafficOffIsShown(t *testing.T) {
	s := rollout.Start(fakePlan("r1", rollout.Release{Policy: "recs"}, ""), begun)
	s.Confirmed, s.Observed = &split.Split{Weights: map[string]int{"blue": 95, "green": 5}}, &split.Split{}
	b, err := json.Marshal(view.Of(fakePlan("r1", rollout.Release{Policy: "recs"}, ""), s))
	if err != nil || !strings.Contains(string(b), `"observed":{}`) {
		t.Errorf("traffic off: got %s, %v, want observed to be empty", b, err)
	}
	s.Observed = nil
	if b, err = json.Marshal(view.Of(fakePlan("r1", rollout.Release{Policy: "recs"}, ""), s)); err != nil || strings.Contains(string(b), "observed") {
		t.Errorf("nothing else observed: got %s, %v, want no observed", b, err)
	}
}
