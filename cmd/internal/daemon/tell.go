package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/belayd/belay/cmd/internal/refusals"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
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

// refused tells whoever the config's `tell` names of release events that were
// refused for good. They are kept in the store whether or not that arrives.
func (d *daemon) refused(ctx context.Context, what refusals.Digest) {
	now := d.now()
	var wg sync.WaitGroup
	for _, name := range now.config.Tell {
		if n, ok := now.notifiers[name]; ok {
			wg.Go(func() { d.tellRefused(ctx, name, n, what) })
		}
	}
	wg.Wait()
}

// tellRefused tells one notifier. One that keeps messages updates the one that it
// was told of the same minute before.
func (d *daemon) tellRefused(ctx context.Context, name string, to notifier.Notifier, what refusals.Digest) {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	key := what.Key()
	ref, err := to.Notify(ctx, notifier.Notice{
		Key: key, Delivery: fmt.Sprintf("%s/%d", key, what.Count), Ref: what.Refs.Get(name), Topic: notifier.TopicStatus, Severity: notifier.SeverityWarning, At: what.Last.At,
		Summary: notifier.Truncate(what.Text(), 250),
	})
	d.engine.Notified(name, err)
	if err != nil {
		d.log.Warn("refusal not told", "outcome", err.Error())
		return
	}
	what.Refs.Set(name, ref)
}
