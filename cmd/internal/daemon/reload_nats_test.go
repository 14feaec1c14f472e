package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A trigger and a sink are added, changed while releases are published, and taken
// away again, all by reloads. Each release is one rollout, whichever consumer of
// the durable name took it, and the sink goes on where the one before it stood.
func TestReloadTriggers(t *testing.T) {
	url, js := natsServer(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "RELEASES", Subjects: []string{"models.>"}}); err != nil {
		t.Fatal(err)
	}
	e := newEstate()
	p := e.place(t)
	b := run(t, at(p))
	s := at(p)
	with := func(fields string) settings {
		s.extras = fmt.Sprintf("triggers: [{nats: {url: %[1]q, stream: RELEASES, subject: 'models.>', durable: belay}, map: {policy: policy, candidate: candidate, version: version%[2]s}}]\n"+
			"events: {nats: {url: %[1]q}}\nexternalURL: https://belay.example/%[3]d\n", url, fields, len(fields))
		return s
	}
	b.take(with(""))
	const releases = 40
	for n := range releases {
		body := fmt.Sprintf(`{"id":"r%d","policy":"recs","candidate":"green","version":"v%d","who":"ci"}`, n, n)
		if _, err := js.Publish(t.Context(), "models.approved", []byte(body)); err != nil {
			t.Fatal(err)
		}
		if n%5 == 4 {
			fields := map[bool]string{true: "", false: ", requestedBy: who"}[n%10 == 9]
			b.take(with(fields))
		}
	}
	list := func() string { _, body := b.ask("GET", "/v1/rollouts?limit=100", "", ""); return body }
	b.eventually("a rollout of every release", func() bool {
		return strings.Count(list(), `"id":"`) == releases
	})
	for n := range releases {
		if c := strings.Count(list(), fmt.Sprintf(`"version":"v%d"`, n)); c != 1 {
			t.Errorf("v%d: got %d rollouts, want 1", n, c)
		}
	}
	stream, err := js.Stream(t.Context(), "EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	b.eventually("an event of every rollout that queued", func() bool {
		info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("belay.events.>"))
		return err == nil && info.State.Subjects["belay.events.recs.queued"] == releases
	})
	if got := b.metric(`belay_events_published_total{outcome="ok",sink="nats"}`); got == "" {
		t.Error("there is no series of the sink")
	}
	b.take(at(p))
	if got := b.metric(`belay_events_published_total{outcome="ok",sink="nats"}`); got != "" {
		t.Errorf("series of a sink that is gone: got %s", got)
	}
	b.eventually("the cursor to be forgotten", func() bool { return strings.Contains(b.log.String(), "sink forgotten") })
	if _, err := js.Publish(t.Context(), "models.approved", []byte(`{"id":"late","policy":"recs","candidate":"green","version":"late"}`)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	if strings.Contains(list(), `"version":"late"`) {
		t.Error("a trigger that was taken out took a release")
	}
}
