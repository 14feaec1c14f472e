package sim_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/deployment"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/shift"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

// A mutant is Next with one protection removed, and the invariant that must notice it.
type mutant struct {
	breaks string
	next   func(*rollout.Plan, rollout.State, rollout.Event) rollout.State
}

// rare are the seeds after which the worlds begin that notice what few do.
var rare = map[string]uint64{"a step from before an outage is written": 900, "a lone monitor is stable's rate": 440,
	"messages are kept for ever": 400}

// mutants has one for every invariant at least.
var mutants = map[string]mutant{
	// Steps begin without asking for their approvals.
	"gates are not asked": {sim.ClosedGate, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		open := *p
		open.Steps = append([]rollout.Step(nil), p.Steps...)
		for i := range open.Steps {
			open.Steps[i].Requires = nil
		}
		return rollout.Next(&open, s, ev)
	}},
	// The requester's own yes counts.
	"the requester may approve": {sim.ClosedGate, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		q := *p
		q.Approvals = append([]approval.Approval(nil), p.Approvals...)
		for i := range q.Approvals {
			q.Approvals[i].NotByRequester = false
		}
		return rollout.Next(&q, s, ev)
	}},
	// One person is counted as often as they click.
	"clicks are counted, not people": {sim.ClosedGate, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if ev.Kind == rollout.EventAnswered && ev.By != nil {
			by := *ev.By
			by.ID = fmt.Sprintf("%s#%d", by.ID, s.Seq)
			ev.By = &by
			n := rollout.Next(p, s, ev)
			return rollout.Next(p, n, ev2(ev, s.Seq+1))
		}
		return rollout.Next(p, s, ev)
	}},
	// A share is rounded up.
	"weights do not sum to 100": {sim.BadSum, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		for i := range n.Outbox {
			if e := &n.Outbox[i]; e.Kind == rollout.EffectSetTraffic && e.Forward {
				to := e.To.Clone()
				to.Weights[n.Stable]++
				e.To = &to
			}
		}
		return n
	}},
	// The next reading is never asked for.
	"readings stop": {sim.Unwatched, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		keep := n.Outbox[:0:0]
		for _, e := range n.Outbox {
			if e.Kind != rollout.EffectMeasure || n.Seq < 40 {
				keep = append(keep, e)
			}
		}
		n.Outbox = keep
		return n
	}},
	// The page is closed before stable is confirmed.
	"the page is closed at once": {sim.NoPage, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if n.Phase == rollout.PhaseRollingBack {
			n.Page = nil
		}
		return n
	}},
	// The rollback waits like a forward step would.
	"a rollback waits for a minute": {sim.LateRollback, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if n.Phase == rollout.PhaseRollingBack && s.Phase != rollout.PhaseRollingBack {
			for i := range n.Outbox {
				if n.Outbox[i].Kind == rollout.EffectSetTraffic {
					n.Outbox[i].NotBefore = n.At.Add(time.Minute)
				}
			}
		}
		return n
	}},
	// What the checks found is believed however long ago it was.
	"the checks never age": {sim.StaleChecks, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if s.Step < 0 && s.Confirmed != nil {
			s.ConfirmedAt = ev.At
		}
		return rollout.Next(p, s, ev)
	}},
	// An order from before an outage, or right after it, acts on what was seen
	// before.
	"promote acts blindly": {sim.UnseenWrite, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		s.ReadingsRequired = 0
		if s.Overridden || ev.Kind == rollout.EventCommanded {
			s.At = ev.At
		}
		return rollout.Next(p, s, ev)
	}},
	// The shell sends what the journal wants before the core hears how long
	// nobody watched.
	"a step from before an outage is written": {sim.UnseenWrite, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if ev.Kind == rollout.EventWoken && ev.Effect == "" {
			return s
		}
		return rollout.Next(p, s, ev)
	}},
	// A write that was accepted counts as one that took effect.
	"no read-back": {sim.WrongEnd, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if ev.Kind == rollout.EventTraffic && ev.Failure == nil && s.Shift != nil && s.Phase == rollout.PhaseRollingBack {
			to := s.Shift.To
			ev.Split = &to
		}
		return rollout.Next(p, s, ev)
	}},
	// Readings that failed count as good ones.
	"no data is good data": {sim.BlindStep, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if ev.Kind == rollout.EventMeasured && n.Phase == rollout.PhaseBaking && missing(n.Verdicts) {
			n.MayEnd = true
			n.Bake.Watched = n.Bake.Needs
			n = rollout.Next(p, override(n), rollout.Event{Kind: rollout.EventWoken, At: ev.At})
		}
		return n
	}},
	// The time that nobody watched counts.
	"every second counts": {sim.UnwatchedStep, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if s.Phase == rollout.PhaseBaking && ev.Kind == rollout.EventMeasured {
			s.Bake.Watched = ev.At.Sub(s.StepSince)
		}
		return rollout.Next(p, s, ev)
	}},
	// A foreign split is put back without a word.
	"foreign changes are overwritten in silence": {sim.SilentOverwrite, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		q := *p
		q.OnForeignChange = rollout.ForeignRestore
		s.Restored = false
		n := rollout.Next(&q, s, ev)
		keep := n.Last.Decisions[:0:0]
		for _, d := range n.Last.Decisions {
			if d.Kind != decision.ForeignChange {
				keep = append(keep, d)
			}
		}
		n.Last.Decisions = keep
		return n
	}},
	// Whoever waits in the queue goes ahead.
	"queued rollouts go ahead": {sim.TwoHolders, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if ev.Kind == rollout.EventQueued {
			ev.Kind = rollout.EventClaimed
		}
		return rollout.Next(p, s, ev)
	}},
	// An ended rollout can be started again.
	"a rollback can be called off": {sim.LostRollback, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if s.Phase == rollout.PhaseRollingBack && ev.Kind == rollout.EventCommanded && ev.Command == rollout.CommandResume {
			s.Phase, s.Shift = rollout.PhaseBaking, nil
		}
		if s.Phase == rollout.PhaseRollingBack && ev.Kind == rollout.EventTraffic && ev.Failure != nil {
			s.Phase, s.Shift, s.Ending = rollout.PhaseBaking, nil, ""
		}
		return rollout.Next(p, s, ev)
	}},
	// After a crash messages are sent under new ids.
	"messages get new ids": {sim.ToldTwice, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if ev.Kind == rollout.EventUndelivered {
			return n
		}
		for i := range n.Messages {
			if n.Messages[i].Notice.Topic == mailbox.TopicThread && n.Messages[i].Attempt == 0 {
				n.Messages[i].ID = fmt.Sprintf("%s/%d/x%d", p.ID, n.Seq, i)
			}
		}
		for i := range n.Outbox {
			if e := &n.Outbox[i]; e.Notice != nil && e.Notice.Topic == mailbox.TopicThread {
				for _, m := range n.Messages {
					if m.Key == e.Key {
						e.ID = m.ID
					}
				}
			}
		}
		if n.Seq < 200 && ev.Kind == rollout.EventDelivered && len(s.Messages) > 0 && len(n.Messages) < len(s.Messages) {
			n.Messages = append(n.Messages, s.Messages[0])
			n.Messages[len(n.Messages)-1].ID = fmt.Sprintf("%s/%d/y", p.ID, n.Seq)
		}
		return n
	}},
	// A split that gives nobody else's share to the candidate is believed to be a step's.
	"a step is reached at any split": {sim.OwnSplit, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if sh := s.Shift; ev.Kind == rollout.EventTraffic && ev.Split != nil && sh != nil && sh.Why == shift.Forward && ev.Effect != "" {
			to := sh.To
			ev.Split, ev.Failure = &to, nil
		}
		return rollout.Next(p, s, ev)
	}},
	// Whatever the source answers counts as good.
	"no reading is ever missing": {sim.BlindBake, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		return rollout.Next(p, s, neverMissing(ev))
	}},
	// The rules for missing readings wait for half an hour.
	"blindness is told late": {sim.Blind, blindLate},
	// The same while a person has paused.
	"blindness is told late while paused": {sim.BlindPaused, blindLate},
	// A hold for missing readings waits for a person.
	"a self-ending hold does not end": {sim.SelfHold, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if s.Hold != nil && s.Hold.Self && n.Hold == nil && ev.Kind != rollout.EventCommanded && n.Phase != rollout.PhaseRollingBack {
			n.Hold, n.Phase, n.Page = s.Hold, s.Phase, s.Page
		}
		return n
	}},
	// Nobody is called for what is paged only.
	"a paged breach is silent": {sim.NoPage, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		keep := n.Outbox[:0:0]
		for _, e := range n.Outbox {
			if e.Kind != rollout.EffectPage {
				keep = append(keep, e)
			}
		}
		n.Outbox = keep
		return n
	}},
	// The end of a page is not told.
	"a page never ends": {sim.IdlePage, noEnds},
	// The same while a person has paused.
	"a page never ends while paused": {sim.IdlePagePaused, noEnds},
	// People are called off before what they were called for is over.
	"a page ends by itself": {sim.EarlyRelief, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if ev.Kind == rollout.EventTraffic && n.Phase != rollout.PhaseRollingBack {
			n.Page = nil
		}
		return n
	}},
	// Every text of a page is a message of its own.
	"pages queue": {sim.PageQueue, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		for _, e := range n.Outbox {
			if e.Kind == rollout.EffectPage {
				e.ID += "/twice"
				n.Outbox = append(slices.Clip(n.Outbox), e)
				break
			}
		}
		return n
	}},
	// Whoever has seen nothing goes on when time is over.
	"a step ends on time alone": {sim.UnreadStep, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		q := *p
		q.OnUndecided, q.MaxExtend = rollout.UndecidedPromote, 0
		s.Sights = slices.Clone(s.Sights)
		for i := range s.Sights {
			s.Sights[i].Read = true
		}
		return rollout.Next(&q, s, neverMissing(ev))
	}},
	// A guardrail that only notes does what others do.
	"a dry run rolls back": {sim.DryRunActs, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		q := *p
		q.Panel.Guardrails = slices.Clone(p.Panel.Guardrails)
		for i := range q.Panel.Guardrails {
			if g := &q.Panel.Guardrails[i]; g.OnBreach == analysis.ActionNote {
				g.OnBreach = analysis.ActionRollback
			}
		}
		return rollout.Next(&q, s, ev)
	}},
	// The checks are never made.
	"preflight is forgotten": {sim.Endless, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		n.Outbox = slices.DeleteFunc(slices.Clone(n.Outbox), func(e rollout.Effect) bool { return e.Kind == rollout.EffectPreflight })
		return n
	}},
	// Pages say whatever was said last to a person.
	"a page says something else": {sim.PageText, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		for i := range n.Outbox {
			if e := &n.Outbox[i]; e.Kind == rollout.EffectPage && !e.Notice.Resolve {
				notice := *e.Notice
				notice.Summary = "Approval owner could not be asked."
				e.Notice = &notice
			}
		}
		return n
	}},
	// A question is shown as it was asked, whatever becomes of it.
	"a question stays open": {sim.StaleQuestion, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		for i := range n.Outbox {
			if e := &n.Outbox[i]; e.Kind == rollout.EffectAsk && e.Notice.Question.State == approval.Void {
				notice, question := *e.Notice, *e.Notice.Question
				question.State = approval.Open
				notice.Question = &question
				e.Notice = &notice
			}
		}
		return n
	}},
	// The journal of what was told grows with every event.
	"messages are kept for ever": {sim.Unbounded, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if ev.Kind == rollout.EventTraffic && n.Reached >= 0 {
			n.Messages = append(n.Messages, mailbox.Message{ID: fmt.Sprintf("%s/%d/z", p.ID, n.Seq), Kind: mailbox.KindTell, Key: fmt.Sprintf("z/%d", n.Seq),
				Notifiers: []string{"void"}, Notice: &mailbox.Notice{Key: "z", Topic: mailbox.TopicThread}})
		}
		return n
	}},
	// A person's rollback waits until nothing is being written.
	"a rollback is refused": {sim.RefusedRollback, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if ev.Kind == rollout.EventCommanded && ev.Command == rollout.CommandRollback && (s.Phase == rollout.PhaseShifting || s.Phase == rollout.PhaseSuspect) {
			ev.Command = rollout.CommandExtend
			n := rollout.Next(p, s, ev)
			return n
		}
		return rollout.Next(p, s, ev)
	}},
	// A breach is noted and nothing is done.
	"a breach does nothing": {sim.IgnoredBreach, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if ev.Kind == rollout.EventMeasured && s.Phase == rollout.PhaseBaking && n.Reason == decision.ReasonBreach {
			kept := s
			kept.Verdicts, kept.Evidence, kept.At, kept.Seq, kept.Last = n.Verdicts, n.Evidence, n.At, n.Seq, rollout.Last{}
			return kept
		}
		return n
	}},
	// Evidence never adds up.
	"evidence is forgotten": {sim.Deaf, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if ev.Kind == rollout.EventMeasured && s.Evidence.Begun {
			fresh := analysis.Evidence{Cursors: s.Evidence.Cursors}
			s.Evidence = fresh
		}
		return rollout.Next(p, s, ev)
	}},
	// A pause, a hold and a suspicion stop nothing.
	"a paused rollout climbs on": {sim.StoppedWrite, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if n.Phase != rollout.PhasePaused || ev.Kind != rollout.EventMeasured || n.Confirmed == nil || n.Reached < 0 || n.Reached+1 >= len(p.Steps) {
			return n
		}
		to := split.Split{Weights: map[string]int{n.Stable: 100 - p.Steps[n.Reached+1].Weight, p.Release.Candidate: p.Steps[n.Reached+1].Weight}}
		n.Outbox = append(slices.Clip(n.Outbox), rollout.Effect{ID: fmt.Sprintf("%s/%d/up", p.ID, n.Seq), Key: "up", Kind: rollout.EffectSetTraffic,
			From: n.Confirmed, To: &to, Forward: true})
		return n
	}},
	// The machine is made to believe that a step is reached at another step's split.
	"the machine breaks itself": {sim.Internal, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		if sh := s.Shift; sh != nil && sh.Why == shift.Forward && ev.Split != nil && ev.Split.Equal(sh.To) {
			q := *p
			q.Steps = slices.Clone(p.Steps)
			q.Steps[s.Step].Weight++
			return rollout.Next(&q, s, ev)
		}
		return rollout.Next(p, s, ev)
	}},
	// Whatever happens, something more is to be done at once.
	"there is always one thing more": {sim.Runaway, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		n.Outbox = append(slices.Clip(n.Outbox), rollout.Effect{ID: fmt.Sprintf("%s/%d/more", p.ID, n.Seq), Key: "more", Kind: rollout.EffectWake})
		return n
	}},
	// Who people are is looked up once.
	"people never learn": {sim.ClosedGate, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		ev.Known = nil
		return rollout.Next(p, s, ev)
	}},
	// What the router tells of the deployments is not looked at, but for their versions.
	"stable is never down": {sim.StableDown, sturdy},
	// The same at the next step.
	"the way back is never looked at": {sim.NoWayBack, sturdy},
	// A deployment is taken for what it was.
	"versions never change": {sim.OtherVersion, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		ev.Versions, ev.Deployments = nil, maps.Clone(ev.Deployments)
		for name, d := range ev.Deployments {
			d.Version = ""
			ev.Deployments[name] = d
		}
		return rollout.Next(p, s, ev)
	}},
	// What monitors see of stable counts as its share of failures.
	"a lone monitor is stable's rate": {sim.LoneBudget, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		was := s.Confirmed
		if ev.Kind != rollout.EventMeasured || was == nil || was.Weights[s.Stable] > 0 || s.Reached < 0 {
			return rollout.Next(p, s, ev)
		}
		s.Confirmed = &split.Split{Weights: map[string]int{s.Stable: 1, p.Release.Candidate: 99}}
		ev.Readings = slices.Clone(ev.Readings)
		for i := range ev.Readings { // as if there were enough of its requests to compare with, and all went well
			ev.Readings[i].Stable.N *= 1000
			ev.Readings[i].Stable.K = 0
		}
		n := rollout.Next(p, s, ev)
		if n.Confirmed == s.Confirmed {
			n.Confirmed = was
		}
		return n
	}},
	// What time does ends a pause, too.
	"a pause ends by itself": {sim.OffTheMap, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		n := rollout.Next(p, s, ev)
		if s.Phase == rollout.PhasePaused && n.Phase == rollout.PhasePaused && ev.Kind == rollout.EventMeasured && n.Shift == nil {
			n.Phase, n.Hold = rollout.PhaseBaking, nil
		}
		return n
	}},
	// A forward write that was cut off is forgotten.
	"a late write is forgotten": {sim.AfterEnd, func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
		s.LastSent = time.Time{}
		return rollout.Next(p, s, ev)
	}},
}

// sturdy is Next for which every deployment is always ready and as large as ever.
func sturdy(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
	ev.Deployments = maps.Clone(ev.Deployments)
	for name, d := range ev.Deployments {
		ev.Deployments[name] = deployment.Fact{Version: d.Version}
	}
	return rollout.Next(p, s, ev)
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

// neverMissing is a reading in which whatever is missing is there and says nothing bad.
func neverMissing(ev rollout.Event) rollout.Event {
	ev.Readings = slices.Clone(ev.Readings)
	for i := range ev.Readings {
		if rd := &ev.Readings[i]; rd.Status != analysis.StatusOK || !rd.Candidate.Fresh {
			rd.Status, rd.Candidate, rd.Stable = analysis.StatusOK, analysis.Sample{Fresh: true}, analysis.Sample{Fresh: true}
		}
	}
	return ev
}

// blindLate is Next with rules for missing readings that wait for half an hour.
func blindLate(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
	q := *p
	q.OnNoData.After, q.OnSourceError.After = 30*time.Minute, 30*time.Minute
	return rollout.Next(&q, s, ev)
}

// noEnds is Next without the ends of pages.
func noEnds(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
	n := rollout.Next(p, s, ev)
	n.Outbox = slices.DeleteFunc(slices.Clone(n.Outbox), func(e rollout.Effect) bool { return e.Kind == rollout.EffectPage && e.Notice.Resolve })
	return n
}
