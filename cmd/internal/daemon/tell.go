package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/trigger"
)

// tellTimeout bounds one message that no rollout's outbox carries.
const tellTimeout = 20 * time.Second

// testNotifiers sends a marked test through every notifier, all at once, as a page
// would go there. It says where to look for each and when it ends by itself.
func (d *daemon) testNotifiers(ctx context.Context, by rollout.Person) []api.NotifierTest {
	now := d.now()
	names := sortedKeys(now.notifiers)
	out := make([]api.NotifierTest, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			ends, err := d.drill.Send(ctx, name, now.notifiers[name], by.ID)
			d.engine.Notified(name, err)
			if err != nil {
				out[i] = api.NotifierTest{Name: name, Error: err.Error()}
				return
			}
			d.engine.PageTaken(name)
			out[i] = api.NotifierTest{Name: name, OK: true, Look: now.config.Notifiers[name].look(), Ends: ends}
		})
	}
	wg.Wait()
	return out
}

// refused tells whoever the config's `tell` names of a release event that was
// refused for good. It is kept in the store whether or not that arrives.
func (d *daemon) refused(ctx context.Context, r trigger.Refusal) {
	now := d.now()
	for _, name := range now.config.Tell {
		n, ok := now.notifiers[name]
		if !ok {
			continue
		}
		key := fmt.Sprintf("refused/%s/%d", r.Trigger, r.Sequence)
		call, cancel := context.WithTimeout(ctx, tellTimeout)
		_, err := n.Notify(call, notifier.Notice{
			Key: key, Delivery: key, Topic: notifier.TopicStatus, Severity: notifier.SeverityWarning, At: r.At,
			Summary: notifier.Truncate(fmt.Sprintf("A release event on %s (message %d) was refused: %s", r.Subject, r.Sequence, r.Reason), 200),
		})
		cancel()
		d.engine.Notified(name, err)
		if err != nil {
			d.log.Warn("refusal not told", "outcome", err.Error())
		}
	}
}
