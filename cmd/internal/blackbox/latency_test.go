package blackbox

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest/natstest"
)

// BenchmarkEventToTraffic is the time from the moment at which a release event
// is stored on JetStream to the first call that moves traffic: NATS, the trigger,
// the plan, three appends to a bolt store, the claim, the preflight's reads and
// the router, in a belayd of its own process.
func BenchmarkEventToTraffic(b *testing.B) {
	const endpointsMax = 200
	var names, policies []string
	for i := range endpointsMax {
		name := fmt.Sprintf("recs%d", i)
		names = append(names, name)
		policies = append(policies, policy(name, name, "", "[{weight: 5%, bake: 1h}, {weight: 100%, bake: 1h}]"))
	}
	e := newEndpoints(b, names...)
	e.wrote = make(chan time.Time, 1)
	url := natstest.Serve(b).ClientURL()
	send := publish(b, url)
	newWorld(b, e, fmt.Sprintf(`triggers:
  - nats: {url: %q, stream: RELEASES, subject: "models.approved.>", durable: belay}
    map: {policy: policy, candidate: candidate, version: version}
`, url), policies...)
	var took []time.Duration
	for i := 0; b.Loop() && i < endpointsMax; i++ {
		send(fmt.Sprintf(`{"id":"e%d","policy":"recs%d","candidate":"green","version":"1"}`, i, i))
		stored := time.Now()
		select {
		case at := <-e.wrote:
			took = append(took, at.Sub(stored))
		case <-time.After(30 * time.Second):
			b.Fatalf("event %d moved no traffic", i)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
