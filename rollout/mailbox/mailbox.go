package mailbox

import (
	"fmt"
	"slices"
	"time"

	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/backoff"
	"github.com/belayd/belay/rollout/paging"
)

// A Mailbox is what waits to be told, and what notifiers returned for what they took. It is
// a value: whoever changes one has cloned its fields first.
type Mailbox struct {
	// Messages wait, the oldest first.
	Messages []Message `json:"messages,omitempty"`
	// Refs hold what notifiers returned, by notifier and notice key.
	Refs map[string]string `json:"refs,omitempty"`
}

// A Message is one notice on its way to one notifier. Its JSON is that of the effect that
// sends it.
type Message struct {
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	// Attempt counts the tries in vain, NotBefore is when the next may start.
	Attempt   int       `json:"attempt,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	Key       string    `json:"key"`
	// Notifiers is whom it goes to, one name.
	Notifiers []string `json:"notifiers,omitempty"`
	Notice    *Notice  `json:"notice,omitempty"`
}

// Kind is how a message waits.
type Kind string

// The kinds of messages. Questions go at once; what is told to one notifier goes in order.
const (
	KindAsk  Kind = "ask"
	KindTell Kind = "tell"
)

const (
	// threadMost bounds the undelivered thread entries of one notifier; more of them fold
	// into one.
	threadMost = 20
	// mute is after how many tries a question that cannot be asked calls people.
	mute = 3
)

// Tell queues a notice for a notifier. A status replaces one that waits already and
// inherits its back-off; everything else queues behind.
func (b *Mailbox) Tell(id, to string, n Notice) {
	m := Message{ID: id, Kind: KindTell, Key: "tell/" + to + "/" + n.Key, Notifiers: []string{to}, Notice: &n}
	if old := b.waiting(m); old != nil && n.Topic == TopicStatus {
		m.NotBefore, m.Attempt = old.NotBefore, old.Attempt
		*old = m
		return
	}
	b.Messages = append(b.Messages, m)
}

// Ask shows a question to a notifier, and how it stands.
func (b *Mailbox) Ask(id, to string, n Notice, now time.Time) {
	m := Message{ID: id, Kind: KindAsk, Key: "ask/" + n.Key, Notifiers: []string{to}, Notice: &n}
	old := b.waiting(m)
	switch {
	case old == nil:
		b.Messages = append(b.Messages, m)
	case n.Question.State == approval.Void && b.Ref(to, n.Key) == "" && old.NotBefore.After(now):
		// Nobody was asked, and nobody needs to know.
		b.Messages = slices.DeleteFunc(b.Messages, func(o Message) bool { return o.ID == old.ID })
	default:
		m.NotBefore, m.Attempt = old.NotBefore, old.Attempt
		if m.closing() {
			m.Attempt = min(m.Attempt, paging.CloseOften) // how it ended has a day of its own
		}
		*old = m
	}
}

// waiting is the message of the same kind and key that waits; nil for none.
func (b *Mailbox) waiting(m Message) *Message {
	i := slices.IndexFunc(b.Messages, func(o Message) bool { return o.Kind == m.Kind && o.Key == m.Key })
	if i < 0 {
		return nil
	}
	return &b.Messages[i]
}

// Fold folds the oldest thread entries of a notifier into one when there are too many of
// the rollout's.
func (b *Mailbox) Fold(to, rollout string) {
	var at []int
	for i, m := range b.Messages {
		if m.Kind == KindTell && m.Notice.Topic == TopicThread && m.Notifiers[0] == to {
			at = append(at, i)
		}
	}
	over := len(at) - threadMost
	if over <= 0 {
		return
	}
	gone := at[:over+1]
	last := gone[len(gone)-1]
	n := *b.Messages[last].Notice
	n.Summary = Clip(fmt.Sprintf("%d earlier entries were not delivered; see `belay history %s`. Then: %s", over,
		rollout, n.Summary))
	b.Messages[last].Notice = &n
	for _, i := range slices.Backward(gone[:len(gone)-1]) {
		b.Messages = slices.Delete(b.Messages, i, i+1)
	}
}

// Wanted are the messages that may be sent now: every question, and per notifier the first
// one told.
func (b *Mailbox) Wanted() []Message {
	var ms []Message
	busy := map[string]bool{}
	for _, kind := range []Kind{KindAsk, KindTell} {
		for _, m := range b.Messages {
			lane := string(kind) + "/" + m.Notifiers[0]
			if kind == KindAsk {
				lane = m.Key
			}
			if m.Kind != kind || busy[lane] {
				continue
			}
			busy[lane] = true
			ms = append(ms, m)
		}
	}
	return ms
}

// Delivered takes the message with the id off the queue, and keeps what the notifier
// returned for it; ok is false when there is none.
func (b *Mailbox) Delivered(id, ref string) (m Message, ok bool) {
	i := slices.IndexFunc(b.Messages, func(m Message) bool { return m.ID == id })
	if i < 0 {
		return m, false
	}
	m = b.Messages[i]
	if m.Notice.Topic != TopicThread {
		b.KeepRef(m.Notifiers[0], m.Notice.Key, ref)
	}
	b.Messages = slices.Delete(b.Messages, i, i+1)
	return m, true
}

// Undelivered tries the message with the id again later, or gives it up. It returns the
// question that people are to be called about, since it could not be asked in several
// tries, with why; nil when there is none.
func (b *Mailbox) Undelivered(
	rollout, id string, f paging.DeliveryError, now time.Time,
) (unasked *approval.Question, why string) {
	i := slices.IndexFunc(b.Messages, func(m Message) bool { return m.ID == id })
	if i < 0 {
		return nil, ""
	}
	m := b.Messages[i]
	m.Attempt++
	wait := max(backoff.For(rollout, m.Key, m.Attempt, time.Second, time.Minute), min(f.RetryAfter, 10*time.Minute))
	if m.closing() && m.Attempt > paging.CloseOften {
		wait = max(wait, 10*time.Minute)
	}
	if (m.Kind == KindTell || m.closing()) && f.Permanent || m.closing() && m.Attempt > paging.CloseTries {
		b.Messages = slices.Delete(b.Messages, i, i+1)
		return nil, ""
	}
	m.NotBefore = now.Add(wait)
	b.Messages[i] = m
	if m.Kind == KindAsk && m.Attempt >= mute && m.Notice.Question.State == approval.Open {
		return m.Notice.Question, m.Notifiers[0] + ": " + f.Why
	}
	return nil, ""
}

// closing reports whether the message says how a question ended.
func (m Message) closing() bool {
	return m.Kind == KindAsk && m.Notice.Question.State != approval.Open
}

// Ref is what the notifier returned for a notice; "" for nothing.
func (b *Mailbox) Ref(to, key string) string { return b.Refs[to+"|"+key] }

// KeepRef remembers what a notifier returned for a notice.
func (b *Mailbox) KeepRef(to, key, ref string) {
	if ref == "" {
		return
	}
	if b.Refs == nil {
		b.Refs = map[string]string{}
	}
	b.Refs[to+"|"+key] = ref
}

// Forget drops where a question stands that another one replaces: its message changes no
// more, unless it still waits to be told how it ended.
func (b *Mailbox) Forget(to, key string) {
	if !slices.ContainsFunc(b.Messages, func(m Message) bool { return m.Kind == KindAsk && m.Notice.Key == key }) {
		delete(b.Refs, to+"|"+key)
	}
}

// Clip bounds a line at 200 characters.
func Clip(s string) string { return bounded(s, 200) }

// Brief is a name as a summary has room for it: what happened comes after it.
func Brief(name string) string { return bounded(name, 80) }

func bounded(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
