package daemon

import (
	"context"
	"fmt"

	"github.com/belayd/belay/rollout/events"
)

// eventsSink names the cursor of the events on NATS.
const eventsSink = "nats"

// buildEvents opens what publishes lifecycle events; where none is configured,
// the cursor that one left behind goes, so that old rollouts do not wait for it.
func (d *daemon) buildEvents(ctx context.Context) error {
	var sinks []string
	if d.config.Events != nil && d.config.Events.NATS != nil {
		n := d.config.Events.NATS
		p, err := events.Open(ctx, events.Config{
			Sink: eventsSink, URL: n.URL, Options: natsOptions(d.config, n.NATSConfig), SubjectPrefix: n.SubjectPrefix, Source: d.config.ExternalURL,
			Rollouts: d.engine, Store: d.store, Log: d.log, Registerer: d.registry,
		})
		if err != nil {
			return err
		}
		d.events, d.runners["events "+eventsSink] = p, p
		sinks = append(sinks, eventsSink)
	}
	gone, err := events.Forget(ctx, d.store, sinks...)
	if err != nil {
		return fmt.Errorf("forget sinks: %w", err)
	}
	for _, sink := range gone {
		d.log.Info("sink forgotten", "sink", sink)
	}
	return nil
}
