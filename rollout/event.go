package rollout

import (
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/deployment"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
)

// EventKind says what happened.
type EventKind string

// The kinds of events, with the fields of Event that they use besides Kind,
// At and (for answers to effects) Effect.
const (
	// EventStarted opens the history: Plan.
	EventStarted EventKind = "started"
	// EventClaimed answers Claim: the endpoint is ours.
	EventClaimed EventKind = "claimed"
	// EventQueued answers Claim: BlockedBy names the rollout in front. The Claim
	// stays wanted.
	EventQueued EventKind = "queued"
	// EventRefused answers Claim: Code and Reason.
	EventRefused EventKind = "refused"
	// EventReleased answers Release.
	EventReleased EventKind = "released"
	// EventPreflighted answers Preflight: Checks, Split (as read; nil when it
	// could not be), Manual, Versions, Reason when the split could not be read.
	EventPreflighted EventKind = "preflighted"
	// EventTraffic answers SetTraffic or ReadTraffic: Split as read back (nil when
	// it could not be read) and Failure where the call failed.
	EventTraffic EventKind = "traffic"
	// EventMeasured answers Measure: Readings, one per metric asked.
	EventMeasured EventKind = "measured"
	// EventDelivered answers Ask, Tell or Page: Notifier and Ref.
	EventDelivered EventKind = "delivered"
	// EventUndelivered answers Ask, Tell or Page: Notifier and Failure.
	EventUndelivered EventKind = "undelivered"
	// EventAnswered is a person's yes or no to a gate: Gate, Nonce, Approve, By,
	// Reason. The shell has checked that By is who they say and is in the gate's
	// `from`; the core checks everything else.
	EventAnswered EventKind = "answered"
	// EventCommanded is a person's command: Command, By, Reason, Extend, and Hold of a
	// resume.
	EventCommanded EventKind = "commanded"
	// EventSuperseded: a newer release (SupersededBy, or BlockedBy in earlier journals) takes the endpoint.
	EventSuperseded EventKind = "superseded"
	// EventSuspected: the store lost records and the endpoint shows it: Reason, and
	// Split as the endpoint shows it.
	EventSuspected EventKind = "suspected"
	// EventCarried stands for events that were not kept, see Carry: State and Decisions.
	EventCarried EventKind = "carried"
	// EventWoken answers Wake: time has passed.
	EventWoken EventKind = "woken"
)

// An Event is what happened, when. Events are plain data; no NaN or Inf enters.
type Event struct {
	Kind EventKind `json:"kind"`
	At   time.Time `json:"at"`
	// Effect is the ID of the effect that this answers, with its Attempt.
	Effect  string `json:"effect,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
	// Plan is the PlanHash of the rollout's plan, of EventStarted.
	Plan string `json:"plan,omitempty"`
	// Key is what the sender of an answer or command calls this act: the same key
	// is the same act.
	Key string `json:"key,omitempty"`

	Split   *split.Split     `json:"split,omitempty"`
	Failure *failure.Failure `json:"failure,omitempty"`
	// Deployments are what the router tells of them, in the answers to Preflight and to
	// a ReadTraffic that describes; nil when it did not answer.
	Deployments map[string]deployment.Fact `json:"deployments,omitempty"`
	Checks      []check.Result             `json:"checks,omitempty"`
	Manual      string                     `json:"manual,omitempty"`
	// Versions are those that the router tells of the deployments, by their names.
	Versions map[string]string  `json:"versions,omitempty"`
	Readings []analysis.Reading `json:"readings,omitempty"`

	By      *person.Person `json:"by,omitempty"`
	Gate    string         `json:"gate,omitempty"`
	Nonce   string         `json:"nonce,omitempty"`
	Approve bool           `json:"approve,omitempty"`
	Command Command        `json:"command,omitempty"`
	Extend  time.Duration  `json:"extend,omitempty"`
	// To is the step that a skip leads to.
	To string `json:"to,omitempty"`
	// Hold is the Since of the hold that a resume is to end, and that it was allowed
	// for; zero is any.
	Hold time.Time `json:"hold,omitzero"`

	// Known are the present ids of the names on record (State.Speakers) that people
	// gives another one, of every event while something is asked: who answered before
	// may have been called otherwise then.
	Known map[string]string `json:"known,omitempty"`

	State     *State              `json:"state,omitempty"`
	Decisions []decision.Decision `json:"decisions,omitempty"`

	Code      decision.Reason `json:"code,omitempty"`
	Reason    string          `json:"reason,omitempty"`
	BlockedBy string          `json:"ahead,omitempty"`
	// SupersededBy is the newer release, of EventSuperseded; earlier journals have it as ahead.
	SupersededBy string `json:"supersededBy,omitempty"`
	Notifier     string `json:"notifier,omitempty"`
	Ref          string `json:"ref,omitempty"`
}

// For is the event as it was allowed in the state s: a resume ends the hold that
// there was then and no later one, for which other rules may hold.
func (ev Event) For(s *State) Event {
	if ev.Command == CommandResume && s.Hold != nil {
		ev.Hold = s.Hold.Since
	}
	return ev
}

// Command is what a person may order.
type Command string

// The commands.
const (
	CommandPause    Command = "pause"
	CommandResume   Command = "resume"
	CommandRollback Command = "rollback"
	CommandPromote  Command = "promote"
	// CommandSkip ends the present step's wait and leaves out the steps before Event.To.
	CommandSkip   Command = "skip"
	CommandExtend Command = "extend"
	// CommandAck acknowledges the open page; it is the one command that an ended
	// rollout takes, as long as its page is open.
	CommandAck Command = "ack"
)

// HeardMax is how many acts a state remembers by their keys. Whoever hands acts to
// Next does not let more of them wait for a mark of their own.
const HeardMax = 32

// IsAct reports whether the event is what a person, or a newer release, wants of the
// rollout: it happens once for each Key, however often it is told.
func (ev Event) IsAct() bool {
	return ev.Kind == EventAnswered || ev.Kind == EventCommanded || ev.Kind == EventSuperseded
}

// Heard reports whether the act with the key is among the last that were folded in.
func (s State) Heard(key string) bool { return key != "" && slices.Contains(s.Acts, key) }

// repeated reports whether the event is an act that was folded in before, and
// remembers one that was not.
func (m *machine) repeated() bool {
	if !m.ev.IsAct() || m.ev.Key == "" {
		return false
	}
	if m.s.Heard(m.ev.Key) {
		return true
	}
	m.s.Acts = append(slices.Clone(m.s.Acts), m.ev.Key)
	m.s.Acts = m.s.Acts[max(len(m.s.Acts)-HeardMax, 0):]
	return false
}

// known is who is who at present.
func (m *machine) known() person.Directory { return m.ev.Known }

// isRequester reports whether the person asked for the release, or is the one
// it was asked for, by any of their names.
func (m *machine) isRequester(by person.Person) bool {
	r := m.p.Release
	return m.known().Same(by, r.Requester) || m.known().Called(by, r.OnBehalfOf)
}

// yeses counts the people who said yes and may.
func (m *machine) yeses(q approval.Question) int {
	byRequester := !m.p.Approval(q.Gate).NotByRequester
	var yes []person.Person
	for _, v := range q.Answers {
		if v.Approve && (byRequester || !m.isRequester(v.By)) {
			yes = append(yes, v.By)
		}
	}
	return m.known().Count(yes)
}

// hasAnswered reports whether the person has answered the question, under whichever
// name.
func (m *machine) hasAnswered(q approval.Question, by person.Person) bool {
	return slices.ContainsFunc(q.Answers, func(v approval.Vote) bool { return m.known().Same(by, v.By) })
}

// Speakers are the names under which the people are on record on whom it depends which
// gates are open: who asked for the release, who answered, and who speaks in the event;
// none while nothing is asked.
func (s State) Speakers(p *Plan, ev Event) []string {
	if len(s.Gates) == 0 {
		return nil
	}
	r := p.Release
	names := []string{r.Requester.ID, r.Requester.As, r.OnBehalfOf}
	if ev.By != nil {
		names = append(names, ev.By.ID, ev.By.As)
	}
	for _, q := range s.Gates {
		for _, a := range q.Answers {
			names = append(names, a.By.ID, a.By.As)
		}
	}
	slices.Sort(names)
	return slices.Compact(slices.DeleteFunc(names, func(n string) bool { return n == "" }))
}
