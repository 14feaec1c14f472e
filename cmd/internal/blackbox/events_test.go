package blackbox

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/realtest/natstest"
)

// A thousand release events for ten endpoints, each published one to three times
// and out of order, with belayd killed in the middle and NATS restarted: exactly
// one rollout for each, and no other.
func TestThousandEvents(t *testing.T) {
	t.Parallel()
	const events, of = 1000, 10
	var names []string
	var policies []string
	for i := range of {
		name := fmt.Sprintf("recs%d", i)
		names = append(names, name)
		policies = append(policies, policy(name, name, "  concurrency: refuse\n", "[{weight: 5%, bake: 10m}, {weight: 100%, bake: 10m}]"))
	}
	e := newEndpoints(t, names...)
	ns := natstest.Serve(t)
	url := ns.ClientURL()
	publisher := publish(t, url)
	w := newWorld(t, e, fmt.Sprintf(`triggers:
  - nats: {url: %q, stream: RELEASES, subject: "models.approved.>", durable: belay}
    map: {policy: data.policy, candidate: data.deployment, version: data.version}
`, url), policies...)

	rng := rand.New(rand.NewPCG(1, 9))
	var bodies []string
	for i := range events {
		body := fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"/ci","type":"approved","data":{"policy":"recs%d","deployment":"green","version":"%d"}}`, i, i%of, i)
		for range 1 + rng.IntN(3) {
			bodies = append(bodies, body)
		}
	}
	rng.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
	began := time.Now()
	for i, b := range bodies {
		publisher(b)
		switch i {
		case len(bodies) / 3, len(bodies) / 2:
			w.kill(syscall.SIGKILL)
			w.start()
		case 2 * len(bodies) / 3:
			ns.Stop()
			ns.Start()
			publisher = publish(t, url)
		}
	}
	versions := func() map[string]int {
		seen := map[string]int{}
		for line := range strings.Lines(w.want(0, "", "list", "--limit", "0")) {
			if f := strings.Fields(line); f[0] != "ID" && len(f) > 4 {
				seen[f[3]]++
			}
		}
		return seen
	}
	realtest.Eventually(t, "a thousand rollouts", func() bool { return len(versions()) == events })
	t.Logf("%d messages for %d events became rollouts in %s, with two kill -9 and a restart of NATS", len(bodies), events, time.Since(began).Round(time.Millisecond))
	realtest.Eventually(t, "every message to be answered", func() bool { return pending(t, url) == 0 })
	seen := versions()
	for i := range events {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("event %d: got %d rollouts, want 1", i, n)
		}
	}
	if len(seen) != events {
		t.Errorf("versions: got %d, want %d", len(seen), events)
	}
	// What cannot become a rollout is told and can be read, with its reason and body.
	publisher("no release at all")
	publisher(`{"specversion":"1.0","id":"e7","source":"/ci","type":"approved","data":{"policy":"recs7","deployment":"red","version":"7"}}`)
	realtest.Eventually(t, "two events to be refused", func() bool { return strings.Count(w.want(0, "", "trigger", "refused"), "nats:RELEASES") == 2 })
	refused := w.want(0, "", "trigger", "refused", "nats:RELEASES", "--output", "json")
	for _, want := range []string{"not JSON", "no release at all", "the same key came before with another body", `"id": "e7"`} {
		if !strings.Contains(refused, want) {
			t.Errorf("refused events: got %s, want %q in them", refused, want)
		}
	}
	for _, n := range names {
		if got := e.green(n); got != 5 {
			t.Errorf("%s: got %d%%, want the 5%% of the one rollout that was not refused", n, got)
		}
		if len(e.writes[n]) != 1 {
			t.Errorf("%s: its weights were written %d times: %v, want once", n, len(e.writes[n]), e.writes[n])
		}
	}
}

// publish makes sure of the stream and returns what publishes on it.
func publish(t testing.TB, url string) func(body string) {
	t.Helper()
	js := natstest.Open(t, url, jetstream.StreamConfig{Name: "RELEASES", Subjects: []string{"models.approved.>"}, Storage: jetstream.FileStorage})
	return func(body string) {
		if _, err := js.Publish(t.Context(), "models.approved.x", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
}

// pending is how many messages belayd has not answered yet.
func pending(t testing.TB, url string) uint64 {
	t.Helper()
	c, err := natstest.Open(t, url).Consumer(t.Context(), "RELEASES", "belay")
	if err != nil {
		t.Fatal(err)
	}
	i := c.CachedInfo()
	return i.NumPending + uint64(i.NumAckPending)
}
