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

// testNotifiers sends a marked test message through every notifier, all at once,
// and resolves what it opened.
func (d *daemon) testNotifiers(ctx context.Context, by rollout.Person) []api.NotifierTest {
	notifiers := d.now().notifiers
	names := sortedKeys(notifiers)
	out := make([]api.NotifierTest, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		out[i].Name = name
		wg.Go(func() {
			if err := d.testNotifier(ctx, name, notifiers[name], by); err != nil {
				out[i].Error = err.Error()
				return
			}
			out[i].OK = true
		})
	}
	wg.Wait()
	return out
}

func (d *daemon) testNotifier(ctx context.Context, name string, to notifier.Notifier, by rollout.Person) error {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	at := time.Now().UTC()
	n := notifier.Notice{
		Key: fmt.Sprintf("test/%s/%d", name, at.UnixNano()), Delivery: fmt.Sprintf("test/%d/1", at.UnixNano()), Topic: notifier.TopicTest,
		Severity: notifier.SeverityInfo, At: at, Summary: fmt.Sprintf("This is a test: belayd can reach %s. %s asked for this message; nobody needs to act.", name, by.ID),
	}
	ref, err := to.Notify(ctx, n)
	d.engine.Notified(name, err)
	if err != nil {
		return err
	}
	d.engine.PageTaken(name)
	n.Delivery, n.Ref, n.Resolve = fmt.Sprintf("test/%d/2", at.UnixNano()), ref, true
	_, err = to.Notify(ctx, n)
	return err
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
