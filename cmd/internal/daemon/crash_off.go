//go:build !crashpoints

package daemon

import "github.com/belayd/belay/store"

// crashPoints are none: only a build with the tag crashpoints, made for tests, can
// be told to die.
type crashPoints struct{}

func newCrashPoints() (*crashPoints, error) { return nil, nil } //nolint:nilnil // none are none

func (*crashPoints) store(s store.Store) store.Store { return s }

func (*crashPoints) around(*generation) {}
