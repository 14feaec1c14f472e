package daemon

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/api"
)

// A config with something wrong in it is used all the same: what is wrong is
// missing by name, and all the rest is there. What is wrong about who may do what
// lets nobody in, and what may be a misspelt word about it too.
func TestFaults(t *testing.T) {
	good := configText + "events: {nats: {url: \"nats://127.0.0.1:1\", subjectPrefix: belay.events}}\n"
	const (
		whole   = "5 sources, 3 routers, 5 notifiers, 2 triggers, events, 1 policies"
		trigger = "5 sources, 3 routers, 5 notifiers, 1 triggers, events, 1 policies"
		policy  = "5 sources, 3 routers, 5 notifiers, 2 triggers, events, 0 policies"
		sink    = "5 sources, 3 routers, 5 notifiers, 2 triggers, 1 policies"
	)
	for _, c := range []struct {
		name, old, new string
		at, says, runs string
		locked, deaf   bool
	}{
		{name: "a source's key", old: "prometheus: {url:", new: "prometheus: {urll:", at: "sources.prom", says: "did you mean url", runs: whole},
		{name: "a notifier's secret", old: "secretFile: secret", new: "secretFile: missing", at: "notifiers.hook", says: "no such file", runs: whole},
		{name: "a notifier of no kind", old: "source: /belay/prod}}", new: "source: /belay/prod}, x: 1}", at: "notifiers.hook", says: "no such key", runs: whole},
		{name: "a router's kind", old: "webhook: {url: \"http://127.0.0.1:1\"}", new: "webhok: {url: x}", at: "routers", says: "did you mean webhook", runs: policy},
		{name: "a section's name", old: "\nsources:", new: "\nsourcs:", at: "sources", says: "did you mean sources", runs: "0 sources, 3 routers, 5 notifiers, 2 triggers, events, 0 policies"},
		{name: "a trigger's name", old: "name: nightly, ", new: "", at: "triggers[1]", says: "is called nats:RELEASES already", runs: trigger},
		{name: "no policies", old: "policies/*.yaml", new: "polices/*.yaml", at: "policies", says: "matches no file", runs: policy},
		{name: "the events' key", old: "subjectPrefix:", new: "subjectPrefx:", at: "events", says: "did you mean subjectPrefix", runs: sink},
		{name: "whom to tell", old: "listen: 127.0.0.1:0", new: "tell: [nobody]\nlisten: 127.0.0.1:0", at: "tell[0]", says: "there is no notifier", runs: whole},
		{name: "a token's sum", old: "listen: 127.0.0.1:0", new: "auth: {tokens: [{name: a, roles: [view], sha256: x}]}\nlisten: 127.0.0.1:0", at: "auth.tokens[0]", says: "want a SHA-256", runs: whole, locked: true},
		{name: "an issuer that is none", old: "listen: 127.0.0.1:0", new: "auth: {oidc: {issuer: nowhere, audience: b, grants: [{everyone: true, roles: [view]}]}}\nlisten: 127.0.0.1:0", at: "auth.oidc", says: "want an https address", runs: whole, locked: true},
		{name: "auth misspelt", old: "listen: 127.0.0.1:0", new: "auht: {tokens: []}\nlisten: 127.0.0.1:0", at: "auth", says: "did you mean auth", runs: whole, locked: true},
		{name: "a word like no other", old: "listen: 127.0.0.1:0", new: "authentication_of_all: {}\nlisten: 127.0.0.1:0", at: "", says: "no such key", runs: whole, locked: true, deaf: true},
		{name: "people", old: "listen: 127.0.0.1:0", new: "people: [{id: ann, slak: U1}]\nlisten: 127.0.0.1:0", at: "people", says: "did you mean slack", runs: whole, locked: true, deaf: true},
		{name: "all the world", old: "listen: 127.0.0.1:0", new: "listen: 0.0.0.0:7070", at: "listen", says: "no auth is configured", runs: whole, locked: true, deaf: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := home(t)
			text := strings.Replace(good, c.old, c.new, 1)
			if text == good {
				t.Fatalf("%q is not in the config", c.old)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			config, known, err := config.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			d := &daemon{log: discard()}
			s, _ := d.assemble(config, known)
			why := s.faults.At(c.at)
			if why == nil || !strings.Contains(why.Error(), c.says) || !strings.Contains(why.Error(), "belayd.yaml:") {
				t.Errorf("what is wrong at %s: got %v, want that %q in belayd.yaml", c.at, why, c.says)
			}
			if got := inventory(s); got != c.runs {
				t.Errorf("what runs: got %s, want %s", got, c.runs)
			}
			if deaf := len(s.inboxes()) == 0; deaf != c.deaf {
				t.Errorf("nobody is heard: got %v, want %v", deaf, c.deaf)
			}
			_, err = authentication(func() *generation { return s }).Authenticate(asked(t))
			if p, ok := err.(*api.ProblemDetails); c.locked != (ok && p.Status == http.StatusServiceUnavailable) { //nolint:errorlint // as the API asks
				t.Errorf("locked: got %v, want %v", err, c.locked)
			}
			if name, ok := strings.CutPrefix(c.at, "notifiers."); ok {
				if _, err := s.notifiers[name].Notify(t.Context(), notifier.Notice{}); err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("the notifier that is missing: got %v", err)
				}
			}
		})
	}
}

// A config of which not all was read lets nobody in, whatever it says about that
// further down.
func TestFaultsManyProblems(t *testing.T) {
	file := home(t)
	var junk strings.Builder
	for i := range 2 * document.MaxProblems {
		fmt.Fprintf(&junk, "k%d: 1, ", i)
	}
	text := strings.Replace(configText, "prometheus: {url:", "prometheus: {"+junk.String()+"url:", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, known, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := (&daemon{log: discard()}).assemble(config, known)
	if _, err := authentication(func() *generation { return s }).Authenticate(asked(t)); err == nil {
		t.Error("somebody was let in")
	}
}

// inventory is what there is of a generation, missing adapters too.
func inventory(s *generation) string {
	text := fmt.Sprintf("%d sources, %d routers, %d notifiers, %d triggers, ", len(s.sources), len(s.routers), len(s.notifiers), len(s.triggers))
	if s.sink != nil {
		text += "events, "
	}
	return text + fmt.Sprintf("%d policies", len(s.policies.ByName))
}

func asked(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/v1/rollouts", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
