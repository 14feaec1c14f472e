package daemon

import (
	"bufio"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/rollout/engine"
)

// A config that is wrong changes nothing, however much else in it is right: the
// rollout goes on, who had a right has it, who would have got one has not. It is
// said once, by the log, /readyz and a metric; when it is put right it is taken
// over.
func TestReloadKeepsOldSet(t *testing.T) {
	p := newEstate().place(t)
	b := run(t, at(p, "ann", "ci"))
	id := b.release("ci")
	b.eventually("the gate", func() bool { return b.phase("ann", id) == "waiting" })
	since := b.metric("belay_config_last_reload_success_timestamp_seconds")
	next := at(p, "ann", "ci", "bob")
	for name, bad := range map[string]string{
		"a misspelt key":       next.config() + "sourcs: {}\n",
		"a missing secret":     strings.Replace(next.config(), "secretFile: secret", "secretFile: nowhere", 1),
		"a policy's router":    strings.Replace(next.config(), "{edge:", "{elsewhere:", 1),
		"no policies":          strings.Replace(next.config(), "policies/*.yaml", "polices/*.yaml", 1),
		"a world without auth": strings.Replace(at(p).config(), "listen: 127.0.0.1:0", "listen: 0.0.0.0:0", 1),
		"a subject's prefix":   next.config() + "events: {nats: {url: \"nats://127.0.0.1:1\", subjectPrefix: \"a b\"}}\n",
		"a trigger's map":      next.config() + "triggers: [{nats: {url: \"nats://127.0.0.1:1\", stream: S, subject: s}, map: {polcy: x}}]\n",
		"no YAML":              "{",
	} {
		b.write("belayd.yaml", bad)
		b.hup()
		if code, body := b.ask("GET", "/readyz", "ann", ""); code != http.StatusServiceUnavailable || !strings.Contains(body, `"problems":["`) {
			t.Errorf("%s: readyz: got %d %s", name, code, body)
		}
		if got := b.metric("belay_config_last_reload_successful"); got != "0" {
			t.Errorf("%s: belay_config_last_reload_successful: got %s, want 0", name, got)
		}
		if code, _ := b.ask("GET", "/v1/rollouts", "ann", ""); code != http.StatusOK {
			t.Errorf("%s: the old token: got %d, want 200", name, code)
		}
		if code, _ := b.ask("GET", "/v1/rollouts", "bob", ""); code != http.StatusUnauthorized {
			t.Errorf("%s: a token of the refused config: got %d, want 401", name, code)
		}
	}
	if said, want := strings.Count(b.log.String(), "not taken over"), 8; said != want {
		t.Errorf("eight bad configs, three signals each: got %d lines, want %d", said, want)
	}
	if got := b.metric("belay_config_last_reload_success_timestamp_seconds"); got != since {
		t.Errorf("time of the last success: got %s, want %s", got, since)
	}
	b.act("ann", id, "approve", `{"gate":"owner"}`)
	b.eventually("the promotion under the old set", func() bool { return b.phase("ann", id) == "promoted" })
	b.take(next)
	if code, body := b.ask("GET", "/readyz", "", ""); code != http.StatusOK {
		t.Errorf("put right: readyz: got %d %s", code, body)
	}
	if code, _ := b.ask("GET", "/v1/rollouts", "bob", ""); code != http.StatusOK || b.metric("belay_config_last_reload_successful") != "1" {
		t.Errorf("put right: the new token: got %d, want 200 and a metric of 1", code)
	}
}

// Rights come and go with the next request, from no auth at all to tokens and
// back; a stream that was opened goes on.
func TestReloadTokens(t *testing.T) {
	p := newEstate().place(t)
	b := run(t, at(p))
	allowed := func(token string) int {
		code, _ := b.ask("GET", "/v1/rollouts", token, "")
		return code
	}
	stream, err := http.Get("http://" + b.address + "/v1/events")
	if err != nil || stream.StatusCode != http.StatusOK {
		t.Fatalf("stream: %v %v", err, stream)
	}
	defer func() { _ = stream.Body.Close() }()
	for _, c := range []struct {
		tokens []string
		want   map[string]int
	}{
		{[]string{"ann", "bob"}, map[string]int{"": 401, "ann": 200, "bob": 200, "eve": 401}},
		{[]string{"bob", "eve"}, map[string]int{"": 401, "ann": 401, "bob": 200, "eve": 200}},
		{nil, map[string]int{"": 200}},
		{[]string{"ann"}, map[string]int{"": 401, "ann": 200, "bob": 401}},
	} {
		b.take(at(p, c.tokens...))
		for token, want := range c.want {
			if got := allowed(token); got != want {
				t.Errorf("with tokens %v: %q got %d, want %d", c.tokens, token, got, want)
			}
		}
	}
	for _, said := range []string{"auth is configured: tokens", "no auth is configured: loopback only"} {
		if !strings.Contains(b.log.String(), "auth in force\" outcome=\""+said) {
			t.Errorf("the log does not say %q", said)
		}
	}
	id := b.release("ann")
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), id) {
			return
		}
	}
	t.Errorf("the stream ended without %s: %v", id, lines.Err())
}

// Who a person is follows the config too, for the API and for what is heard.
func TestReloadPeople(t *testing.T) {
	p := newEstate().place(t)
	s := at(p, "ann")
	b := run(t, s)
	s.people = "people: [{id: ann.smith, token: ann}]\n"
	b.take(s)
	id := b.release("ann")
	if _, body := b.ask("GET", "/v1/rollouts/"+id, "ann", ""); !strings.Contains(body, "ann.smith") {
		t.Errorf("the requester: got %s, want ann.smith", body)
	}
}

// A router, a policy that needs it, and the list of policies come in one go: no
// order of the parts would be right.
func TestReloadPolicies(t *testing.T) {
	p := newEstate().place(t)
	b := run(t, at(p))
	b.write("more/other.yaml", strings.NewReplacer("name: recs, owner", "name: other, owner", "router: edge", "router: side").Replace(swift))
	s := at(p)
	s.policies = `"policies/*.yaml", "more/*.yaml"`
	s.noRouter, s.extras = true, "routers: {edge: {webhook: {url: \""+p.URL+"\"}}, side: {webhook: {url: \""+p.URL+"\"}}}\n"
	b.take(s)
	for path, want := range map[string]string{"/v1/policies": `"other"`, "/v1/endpoints": `"side"`} {
		if _, body := b.ask("GET", path, "", ""); !strings.Contains(body, want) {
			t.Errorf("%s: got %s, want %s in it", path, body, want)
		}
	}
	b.take(at(p))
	for path, no := range map[string]string{"/v1/policies": `"other"`, "/v1/endpoints": `"side"`} {
		if _, body := b.ask("GET", path, "", ""); strings.Contains(body, no) {
			t.Errorf("%s after it was taken out: got %s", path, body)
		}
	}
}

// The next page goes where the config says now, signed with the secret that the
// file holds now, also where only the secret was rotated and nobody sent a signal.
func TestReloadNotifier(t *testing.T) {
	e := newEstate()
	p, q := e.place(t), e.place(t)
	b := run(t, at(p))
	e.fail()
	id := b.release("")
	s := at(p)
	s.pages = q.URL
	b.take(s)
	b.eventually("the rollback", func() bool { return b.phase("", id) == "rolled-back" })
	b.eventually("the page", func() bool { return q.paged("") > 0 })
	if n := p.paged(""); n != 0 {
		t.Errorf("got %d messages at the old address, want none", n)
	}
	before := b.metric("belay_config_last_reload_success_timestamp_seconds")
	b.write("secret", canary+"-rotated")
	b.eventually("the rotated secret", func() bool { return strings.Count(b.log.String(), `outcome="notifiers.hook changed"`) == 2 })
	if after := b.metric("belay_config_last_reload_success_timestamp_seconds"); after == before {
		t.Errorf("time of the last success: got %s as before", after)
	}
}

// The router moves in the middle of a rollback that cannot get through: the next
// try is made at the new address, and confirmed there.
func TestReloadMovesRollback(t *testing.T) {
	e := newEstate()
	p, q := e.place(t), e.place(t)
	b := run(t, at(p))
	id := b.release("")
	b.eventually("5%", func() bool { return e.green() == 5 })
	p.refuse()
	e.fail()
	b.eventually("the rollback to begin", func() bool { return b.phase("", id) == "rolling-back" && p.written() > 1 })
	if e.green() != 5 {
		t.Fatalf("green has %d%%, want 5%% while its router is down", e.green())
	}
	s := at(p)
	s.router = q.URL
	b.take(s)
	b.eventually("the end", func() bool { return b.phase("", id) == "rolled-back" })
	if e.green() != 0 || q.written() == 0 {
		t.Errorf("green has %d%% after %d writes at the new address, want 0%% and some", e.green(), q.written())
	}
}

// A router that a rollout needs cannot be taken out: the rollout is named, and
// nothing else of that config is in force. When the rollout has ended, the config
// is taken over without another word.
func TestReloadRefusesUsed(t *testing.T) {
	e := newEstate()
	p := e.place(t)
	b := run(t, at(p, "ann"))
	id := b.release("ann")
	b.eventually("the gate", func() bool { return b.phase("ann", id) == "waiting" })
	b.write("policies/recs.yaml", strings.Replace(swift, "router: edge", "router: other", 1))
	s := at(p, "ann", "bob")
	s.noRouter, s.extras = true, "routers: {other: {webhook: {url: \""+p.URL+"\"}}}\n"
	b.take(s)
	if code, body := b.ask("GET", "/readyz", "ann", ""); code != http.StatusServiceUnavailable || !strings.Contains(body, "router edge is used by "+id) {
		t.Errorf("readyz: got %d %s, want the rollout named", code, body)
	}
	if code, _ := b.ask("GET", "/v1/rollouts", "bob", ""); code != http.StatusUnauthorized {
		t.Errorf("a token of the refused config: got %d, want 401", code)
	}
	// Another kind under the same name is no less gone.
	kind := at(p, "ann", "bob")
	kind.noRouter, kind.extras = true, "routers: {edge: {haproxy: {socket: /run/haproxy/admin.sock}}}\n"
	b.write("policies/recs.yaml", swift)
	b.take(kind)
	if _, body := b.ask("GET", "/readyz", "ann", ""); !strings.Contains(body, "router edge is used by "+id) {
		t.Errorf("another kind: readyz: got %s, want the rollout named", body)
	}
	b.act("ann", id, "rollback", `{"reason":"a hunch"}`)
	b.eventually("stable to have everything", func() bool { return b.phase("ann", id) == "stopped" && e.green() == 0 })
	b.eventually("the config to be taken over", func() bool {
		code, _ := b.ask("GET", "/v1/rollouts", "bob", "")
		return code == http.StatusOK
	})
}

// What only a restart takes over is said and shown, does not make belayd unready,
// and does not keep the rest from being taken over.
func TestReloadNamesRestart(t *testing.T) {
	p := newEstate().place(t)
	b := run(t, at(p, "ann"))
	s := at(p, "ann", "bob")
	s.listen = "127.0.0.1:7999"
	text := strings.Replace(s.config(), "belay.db", "other.db", 1) + "replica: two\n"
	b.write("belayd.yaml", text)
	b.hup()
	if code, _ := b.ask("GET", "/v1/rollouts", "bob", ""); code != http.StatusOK {
		t.Errorf("the new token at the old address: got %d, want 200", code)
	}
	if code, body := b.ask("GET", "/readyz", "", ""); code != http.StatusOK {
		t.Errorf("readyz: got %d %s, want 200", code, body)
	}
	for _, field := range []string{"listen", "store", "replica"} {
		if got := b.metric(`belay_config_restart_required{field="` + field + `"}`); got != "1" {
			t.Errorf("belay_config_restart_required of %s: got %q, want 1", field, got)
		}
	}
	if n := strings.Count(b.log.String(), "config waits for a restart"); n != 1 || !strings.Contains(b.log.String(), "listen, store, replica: ") {
		t.Errorf("got %d lines about the restart, want one that names the fields", n)
	}
	b.take(at(p, "ann", "bob"))
	if got := b.metric(`belay_config_restart_required{field="listen"}`); got != "" {
		t.Errorf("put back: got %q, want no series", got)
	}
}

// What has changed from one generation to the next is named, and what an open rollout
// may need of the one before: what is gone, and what is of another kind now.
func TestGenerationChanges(t *testing.T) {
	file := home(t)
	read := func() *generation {
		c, err := config.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := (&daemon{log: discard()}).assemble(c, nil)
		if err := s.faults.Err(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := read()
	second := read()
	if changes, gone := second.changes(first), second.leaving(first); len(changes) != 0 || len(gone) != 0 {
		t.Errorf("nothing changed: got %v, and %v gone", changes, gone)
	}
	edit(t, file, "routing", canary+"87654321")
	edit(t, file, "belayd.yaml", strings.NewReplacer("durable: nightly", "durable: night", `haproxy: {socket: /run/haproxy/admin.sock}`, `webhook: {url: "http://127.0.0.1:2"}`,
		"  mail:", "  post:", "logs: {loganalytics: {workspace: 1", "logs: {loganalytics: {workspace: 2").Replace(configText))
	edit(t, file, "token", canary+"-new")
	third := read()
	want := "sources.logs changed, routers.lb changed, notifiers.mail removed, notifiers.oncall changed, notifiers.post added, triggers changed"
	if got := strings.Join(third.changes(second), ", "); got != want {
		t.Errorf("changes: got %s, want %s", got, want)
	}
	gone := []engine.AdapterName{{Kind: engine.KindRouter, Name: "lb"}, {Kind: engine.KindNotifier, Name: "mail"}}
	if got := third.leaving(second); !slices.Equal(got, gone) {
		t.Errorf("leaving: got %v, want %v", got, gone)
	}
}

// Signals, good and bad configs, and a router that is needed and taken out come
// all at once while people ask and rollouts run: nobody is ever shut out, every
// answer is of one set, and the rollouts end.
func TestReloadMeanwhile(t *testing.T) {
	e := newEstate()
	p, q := e.place(t), e.place(t)
	b := run(t, at(p, "ann", "ci"))
	id := b.release("ci")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	again := func(do func(n int)) {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					do(n)
				}
			}
		})
	}
	moved, gone := at(p, "ann", "ci", "eve"), at(p, "ann", "ci")
	moved.router, moved.pages = q.URL, q.URL
	gone.noRouter = true
	configs := []string{at(p, "ann", "ci").config(), moved.config(), "{", gone.config()}
	again(func(n int) {
		b.write("belayd.yaml", configs[n%len(configs)])
		select {
		case b.reload <- struct{}{}:
		case <-stop:
		}
		select { // an engine that never lives for an interval reads nothing
		case <-time.After(1500 * time.Millisecond):
		case <-stop:
		}
	})
	again(func(int) {
		select {
		case b.reload <- struct{}{}:
		case <-stop:
		}
	})
	for _, path := range []string{"/v1/rollouts", "/v1/policies", "/v1/endpoints", "/metrics"} {
		again(func(int) {
			if code, body := b.ask("GET", path, "ann", ""); code != http.StatusOK && code != http.StatusTooManyRequests {
				t.Errorf("GET %s: got %d %s", path, code, body)
			}
			time.Sleep(80 * time.Millisecond)
		})
	}
	b.eventually("the gate", func() bool { return b.phase("ann", id) == "waiting" })
	b.act("ann", id, "approve", `{"gate":"owner"}`)
	b.eventually("the promotion", func() bool { return b.phase("ci", id) == "promoted" })
	close(stop)
	wg.Wait()
	if e.green() != 100 {
		t.Errorf("green has %d%%, want 100%%", e.green())
	}
}
