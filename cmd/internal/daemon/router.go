package daemon

import (
	"fmt"
	"log/slog"

	"github.com/belayd/belay/rollout/traffic"
)

// OpenRouter builds the one router of the config that is so called, as belayd
// does. It makes no connection.
func (c *Config) OpenRouter(name string) (traffic.Router, error) {
	rc, ok := c.Routers[name]
	if !ok {
		return nil, fmt.Errorf("routers.%s: is missing", name)
	}
	all, err := build(newBuilder(c, slog.New(slog.DiscardHandler)), "routers", routers, map[string]RouterConfig{name: rc})
	if err != nil {
		return nil, err
	}
	return all[name], nil
}
