package config

import (
	"log/slog"

	"github.com/belayd/belay/rollout/events"
)

// EventsConfig is where lifecycle events go.
type EventsConfig struct {
	NATS *NATSEvents `yaml:"nats" oneof:"events" doc:"CloudEvents on JetStream."`
}

// NATSEvents publishes lifecycle events.
type NATSEvents struct {
	events.Config
	NATSConfig
}

// sinks is the list of the places where lifecycle events may go. The kind names the
// cursor.
var sinks = []adapter[EventsConfig, events.Config]{
	{"nats", func(c EventsConfig) bool { return c.NATS != nil }, buildNATSSink},
}

// Sink is where lifecycle events go, but for what they are taken from, and what that is
// called; "" when they go nowhere.
func (c *Config) Sink() (kind string, out events.Config, err error) {
	if c.Events == nil {
		return "", out, nil
	}
	for _, row := range sinks {
		if row.is(*c.Events) {
			out, err = row.build(NewBuilder(c, slog.New(slog.DiscardHandler)), "events."+row.kind, *c.Events)
			out.Sink, out.Source = row.kind, c.ExternalURL
			return row.kind, out, err
		}
	}
	return "", out, nil
}

func buildNATSSink(b *Builder, _ string, c EventsConfig) (events.Config, error) {
	own := c.NATS.Config
	own.URL, own.Options = c.NATS.NATSConfig.URL, NATSOptions(b.config, c.NATS.NATSConfig)
	return own, nil
}
