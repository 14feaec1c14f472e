// Package probe asks sources and routers what a rollout would ask them, without one:
// for doctor, for plans, and for whoever wants to know what belayd sees.
package probe

import (
	"context"
	"errors"
	"log/slog"

	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/traffic"
)

// Adapters are the sources and routers of a config file, without a daemon: for
// commands that ask what belayd would ask. Nothing was asked yet.
type Adapters struct {
	Sources map[string]config.Source
	Routers map[string]traffic.Router
	// Environment is what policies may name.
	Environment *policies.Environment

	config *config.Config
}

// OpenAdapters builds the sources and routers of a config file. Its error is a
// *ProblemsError where the file has problems; it also says which secrets cannot
// be read here.
func OpenAdapters(configFile string) (*Adapters, error) {
	c, err := config.Read(configFile)
	if err != nil {
		return nil, err
	}
	unset, open := c.Expand(), c.CheckFiles()
	b := config.NewBuilder(c, slog.New(slog.DiscardHandler))
	srcs, err1 := b.Sources()
	rts, err2 := b.Routers()
	if err := errors.Join(unset, open, err1, err2); err != nil {
		return nil, c.Located(err)
	}
	return &Adapters{Sources: srcs, Routers: rts, Environment: c.Environment(), config: c}, nil
}

// Look reads every source once for the config's policies and says what it sees.
// Its error says what is wrong with the policies.
func (a *Adapters) Look(ctx context.Context) ([]api.SourceLook, error) {
	set, ps, err := a.config.ReadPolicies(a.Environment)
	if err == nil && ps.HasErrors() {
		err = &config.ProblemsError{Problems: ps.Errors()}
	}
	if err != nil {
		return nil, err
	}
	l := SourceProbe{Sources: a.Sources, Routers: a.Routers, Kinds: a.Environment.Sources}
	return l.Look(ctx, set), nil
}
