package engine

import (
	"context"
	"errors"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/notice"
)

// OpenPages lists, as notices of now, the pages that the named notifier took, be it
// with an earlier text, and that are still open, for notifiers whose pages end
// unless they are repeated. The engine's own about its store is among them.
func (e *Engine) OpenPages(ctx context.Context, name string) ([]notifier.Notice, error) {
	var open []notifier.Notice
	for snap, err := range e.Rollouts(ctx) {
		if errors.Is(err, rollout.ErrFormat) {
			continue // It is counted, and whoever wrote it repeats its page.
		}
		if err != nil {
			return nil, err
		}
		if snap.State.Page == nil || !snap.State.Paging.Shows(name) {
			continue
		}
		effect := rollout.Effect{ID: snap.Plan.PageKey(), Kind: rollout.EffectPage,
			Notice: &rollout.Notice{Key: snap.Plan.PageKey(), Topic: rollout.TopicPage, Severity: "critical", Summary: snap.State.PageLine()}}
		open = append(open, notice.Of(snap.Plan, &snap.State, effect, e.external(), e.now()))
	}
	if n, ok := e.outage.Open(ctx, name); ok {
		open = append(open, n)
	}
	return open, nil
}
