//go:build !crashpoints

package daemon

import "github.com/belayd/belay/rollout/engine"

// withCrashPoints returns what the engine is made of as it is. Only a build with
// the tag crashpoints, made for tests, can be told to die.
func withCrashPoints(c engine.Config) (engine.Config, func(engine.Adapters) engine.Adapters, error) {
	return c, func(a engine.Adapters) engine.Adapters { return a }, nil
}
