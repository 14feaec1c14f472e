package sim_test

import (
	"fmt"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
)

// mutants are Next with one protection removed.
var mutants = map[string]func(*rollout.Plan, rollout.State, rollout.Event) rollout.State{
	// I1: steps begin without asking for their approvals.
	"gates are not asked": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		open := *p
		open.Steps = append([]rollout.Step(nil), p.Steps...)
		for i := range open.Steps {
			open.Steps[i].Requires = nil
		}
		return rollout.Next(&open, s, ev)
	},
	// I5: the requester's own yes counts.
	"the requester may approve": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		q := *p
		q.Approvals = append([]rollout.Approval(nil), p.Approvals...)
		for i := range q.Approvals {
			q.Approvals[i].NotByRequester = false
		}
		return rollout.Next(&q, s, ev)
	},
	// I5: one person is counted as often as they click.
	"clicks are counted, not people": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if ev.Kind == rollout.EventAnswered && ev.By != nil {
			by := *ev.By
			by.ID = fmt.Sprintf("%s#%d", by.ID, s.Seq)
			ev.By = &by
			n := rollout.Next(p, s, ev)
			return rollout.Next(p, n, ev2(ev, s.Seq+1))
		}
		return rollout.Next(p, s, ev)
	},
	// I2: a share is rounded up.
	"weights do not sum to 100": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		for i := range n.Outbox {
			if e := &n.Outbox[i]; e.Kind == rollout.EffectSetTraffic && e.Forward {
				to := e.To.Clone()
				to.Weights[n.Stable]++
				e.To = &to
			}
		}
		return n
	},
	// I10: the next reading is never asked for.
	"readings stop": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		keep := n.Outbox[:0:0]
		for _, e := range n.Outbox {
			if e.Kind != rollout.EffectMeasure || n.Seq < 40 {
				keep = append(keep, e)
			}
		}
		n.Outbox = keep
		return n
	},
	// I3: the page is closed before stable is confirmed.
	"the page is closed at once": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if n.Phase == rollout.PhaseRollingBack {
			n.Page = nil
		}
		return n
	},
	// I3: the rollback waits like a forward step would.
	"a rollback waits for a minute": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if n.Phase == rollout.PhaseRollingBack && s.Phase != rollout.PhaseRollingBack {
			for i := range n.Outbox {
				if n.Outbox[i].Kind == rollout.EffectSetTraffic {
					n.Outbox[i].NotBefore = n.At.Add(time.Minute)
				}
			}
		}
		return n
	},
	// I13: what the checks found is believed however long ago it was.
	"the checks never age": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if s.Step < 0 && s.Confirmed != nil {
			s.ConfirmedAt = ev.At
		}
		return rollout.Next(p, s, ev)
	},
	// I14: an order from before an outage, or right after it, acts on what was seen
	// before.
	"promote acts blindly": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		s.Looks = 0
		if s.Overridden || ev.Kind == rollout.EventCommanded {
			s.At = ev.At
		}
		return rollout.Next(p, s, ev)
	},
	// I14: the shell sends what the journal wants before the core hears how long
	// nobody watched.
	"a step from before an outage is written": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if ev.Kind == rollout.EventWoken && ev.Effect == "" {
			return s
		}
		return rollout.Next(p, s, ev)
	},
	// I9: a write that was accepted counts as one that took effect.
	"no read-back": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if ev.Kind == rollout.EventTraffic && ev.Failure == nil && s.Shift != nil && s.Phase == rollout.PhaseRollingBack {
			to := s.Shift.To
			ev.Split = &to
		}
		return rollout.Next(p, s, ev)
	},
	// I12: readings that failed count as good ones.
	"no data is good data": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if ev.Kind == rollout.EventMeasured && n.Phase == rollout.PhaseBaking && missing(n.Verdicts) {
			n.MayEnd = true
			n.Bake.Watched = n.Bake.Needs
			n = rollout.Next(p, override(n), rollout.Event{Kind: rollout.EventWoken, At: ev.At})
		}
		return n
	},
	// I12: the time that nobody watched counts.
	"every second counts": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if s.Phase == rollout.PhaseBaking && ev.Kind == rollout.EventMeasured {
			s.Bake.Watched = ev.At.Sub(s.StepSince)
		}
		return rollout.Next(p, s, ev)
	},
	// I6: a foreign split is put back without a word.
	"foreign changes are overwritten in silence": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		q := *p
		q.OnForeignChange = rollout.ForeignRestore
		s.Restored = false
		n := rollout.Next(&q, s, ev)
		keep := n.Last.Decisions[:0:0]
		for _, d := range n.Last.Decisions {
			if d.Kind != rollout.DecisionForeignChange {
				keep = append(keep, d)
			}
		}
		n.Last.Decisions = keep
		return n
	},
	// I8: whoever waits in the queue goes ahead.
	"queued rollouts go ahead": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if ev.Kind == rollout.EventQueued {
			ev.Kind = rollout.EventClaimed
		}
		return rollout.Next(p, s, ev)
	},
	// I9, I3: an ended rollout can be started again.
	"a rollback can be called off": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if s.Phase == rollout.PhaseRollingBack && ev.Kind == rollout.EventCommanded && ev.Command == rollout.CommandResume {
			s.Phase, s.Shift = rollout.PhaseBaking, nil
		}
		if s.Phase == rollout.PhaseRollingBack && ev.Kind == rollout.EventTraffic && ev.Failure != nil {
			s.Phase, s.Shift, s.Ending = rollout.PhaseBaking, nil, ""
		}
		return rollout.Next(p, s, ev)
	},
	// P5: after a crash messages are sent under new ids.
	"messages get new ids": func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if ev.Kind == rollout.EventUndelivered {
			return n
		}
		for i := range n.Messages {
			if n.Messages[i].Notice.Topic == rollout.TopicThread && n.Messages[i].Attempt == 0 {
				n.Messages[i].ID = fmt.Sprintf("%s/%d/x%d", p.ID, n.Seq, i)
			}
		}
		for i := range n.Outbox {
			if e := &n.Outbox[i]; e.Notice != nil && e.Notice.Topic == rollout.TopicThread {
				for _, m := range n.Messages {
					if m.Key == e.Key {
						e.ID = m.ID
					}
				}
			}
		}
		if ev.Kind == rollout.EventDelivered && len(s.Messages) > 0 && len(n.Messages) < len(s.Messages) {
			n.Messages = append(n.Messages, s.Messages[0])
			n.Messages[len(n.Messages)-1].ID = fmt.Sprintf("%s/%d/y", p.ID, n.Seq)
		}
		return n
	},
}

// ev2 is the same answer under another name.
func ev2(ev rollout.Event, n int) rollout.Event {
	by := *ev.By
	by.ID = fmt.Sprintf("%s#%d", by.ID, n)
	ev.By = &by
	return ev
}

// missing reports whether a guardrail has no data.
func missing(vs []analysis.Verdict) bool {
	for _, v := range vs {
		if v.Outcome == analysis.OutcomeNoData || v.Outcome == analysis.OutcomeError {
			return true
		}
	}
	return false
}

// override lets the step end at the next event.
func override(s rollout.State) rollout.State {
	s.Phase = rollout.PhaseWaiting
	return s
}
