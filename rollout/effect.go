package rollout

import (
	"regexp"
	"time"
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
	From    *Split `json:"from,omitempty"`
	To      *Split `json:"to,omitempty"`
	Forward bool   `json:"forward,omitempty"`

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
	Notifiers []string `json:"notifiers,omitempty"`
	Notice    *Notice  `json:"notice,omitempty"`
}

// A Notice is what people are told, without the words of any one messenger.
// The engine turns it into a notifier.Notice with the rollout's present view.
type Notice struct {
	// Key is stable: the same key is the same message, updated.
	Key string `json:"key"`
	// Topic says which kind of message this is.
	Topic Topic `json:"topic"`
	// Severity is critical, error, warning or info.
	Severity string `json:"severity"`
	Summary  string `json:"summary"`
	// Resolve ends the page with this key.
	Resolve bool `json:"resolve,omitempty"`
	// Ref is what the notifier returned for this key before, ThreadRef what it
	// returned for the rollout's status message.
	Ref       string `json:"ref,omitempty"`
	ThreadRef string `json:"threadRef,omitempty"`
	// Question is set for Ask.
	Question *Question `json:"question,omitempty"`
}

// Topic is a kind of message.
type Topic string

// The topics.
const (
	// TopicStatus is the one message of a rollout, updated in place.
	TopicStatus Topic = "status"
	// TopicThread is an entry below it.
	TopicThread Topic = "thread"
	// TopicAsk is an approval request; its update says how it ended.
	TopicAsk Topic = "ask"
	// TopicPage is a call to a human.
	TopicPage Topic = "page"
)

// A Question is an approval request as it was asked.
type Question struct {
	Gate string `json:"gate"`
	// Nonce binds an answer to this asking: an answer with another one is stale.
	Nonce string `json:"nonce"`
	// Evidence is the SHA-256 of the verdicts that people were shown.
	Evidence string    `json:"evidence"`
	Step     string    `json:"step"`
	From     Split     `json:"from"`
	To       Split     `json:"to"`
	Expires  time.Time `json:"expires"`
	Quorum   int       `json:"quorum"`
	// State is open, approved, rejected, expired or void.
	State   QuestionState `json:"state"`
	Answers []GateAnswer  `json:"answers,omitempty"`
	// Passed names the guardrails that read pass when it was asked.
	Passed []string `json:"passed,omitempty"`
	// Unasked is why it could not be put before people in several tries; "" when it
	// was, or is being tried.
	Unasked string `json:"unasked,omitempty"`
	// AskedAt is when it was asked.
	AskedAt time.Time `json:"askedAt"`
}

// QuestionState is how an approval request stands.
type QuestionState string

// The states of a question.
const (
	QuestionOpen     QuestionState = "open"
	QuestionApproved QuestionState = "approved"
	QuestionRejected QuestionState = "rejected"
	QuestionExpired  QuestionState = "expired"
	QuestionVoid     QuestionState = "void"
)

// A GateAnswer is a recorded yes or no.
type GateAnswer struct {
	By      Person    `json:"by"`
	At      time.Time `json:"at"`
	Approve bool      `json:"approve"`
	Reason  string    `json:"reason,omitempty"`
}

var (
	// toldInstant finds an instant of a sentence, after the word that makes it one: a
	// version may look like an instant, too.
	toldInstant = regexp.MustCompile(`\b(at|until|since) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))`)
	toldCommand = regexp.MustCompile("`belay [^`]+")
)

// Told is a sentence of the core as whoever reads it can use it. The core knows
// neither the reader's clock nor how the reader reaches the daemon: it writes
// instants in RFC 3339, and commands in backquotes without a server. at shows an
// instant; flags are what a command needs there, " --server URL" or "".
func Told(sentence, flags string, at func(time.Time) string) string {
	if flags != "" {
		sentence = toldCommand.ReplaceAllStringFunc(sentence, func(c string) string { return c + flags })
	}
	return toldInstant.ReplaceAllStringFunc(sentence, func(s string) string {
		m := toldInstant.FindStringSubmatch(s)
		t, err := time.Parse(time.RFC3339Nano, m[2])
		if err != nil {
			return s // it only looks like one
		}
		return m[1] + " " + at(t)
	})
}
