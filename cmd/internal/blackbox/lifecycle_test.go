package blackbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/realtest/natstest"
)

// What a release pipeline hears: one release is promoted while NATS is away and
// belayd is killed before it could tell; the next is rolled back by hand, and
// belayd is killed again. Afterwards the stream holds every change of phase of
// both journals, once and in order, as CDEvents where those have a word for it.
func TestLifecycleEvents(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	ns := natstest.Serve(t)
	url := ns.ClientURL()
	publishRelease := publish(t, url)
	ns.Open(jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"belay.events.>"}, Storage: jetstream.FileStorage})
	w := newWorld(t, e, fmt.Sprintf(`triggers:
  - nats: {url: %[1]q, stream: RELEASES, subject: "models.approved.>", durable: belay}
    map: {policy: data.policy, candidate: data.deployment, version: data.version, artifact: data.artifact, environment: data.environment}
events: {nats: {url: %[1]q}}
`, url), policy("recs", "recs", "", "[{weight: 5%, bake: 3s}, {weight: 100%, bake: 2s}]"))

	publishRelease(release("one", "green", "1"))
	realtest.Eventually(t, "green to have 5%", func() bool { return e.green("recs") == 5 })
	ns.Stop()
	first := ids(w)[0]
	w.want(0, "", "watch", first)
	w.kill(syscall.SIGKILL)
	ns.Start()
	w.start()

	publish(t, url)(release("two", "blue", "2"))
	realtest.Eventually(t, "blue to have 5%", func() bool { return e.green("recs") == 95 })
	second := ids(w)[0]
	if second == first {
		second = ids(w)[1]
	}
	w.want(0, "", "rollback", second, "--reason", "a hunch")
	w.kill(syscall.SIGKILL)
	w.start()
	w.want(6, "", "watch", second)

	for id, want := range map[string][]string{first: {"deployed", "upgraded", "upgraded"}, second: {"deployed", "rolledback"}} {
		var journal []string
		for _, change := range phases(w, id) {
			journal = append(journal, string(change.To))
		}
		var got, services []string
		realtest.Eventually(t, "all events of "+id, func() bool {
			got, services = heard(t, url, id)
			return len(got) >= len(journal)
		})
		if diff := cmp.Diff(journal, got); diff != "" {
			t.Errorf("phases of %s, by its journal and by its events (-journal +events):\n%s", id, diff)
		}
		// A slow machine may have taken the second step before the order came.
		if id == second {
			services = slices.DeleteFunc(services, func(s string) bool { return s == "upgraded" })
		}
		if !slices.Equal(services, want) {
			t.Errorf("CDEvents of %s: got %v, want %v", id, services, want)
		}
	}
}

// release is an approved model as a CloudEvent.
func release(id, deployment, version string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/pipeline","type":"approved","data":{"policy":"recs","deployment":%q,"version":%q,"artifact":"pkg:mlflow/ranker@%s","environment":"prod"}}`,
		id, deployment, version, version)
}

// ids are the rollouts there are.
func ids(w *world) []string {
	return strings.Fields(w.want(0, "", "list", "--output", "name"))
}

// phases are the changes of phase in a rollout's journal, by the command line.
func phases(w *world, id string) []journal.PhaseChange {
	w.t.Helper()
	var h api.History
	if out := w.want(0, "", "history", id, "--output", "json"); json.Unmarshal([]byte(out), &h) != nil {
		w.t.Fatalf("history %s: %s", id, out)
	}
	var all []journal.PhaseChange
	for _, entry := range h.Entries {
		all = append(all, entry.Phases...)
	}
	return all
}

// heard is what the stream says of a rollout: its phases, and the CDEvents among
// its events. No event is there twice.
func heard(t *testing.T, url, id string) (phases, services []string) {
	t.Helper()
	s, err := natstest.Open(t, url).Stream(t.Context(), "EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for n := uint64(1); n <= s.CachedInfo().State.LastSeq; n++ {
		m, err := s.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		event := m.Header.Get("ce-id")
		if !strings.HasPrefix(event, id+"/") {
			continue
		}
		if seen[event] {
			t.Errorf("event %s is there twice", event)
		}
		seen[event] = true
		phases = append(phases, m.Subject[strings.LastIndex(m.Subject, ".")+1:])
		if kind, ok := strings.CutPrefix(m.Header.Get("ce-type"), "dev.cdevents.service."); ok {
			services = append(services, strings.TrimSuffix(kind, ".0.3.0"))
		}
		if at, err := time.Parse(time.RFC3339Nano, m.Header.Get("ce-time")); err != nil || at.IsZero() {
			t.Errorf("event %s: time %q, %v", event, m.Header.Get("ce-time"), err)
		}
	}
	return phases, services
}
