package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/belayd/belay/cmd/internal/bulkhead"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/trigger"
)

// start makes a release that an event asked for a durable rollout. The same
// source and key are the same rollout, whatever has become of the policy since.
func (d *daemon) start(ctx context.Context, r rollout.Release, source, key string) (string, error) {
	r.OnBehalfOf = d.now().config.Canonical(r.OnBehalfOf)
	id := rollout.NewID(source, key)
	_, _, err := d.engines.Release(ctx, id, r, func(ctx context.Context) (*rollout.Plan, error) {
		plan, err := d.catalog.Plan(ctx, id, r)
		if err != nil && !errors.Is(err, errNotWhole) { // else the release waits for its policy
			err = fmt.Errorf("%w: %w", trigger.ErrRefused, err)
		}
		return plan, err
	})
	return id, err
}

// addTriggers makes what starts rollouts, and connects to nothing. Of the config
// only the triggers remain that could be made.
func (s *generation) addTriggers(d *daemon) {
	var kept []config.TriggerConfig
	for i, tc := range s.config.Triggers {
		field := fmt.Sprintf("triggers[%d]", i)
		if s.faults.At(field) != nil {
			continue
		}
		t, err := d.natsTrigger(s.config, tc)
		if err != nil {
			s.faults.Add(s.config, fmt.Errorf("%s: %w", field, err))
			continue
		}
		s.triggers, kept = append(s.triggers, t), append(kept, tc)
	}
	s.config.Triggers = kept
}

// natsTrigger makes one JetStream consumer.
func (d *daemon) natsTrigger(all *config.Config, c config.TriggerConfig) (*trigger.Trigger, error) {
	var fields trigger.Map
	for name, path := range c.Map {
		at, ok := map[string]*string{"policy": &fields.Policy, "candidate": &fields.Candidate, "version": &fields.Version,
			"requestedBy": &fields.RequestedBy,
			"labels":      &fields.Labels, "artifact": &fields.Artifact, "environment": &fields.Environment}[name]
		if !ok {
			return nil, fmt.Errorf("map.%s: a release has no such field; it has policy, candidate, version, requestedBy, "+
				"labels, artifact, environment", name)
		}
		*at = path
	}
	start := func(ctx context.Context, r rollout.Release, source, key string) (string, error) {
		return bulkhead.Core(func() (string, error) { return d.start(ctx, r, source, key) })
	}
	own := c.NATS.Config
	own.Name, own.URL, own.Options = c.RecordName(), c.NATS.NATSConfig.URL, config.NATSOptions(all, c.NATS.NATSConfig)
	own.Subjects, own.Map = append([]string{c.NATS.Subject}, c.NATS.Subjects...), fields
	own.Refused, own.Start, own.Store, own.Log = d.refusals.Refused, start, records{d.store}, d.log
	return trigger.New(own)
}
