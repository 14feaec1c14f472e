package engine

import (
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
)

// replyWithin bounds what an inbox waits for, so that people hear at once.
const replyWithin = 2 * time.Second

// listen hears people's answers until ctx ends. An inbox that fails is started
// again, at most once a second at first and once a minute later.
func (e *Engine) listen(ctx context.Context) {
	for name, inbox := range e.cfg.Inboxes {
		e.spawn(func(context.Context) {
			wait := time.Second
			for {
				began := time.Now()
				err := inbox.Run(ctx, func(ctx context.Context, a notifier.Answer) (notifier.Reply, error) { return e.answer(ctx, name, a) })
				if ctx.Err() != nil {
					return
				}
				if time.Since(began) > time.Minute {
					wait = time.Second
				}
				e.log.Warn("inbox ended", "notifier", name, "outcome", fmt.Sprint(err))
				timer := time.NewTimer(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
					timer.Stop()
					return
				}
				wait = min(2*wait, time.Minute)
			}
		})
	}
}

// answer decides what becomes of what a person said through a notifier.
func (e *Engine) answer(ctx context.Context, via string, a notifier.Answer) (notifier.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, replyWithin)
	defer cancel()
	if a.Command == "list" {
		return e.listed(ctx)
	}
	s, err := e.Rollout(ctx, a.Rollout)
	if errors.Is(err, ErrNotFound) {
		return refused("There is no rollout %s.", a.Rollout), nil
	}
	if err != nil {
		return notifier.Reply{}, err
	}
	if a.Command == "status" {
		return notifier.Reply{Accepted: true, Text: statusLine(&s)}, nil
	}
	who := e.cfg.People(a.Who)
	who.Via, who.Name = via, orElse(who.Name, a.Name)
	who.Groups = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(who.Groups), a.Groups...))))
	ev, why := toEvent(s.Plan, a, who)
	if why != "" {
		return notifier.Reply{Text: why}, nil
	}
	after, err := e.Deliver(ctx, a.Rollout, actKey(via, a.ID), ev)
	switch {
	case errors.Is(err, ErrEnded):
		return refused("Rollout %s has ended: %s.", a.Rollout, s.State.Phase), nil
	case errors.Is(err, ErrDifferent):
		return refused("This was used for another answer before."), nil
	case errors.Is(err, errPending):
		return notifier.Reply{Accepted: true, Text: "Recorded. The rollout takes it up as soon as its store answers."}, nil
	case err != nil:
		return notifier.Reply{}, err
	case after.State.Last.Ignored != "":
		return refused("Not accepted: %s.", strings.TrimRight(after.State.Last.Ignored, ".")), nil
	}
	return notifier.Reply{Accepted: true, Text: fmt.Sprintf("Recorded. %s", statusLine(&after))}, nil
}

func refused(format string, args ...any) notifier.Reply {
	return notifier.Reply{Text: fmt.Sprintf(format, args...)}
}

// actKey makes a key of what an inbox calls an act.
func actKey(via, id string) string {
	sum := sha256.Sum256([]byte(via + "\x00" + id))
	return hex.EncodeToString(sum[:16])
}

// toEvent makes an event of an answer, or says why the person may not give it.
func toEvent(p *rollout.Plan, a notifier.Answer, who rollout.Person) (rollout.Event, string) {
	ev := rollout.Event{At: a.At.UTC().Round(0), By: &who, Reason: a.Reason}
	switch a.Command {
	case "approve", "reject":
		i := slices.IndexFunc(p.Approvals, func(x rollout.Approval) bool { return x.Name == a.Gate })
		if i < 0 {
			return ev, fmt.Sprintf("The rollout has no gate %q.", a.Gate)
		}
		if !isMember(p.Approvals[i], who, a.Who) {
			return ev, fmt.Sprintf("You are not among those who may answer for %s.", a.Gate)
		}
		ev.Kind, ev.Gate, ev.Nonce, ev.Approve = rollout.EventAnswered, a.Gate, a.Nonce, a.Command == "approve"
		return ev, ""
	case "hold", "pause":
		ev.Command = rollout.CommandPause
	case "resume":
		if !slices.ContainsFunc(p.Approvals, func(x rollout.Approval) bool { return isMember(x, who, a.Who) }) {
			return ev, "Resuming is for those who may approve; others use the command line."
		}
		ev.Command = rollout.CommandResume
	case "rollback":
		ev.Command = rollout.CommandRollback
	default:
		return ev, fmt.Sprintf("%q is not a command.", a.Command)
	}
	ev.Kind = rollout.EventCommanded
	return ev, ""
}

// isMember reports whether a person is in a gate's `from`: named there, in the
// notifier's terms or by who they are, or in one of its groups. A gate that names
// nobody is open to those whom the configuration knows by another name than the
// notifier's.
func isMember(a rollout.Approval, who rollout.Person, said string) bool {
	if len(a.Users) == 0 && len(a.Groups) == 0 {
		return who.ID != said
	}
	for _, u := range a.Users {
		if u == who.ID || u == said || strings.HasSuffix(said, "/"+u) {
			return true
		}
	}
	return slices.ContainsFunc(a.Groups, func(g string) bool { return slices.Contains(who.Groups, g) })
}

// statusLine is a rollout in one line.
func statusLine(s *rollout.Snapshot) string {
	line := fmt.Sprintf("%s: %s %s on %s is %s.", s.Plan.ID, s.Plan.Release.Candidate, s.Plan.Release.Version, s.Plan.Endpoint.Name, s.State.Phase)
	if s.State.Confirmed != nil {
		line += " Traffic: " + s.State.Confirmed.String() + "."
	}
	return strings.TrimSpace(line + " " + s.State.Sentence)
}

// listed answers with the open rollouts, at most twenty.
func (e *Engine) listed(ctx context.Context) (notifier.Reply, error) {
	var lines []string
	more := 0
	for s, err := range e.Rollouts(ctx) {
		if err != nil || s.State.Phase.Terminal() {
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
