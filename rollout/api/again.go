package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/undo"
	"github.com/belayd/belay/rollout/view"
)

// undo starts the rollout that takes a promoted one back.
func (s *Server) undo(w http.ResponseWriter, r *http.Request, a Actor) error {
	snap, id, err := s.again(r, a, "undo")
	if err != nil {
		return err
	}
	var in UndoRequest
	if err := read(r, &in, bodyMax); err != nil {
		return err
	}
	if err := checkReason(&in.Reason, true); err != nil {
		return err
	}
	if !a.May(snap.Plan.Policy.Labels, access.RoleOperate) {
		return forbidden(a, []Role{RoleOperate})
	}
	if before, err := s.c.Engine.Rollout(r.Context(), id); err == nil {
		return send(w, http.StatusOK, view.OfSnapshot(before))
	}
	ref := snap.Plan.Endpoint
	live, there := s.c.Catalog.Endpoint(r.Context(), ref)
	if !there || live.Error != "" {
		return problem(http.StatusConflict, TypeNoEffect, "Nothing was started",
			fmt.Sprintf("%s/%s cannot be read: %s", ref.Router, ref.Name, live.Error))
	}
	ahead := live.Active
	if ahead == "" && len(live.Queue) > 0 {
		ahead = live.Queue[0]
	}
	if snap.State.Phase == rollout.PhasePromoted && ahead != "" {
		return problem(http.StatusConflict, TypeNoEffect, "Nothing was started",
			fmt.Sprintf("rollout %s has the endpoint or waits for it: end it first", ahead))
	}
	told := live.Facts.Known()
	if why := undo.Refused(snap.Plan, &snap.State, split.Split{Weights: live.Weights, Mirror: live.Mirror},
		told); why != "" {
		return problem(http.StatusConflict, TypeNoEffect, "Nothing was started", why)
	}
	plan := undo.Plan(snap.Plan, &snap.State, id, told[snap.State.Stable].Version, rollout.Release{
		Requester: a.Person, Labels: snap.Plan.Release.Labels, Environment: snap.Plan.Release.Environment,
		Reason: in.Reason, Source: "api undo",
	})
	if in.Now {
		plan = undo.AtOnce(plan)
	}
	return s.release(w, r, a, id, plan.Release, "", func(context.Context) (*rollout.Plan, error) { return plan, nil })
}

// retry starts the release of a rollout that has ended once more, under the policy as
// it is now.
func (s *Server) retry(w http.ResponseWriter, r *http.Request, a Actor) error {
	snap, id, err := s.again(r, a, "retry")
	if err != nil {
		return err
	}
	switch {
	case !a.May(snap.Plan.Policy.Labels, access.RoleStart):
		return forbidden(a, []Role{RoleStart})
	case !snap.State.Phase.Terminal():
		return problem(http.StatusConflict, TypeNoEffect, "Nothing was started",
			"the rollout has not ended: it is "+string(snap.State.Phase))
	}
	release := snap.Plan.Release
	release.Requester, release.OnBehalfOf, release.Retries, release.Undoes = a.Person, "", snap.Plan.ID, nil
	release.Reason, release.Source = "", "api retry"
	return s.release(w, r, a, id, release, "", func(context.Context) (*rollout.Plan, error) {
		plan, err := s.plan(r, a, id, release, "")
		if errors.Is(err, ErrNoPolicy) {
			// The policy came with the request, or is gone: what is on record is as good to
			// whom it is allowed to bring one.
			plan, err = s.plan(r, a, id, release, snap.Plan.Policy.Text)
		}
		return plan, err
	})
}

// again finds the rollout whose release, or whose undoing, the request asks for, and
// the id of the new one.
func (s *Server) again(r *http.Request, a Actor, verb string) (snap rollout.Snapshot, id string, err error) {
	if snap, err = s.find(r, a); err != nil {
		return snap, "", err
	}
	key, err := keyRequired(r)
	if err != nil {
		return snap, "", err
	}
	return snap, rollout.NewID(verb+":"+snap.Plan.ID+":"+a.Person.ID, key), nil
}
