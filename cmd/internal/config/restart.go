package config

import (
	"fmt"
	"strings"
)

// Running is the config as this process can run it: with what a restart alone
// would take over as it was, and the names of those fields. What is left must be
// right without them, or the error says that it is not.
func (c *Config) Running(old *Config) (now *Config, waiting []string, err error) {
	next := *c
	if c.Listen != old.Listen {
		waiting, next.Listen = append(waiting, "listen"), old.Listen
	}
	if c.StoreFile() != old.StoreFile() {
		waiting, next.Store = append(waiting, "store"), old.Store
	}
	if c.Path(c.Socket) != old.Path(old.Socket) {
		waiting, next.Socket = append(waiting, "socket"), old.Socket
	}
	if c.Replica != old.Replica {
		waiting, next.Replica = append(waiting, "replica"), old.Replica
	}
	if (c.Auth.TLS == nil) != (old.Auth.TLS == nil) {
		waiting, next.Auth.TLS = append(waiting, "auth.tls"), old.Auth.TLS
	}
	if err := next.check(); err != nil {
		return nil, nil, fmt.Errorf("%s: %s needs a restart, and the rest cannot be taken over before it: %w", c.File,
			strings.Join(waiting, " and "), err)
	}
	return &next, waiting, nil
}
