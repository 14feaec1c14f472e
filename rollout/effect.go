package rollout

import (
	"time"

	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/split"
)

// EffectKind says what the shell should do.
type EffectKind string

// The kinds of effects.
const (
	// EffectClaim asks Admit for the endpoint: the shell folds claim.ForClaim(p, e, at)
	// into the endpoint's record and answers with what Record.Result says of it:
	// claimed, queued or refused. It stays wanted while queued; the shell asks
	// again whenever the record changes.
	EffectClaim EffectKind = "claim"
	// EffectRelease gives the endpoint (or the place in its queue) back: the shell
	// folds claim.ForRelease(p, s, e, at). Answer: released.
	EffectRelease EffectKind = "release"
	// EffectPreflight reads the split and makes the plan's checks. Answer: preflighted.
	EffectPreflight EffectKind = "preflight"
	// EffectSetTraffic calls Router.Shift(From, To) once and then reads the split
	// back once, whatever the outcome. Answer: traffic.
	EffectSetTraffic EffectKind = "set-traffic"
	// EffectReadTraffic reads the split once, and with Describe what the router tells of
	// the deployments. Answer: traffic.
	EffectReadTraffic EffectKind = "read-traffic"
	// EffectMeasure reads Metrics, each from its Since to NotBefore. Answer: measured.
	EffectMeasure EffectKind = "measure"
	// EffectAsk puts Notice, with its Question, before people; EffectTell tells;
	// EffectPage calls a human. Answers: delivered, undelivered (per notifier).
	EffectAsk  EffectKind = "ask"
	EffectTell EffectKind = "tell"
	EffectPage EffectKind = "page"
	// EffectWake asks for a woken event at NotBefore.
	EffectWake EffectKind = "wake"
)

// An Effect is one piece of wanted work. Its ID is its idempotency key for the
// outside world; a retry has the same ID and the next Attempt.
type Effect struct {
	ID      string     `json:"id"`
	Kind    EffectKind `json:"kind"`
	Attempt int        `json:"attempt,omitempty"`
	// NotBefore is when it may start; the zero time is at once.
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Key is what the effect is for, within the rollout; an effect that is wanted
	// again under the same key is the same effect.
	Key string `json:"key"`

	// From and To are for SetTraffic. Forward is true when the call raises the
	// candidate's share: it needs the claim, an append and the lease. A rollback
	// needs none of them.
	From    *split.Split `json:"from,omitempty"`
	To      *split.Split `json:"to,omitempty"`
	Forward bool         `json:"forward,omitempty"`

	// Describe is for ReadTraffic.
	Describe bool `json:"describe,omitempty"`

	// Since is for Measure: the metrics to read, each from its cursor. Early: it is a
	// look out of turn, at some of them (see Suspicion).
	Since map[string]time.Time `json:"since,omitempty"`
	Early bool                 `json:"early,omitempty"`

	// Cooldown is for Release: until when the version is refused; zero for none.
	Cooldown time.Time `json:"cooldown,omitzero"`

	// Wait is for Claim: the rollout only registers for its schedule.
	Wait bool `json:"wait,omitempty"`

	// Notifiers are for Ask, Tell and Page: where it goes now, one name. The core
	// makes one effect per notifier and decides who is next when one fails.
	Notifiers []string        `json:"notifiers,omitempty"`
	Notice    *mailbox.Notice `json:"notice,omitempty"`
}
