package events

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	cloudevent "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Announce publishes one event that is of no rollout, on a connection of its own:
// it has no place in the order of the others, and none in the cursor. The same id is
// the same event. subject follows the prefix.
func (p *Publisher) Announce(ctx context.Context, id, typ, subject string, at time.Time, data any) error {
	e := cloudevent.New()
	e.SetID(id)
	e.SetSource(p.c.Source)
	e.SetTime(at)
	e.SetType(typ)
	b, err := json.Marshal(data)
	if err == nil {
		err = e.SetData(cloudevent.ApplicationJSON, b)
	}
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		return fmt.Errorf("encode event %s: %w", id, err)
	}
	nc, err := nats.Connect(p.c.URL, append(append([]nats.Option(nil), p.c.Options...),
		nats.Name("belay events "+p.c.Sink), nats.Timeout(callTimeout))...)
	if err != nil {
		return fmt.Errorf("connect to nats: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	return p.publish(ctx, js, outgoing{e, subject})
}
