package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/person"
)

// replyWithin bounds what an inbox waits for, so that people hear at once.
const replyWithin = 2 * time.Second

// Answer decides what becomes of what a person said through a notifier.
func (e *Engine) Answer(ctx context.Context, via string, a notifier.Answer) (notifier.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, replyWithin)
	defer cancel()
	who := e.heardFrom(via, a)
	if a.Command == "list" {
		return e.listed(ctx, who)
	}
	if a.Command == "status" {
		s, err := e.Rollout(ctx, a.Rollout)
		if err == nil && !mayView(s.Plan, who) {
			err = ErrNotFound
		}
		if err != nil {
			return replied(a, s, err)
		}
		return notifier.Reply{Accepted: true, Text: statusLine(&s)}, nil
	}
	ask := func(s rollout.Snapshot, _ *rollout.Event) (rollout.Event, error) {
		if !mayView(s.Plan, who) {
			return rollout.Event{}, ErrNotFound
		}
		ev, why := toEvent(s.Plan, a, onRecord(who))
		if why != "" {
			return ev, &access.ForbiddenError{Why: why}
		}
		return ev, nil
	}
	after, err := e.Act(ctx, a.Rollout, actKey(via, a.ID), who, ask)
	var unrecorded *failure.UnrecordedError
	switch {
	case errors.As(err, &unrecorded):
		e.log.Error("order not recorded", "rollout", a.Rollout, "outcome", err.Error())
	case errors.Is(err, ErrEnded):
		if after, err = e.Rollout(ctx, a.Rollout); err == nil {
			return refused("Rollout %s has ended: %s.", a.Rollout, after.State.Phase), nil
		}
	}
	return replied(a, after, err)
}

// replied says what came of an act.
func replied(a notifier.Answer, after rollout.Snapshot, err error) (notifier.Reply, error) {
	var forbidden *access.ForbiddenError
	var unrecorded *failure.UnrecordedError
	switch {
	case errors.Is(err, ErrNotFound):
		return refused("There is no rollout %s.", a.Rollout), nil
	case errors.As(err, &forbidden):
		return refused("Not accepted: %s.", strings.TrimRight(forbidden.Why, ".")), nil
	case errors.Is(err, ErrDifferent):
		return refused("This was used for another answer before."), nil
	case errors.Is(err, errPending):
		return notifier.Reply{Accepted: true,
			Text: "Recorded. It is taken up as soon as the store, or the replica that carries the rollout, answers."}, nil
	case errors.As(err, &unrecorded):
		reply := "Not accepted: the store does not take it, and nothing was done. Try again in a moment."
		if unrecorded.Manual != "" {
			reply += " To roll back by hand: " + unrecorded.Manual
		}
		return notifier.Reply{Text: reply}, nil
	case err != nil:
		return notifier.Reply{}, err
	case after.State.Last.Ignored != "":
		return refused("Not accepted: %s.", strings.TrimRight(after.State.Last.Ignored, ".")), nil
	}
	return notifier.Reply{Accepted: true, Text: "Recorded. " + statusLine(&after)}, nil
}

// heardFrom is who spoke through a notifier and what they may do.
func (e *Engine) heardFrom(via string, a notifier.Answer) access.Actor {
	who := e.cfg.People(via, a.Who)
	who.Via = via
	who.Names = slices.Concat(who.Names, []string{a.Who}, person.ShortNames(a.Who))
	who.ViaGroups = slices.Clone(a.Groups)
	who.Person.Via, who.Person.Name = via, cmp.Or(who.Person.Name, a.Name)
	return who
}

// onRecord is the person as the journal names them, with every group that counted.
func onRecord(who access.Actor) person.Person {
	p := who.Person
	p.Groups = slices.Compact(slices.Sorted(slices.Values(slices.Concat(p.Groups, who.ViaGroups))))
	return p
}

// mayView reports whether a person who was heard may see a rollout: by a role, or
// because one of its approvals asks them.
func mayView(p *rollout.Plan, who access.Actor) bool {
	return who.May(p.Policy.Labels, access.RoleView) ||
		slices.ContainsFunc(p.Approvals, func(a approval.Approval) bool { return who.AskedBy(a) })
}

func refused(format string, args ...any) notifier.Reply {
	return notifier.Reply{Text: fmt.Sprintf(format, args...)}
}

// actKey makes a key of what an inbox calls an act.
func actKey(via, id string) string {
	sum := sha256.Sum256([]byte(via + "\x00" + id))
	return hex.EncodeToString(sum[:16])
}

// toEvent makes an event of an answer, or says why there is none.
func toEvent(p *rollout.Plan, a notifier.Answer, who person.Person) (rollout.Event, string) {
	ev := rollout.Event{Kind: rollout.EventCommanded, At: a.At.UTC().Round(0), By: &who, Reason: a.Reason}
	switch a.Command {
	case "approve", "reject":
		if !slices.ContainsFunc(p.Approvals, func(x approval.Approval) bool { return x.Name == a.Gate }) {
			return ev, fmt.Sprintf("the rollout has no gate %q", a.Gate)
		}
		ev.Kind, ev.Gate, ev.Nonce, ev.Approve = rollout.EventAnswered, a.Gate, a.Nonce, a.Command == "approve"
	case "hold", "pause":
		ev.Command = rollout.CommandPause
	case "resume":
		ev.Command = rollout.CommandResume
	case "rollback":
		ev.Command = rollout.CommandRollback
	case "ack":
		ev.Command = rollout.CommandAck
	default:
		return ev, fmt.Sprintf("%q is not a command", a.Command)
	}
	return ev, ""
}

// statusLine is a rollout in one line.
func statusLine(s *rollout.Snapshot) string {
	release := s.Plan.Release
	line := fmt.Sprintf("%s: %s %s on %s is %s.",
		s.Plan.ID, release.Candidate, release.Version, s.Plan.Endpoint.Name, s.State.Phase)
	if s.State.Confirmed != nil {
		line += " Traffic: " + s.State.Confirmed.String() + "."
	}
	return strings.TrimSpace(line + " " + s.State.Sentence)
}

// listed answers with the open rollouts that the person may see, at most twenty.
func (e *Engine) listed(ctx context.Context, who access.Actor) (notifier.Reply, error) {
	var lines []string
	more := 0
	for s, err := range e.Rollouts(ctx) {
		if err != nil || s.State.Phase.Terminal() || !mayView(s.Plan, who) {
			continue
		}
		if len(lines) == 20 {
			more++
			continue
		}
		lines = append(lines, statusLine(&s))
	}
	if err := ctx.Err(); err != nil {
		return notifier.Reply{}, fmt.Errorf("list rollouts: %w", err)
	}
	if len(lines) == 0 {
		return notifier.Reply{Accepted: true, Text: "No rollout is open."}, nil
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more.", more))
	}
	return notifier.Reply{Accepted: true, Text: strings.Join(lines, "\n")}, nil
}
