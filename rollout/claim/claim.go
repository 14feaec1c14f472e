// Package claim decides who may move an endpoint: of several releases one is active, the
// others wait, give way or are refused.
//
// It is pure, as the machine is: Admit folds an event into an endpoint's record. The
// record is written by rollout/admission, and what it says to a rollout comes to its
// machine as an event.
package claim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
)

// recordVersion is the version of a record that this code writes.
const recordVersion = 1

// A Record is who may move one endpoint. It is changed only by Admit.
type Record struct {
	SchemaVersion int                 `json:"schemaVersion"`
	Endpoint      rollout.EndpointRef `json:"endpoint"`
	// Active is the rollout that may move the traffic; empty when free.
	Active string `json:"active,omitempty"`
	// Queue holds the rollouts that wait, first come first served.
	Queue []Waiting `json:"queue,omitempty"`
	// Scheduled is the newest release that waits for its policy's schedule.
	Scheduled string `json:"scheduled,omitempty"`
	// Superseding is the rollout that wants Active to give way; it is first in
	// the queue.
	Superseding string `json:"superseding,omitempty"`
	// Dropped are rollouts that lost their place to a newer one and are owed that
	// answer: each is refused when it asks again, until it gives its claim back.
	Dropped []string `json:"dropped,omitempty"`
	// Cooldowns hold, by version, until when it is refused.
	Cooldowns map[string]time.Time `json:"cooldowns,omitempty"`
	// Confirmed is the last split that a rollout confirmed, or that was observed since.
	Confirmed *split.Split `json:"confirmed,omitempty"`
	At        time.Time    `json:"at"`
	// Refused is why the last claim was refused: a claim that is neither active
	// nor queued after Admit was refused for this reason.
	Refused  decision.Reason `json:"refused,omitempty"`
	Sentence string          `json:"sentence,omitempty"`
}

// Waiting is a rollout in an endpoint's queue.
type Waiting struct {
	Rollout string    `json:"rollout"`
	Version string    `json:"version,omitempty"`
	Since   time.Time `json:"since"`
}

// An Event is what Admit decides on.
type Event struct {
	Kind    Kind      `json:"kind"`
	At      time.Time `json:"at"`
	Rollout string    `json:"rollout,omitempty"`
	Version string    `json:"version,omitempty"`
	// Concurrency is the claiming plan's.
	Concurrency rollout.Concurrency `json:"concurrency,omitempty"`
	// Most bounds the queue, on claim; 0 does not.
	Most int `json:"most,omitempty"`
	// Until is a cooldown's end, on release; zero for none.
	Until time.Time `json:"until,omitzero"`
	// Confirmed is the split at release, or the one observed.
	Confirmed *split.Split `json:"confirmed,omitempty"`
	// By is who cleared a cooldown, Reason why.
	By     *person.Person `json:"by,omitempty"`
	Reason string         `json:"reason,omitempty"`
}

// Kind is the kind of an Event.
type Kind string

// The kinds of events.
const (
	// EndpointClaim asks for the endpoint; asking again changes nothing.
	KindClaim Kind = "claim"
	// EndpointWait registers the newest release that waits for its schedule.
	KindWait Kind = "wait"
	// EndpointRelease ends a rollout's claim or its place in the queue.
	KindRelease Kind = "release"
	// EndpointClear ends the cooldown of Version, or all when it is empty.
	KindClear Kind = "clear-cooldown"
	// EndpointObserved puts on record what an endpoint shows that no rollout moves.
	KindObserved Kind = "observed"
)

// Admit folds one event into an endpoint's record and returns its successor. It
// is total and pure; r is not changed. Whatever claims race, at most one rollout
// is active.
func Admit(r Record, ev Event) Record {
	r.SchemaVersion = recordVersion
	r.Cooldowns = maps.Clone(r.Cooldowns)
	if ev.At.After(r.At) {
		r.At = ev.At
	}
	r.Refused, r.Sentence = "", ""
	switch ev.Kind {
	case KindClaim:
		r.claim(ev)
	case KindWait:
		r.wait(ev)
	case KindRelease:
		r.release(ev)
	case KindClear:
		if ev.Version == "" {
			r.Cooldowns = nil
		}
		delete(r.Cooldowns, ev.Version)
	case KindObserved:
		if r.Active == "" && ev.Confirmed != nil {
			c := ev.Confirmed.Clone()
			r.Confirmed = &c
		}
	}
	maps.DeleteFunc(r.Cooldowns, func(_ string, until time.Time) bool { return !until.After(r.At) })
	return r
}

// wait registers the newest release that waits for its schedule; the one before
// is dropped.
func (r *Record) wait(ev Event) {
	if r.Scheduled == ev.Rollout || r.wasDropped(ev.Rollout) {
		return
	}
	if r.Scheduled != "" {
		r.drop(Waiting{Rollout: r.Scheduled})
	}
	r.Scheduled = ev.Rollout
}

// drop remembers rollouts that lost their place.
func (r *Record) drop(lost ...Waiting) {
	r.Dropped = slices.Grow(slices.Clip(r.Dropped), len(lost))
	for _, w := range lost {
		r.Dropped = append(r.Dropped, w.Rollout)
	}
}

// wasDropped refuses a rollout that lost its place.
func (r *Record) wasDropped(id string) bool {
	if !slices.Contains(r.Dropped, id) {
		return false
	}
	r.Refused, r.Sentence = decision.ReasonSuperseded, "A newer release took its place."
	return true
}

// claim makes the rollout active, queues it, or refuses it.
func (r *Record) claim(ev Event) {
	if r.Scheduled == ev.Rollout {
		r.Scheduled = ""
	}
	if r.Active == ev.Rollout || r.waits(ev.Rollout) >= 0 {
		return
	}
	if r.wasDropped(ev.Rollout) {
		return
	}
	if until, cooling := r.Cooldowns[ev.Version]; cooling && until.After(r.At) {
		r.Refused = decision.ReasonCooldown
		r.Sentence = fmt.Sprintf("Version %s is in its cooldown until %s; wait, or clear it with `belay cooldown clear "+
			"%s/%s --reason '…'`.",
			ev.Version, until.UTC().Format(time.RFC3339), r.Endpoint.Router, r.Endpoint.Name)
		return
	}
	switch {
	case r.Active == "":
		r.Active = ev.Rollout
	case ev.Concurrency == rollout.ConcurrencyRefuse:
		r.Refused = decision.ReasonBusy
		r.Sentence = fmt.Sprintf("The endpoint is busy with %s, and the policy refuses a second release.", r.Active)
	case ev.Concurrency == rollout.ConcurrencySupersede:
		r.drop(r.Queue...)
		r.Queue = []Waiting{{Rollout: ev.Rollout, Version: ev.Version, Since: r.At}}
		r.Superseding = ev.Rollout
	case ev.Most > 0 && len(r.Queue) >= ev.Most:
		r.Refused = decision.ReasonBusy
		r.Sentence = fmt.Sprintf("%d releases wait for the endpoint, behind %s, and no more may (queue: %d in belayd's "+
			"config); start it again when some have ended.",
			len(r.Queue), r.Active, ev.Most)
	default:
		r.Queue = append(slices.Clip(r.Queue), Waiting{Rollout: ev.Rollout, Version: ev.Version, Since: r.At})
	}
}

// release ends a claim, or a place in the queue; the next in the queue follows.
func (r *Record) release(ev Event) {
	if r.Scheduled == ev.Rollout {
		r.Scheduled = ""
	}
	if r.Superseding == ev.Rollout {
		r.Superseding = ""
	}
	if i := slices.Index(r.Dropped, ev.Rollout); i >= 0 {
		r.Dropped = slices.Concat(r.Dropped[:i], r.Dropped[i+1:])
	}
	if i := r.waits(ev.Rollout); i >= 0 {
		r.Queue = slices.Concat(r.Queue[:i], r.Queue[i+1:])
	}
	if !ev.Until.IsZero() && ev.Version != "" && r.Active == ev.Rollout {
		if r.Cooldowns == nil {
			r.Cooldowns = map[string]time.Time{}
		}
		r.Cooldowns[ev.Version] = ev.Until
	}
	if r.Active != ev.Rollout {
		return
	}
	if ev.Confirmed != nil {
		c := ev.Confirmed.Clone()
		r.Confirmed = &c
	}
	r.Active = ""
	// Whoever waits with a version that now cools down is refused when it asks again.
	r.Queue = slices.DeleteFunc(slices.Clone(r.Queue),
		func(w Waiting) bool { return w.Version != "" && r.Cooldowns[w.Version].After(r.At) })
	if r.waits(r.Superseding) < 0 {
		r.Superseding = ""
	}
	if len(r.Queue) > 0 {
		r.Active, r.Queue = r.Queue[0].Rollout, r.Queue[1:]
		if r.Superseding == r.Active {
			r.Superseding = ""
		}
	}
}

// SameRights reports whether nobody's right to the endpoint differs in b: then b need
// not be written.
func (r Record) SameRights(b Record) bool {
	return r.SchemaVersion == b.SchemaVersion && r.Endpoint == b.Endpoint && r.Active == b.Active &&
		r.Scheduled == b.Scheduled &&
		r.Superseding == b.Superseding && slices.Equal(r.Dropped, b.Dropped) &&
		maps.EqualFunc(r.Cooldowns, b.Cooldowns, time.Time.Equal) &&
		slices.EqualFunc(r.Queue, b.Queue, func(x, y Waiting) bool {
			return x.Rollout == y.Rollout && x.Version == y.Version && x.Since.Equal(y.Since)
		}) &&
		(r.Confirmed == nil) == (b.Confirmed == nil) &&
		(r.Confirmed == nil || r.Confirmed.Equal(*b.Confirmed) && r.Confirmed.Version == b.Confirmed.Version)
}

// Changed lists the rollouts to which b says something else than r does: those that
// came to the front, wait behind another one, or are not there any more.
func (r Record) Changed(b Record) []string {
	var ids []string
	if r.Active != b.Active && b.Active != "" {
		ids = append(ids, b.Active)
	}
	if r.Scheduled != b.Scheduled && r.Scheduled != "" {
		ids = append(ids, r.Scheduled)
	}
	// Queues only lose members and grow at their end.
	i, ahead, was := 0, b.Active, r.Active
	for _, w := range b.Queue {
		for ; i < len(r.Queue) && r.Queue[i].Rollout != w.Rollout; i++ {
			was = r.Queue[i].Rollout
			ids = append(ids, was)
		}
		if i < len(r.Queue) {
			if ahead != was {
				ids = append(ids, w.Rollout)
			}
			was = w.Rollout
			i++
		}
		ahead = w.Rollout
	}
	for ; i < len(r.Queue); i++ {
		ids = append(ids, r.Queue[i].Rollout)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// waits is the rollout's place in the queue, -1 when it has none.
func (r *Record) waits(rollout string) int {
	return slices.IndexFunc(r.Queue, func(w Waiting) bool { return w.Rollout == rollout })
}

// ForClaim is what the shell folds into the endpoint's record for a Claim. The
// shell bounds the queue with Most.
func ForClaim(p *rollout.Plan, e rollout.Effect, at time.Time) Event {
	kind := KindClaim
	if e.Wait {
		kind = KindWait
	}
	return Event{Kind: kind, At: at, Rollout: p.ID, Version: p.Release.Version, Concurrency: p.Concurrency}
}

// ForRelease is what the shell folds into the endpoint's record for a Release.
func ForRelease(p *rollout.Plan, s rollout.State, e rollout.Effect, at time.Time) Event {
	cools := p.Release.Version
	if u := p.Release.Undoes; u != nil && s.Phase == rollout.PhasePromoted {
		cools = u.Version
	}
	return Event{Kind: KindRelease, At: at, Rollout: p.ID, Version: cools, Until: e.Cooldown, Confirmed: s.Confirmed}
}

// Result is what the record, just after Admit folded the rollout's claim, says
// to it: an event of kind claimed, queued or refused without At, Effect and
// Attempt.
func (r Record) Result(p *rollout.Plan, e rollout.Effect) rollout.Event {
	switch {
	case e.Wait && r.Scheduled == p.ID:
		return rollout.Event{Kind: rollout.EventQueued}
	case e.Wait:
		return rollout.Event{Kind: rollout.EventRefused, Code: decision.ReasonSuperseded,
			Reason: "A newer release waits for the schedule."}
	case r.Active == p.ID:
		return rollout.Event{Kind: rollout.EventClaimed}
	case r.waits(p.ID) > 0:
		return rollout.Event{Kind: rollout.EventQueued, BlockedBy: r.Queue[r.waits(p.ID)-1].Rollout}
	case r.waits(p.ID) == 0:
		return rollout.Event{Kind: rollout.EventQueued, BlockedBy: r.Active}
	case r.Refused != "":
		return rollout.Event{Kind: rollout.EventRefused, Code: r.Refused, Reason: r.Sentence}
	}
	return rollout.Event{Kind: rollout.EventRefused, Code: decision.ReasonSuperseded,
		Reason: "A newer release took the place in the queue."}
}
