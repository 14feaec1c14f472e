package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/slack/slacktest"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/store"
)

// request waits for the approval request and gives it as it is shown.
func (w *town) request() (m slacktest.Message) {
	w.t.Helper()
	w.until("an approval request", func() (found bool) {
		w.chat.Set(func() {
			for _, x := range w.chat.Messages {
				if key, _ := x.Metadata.EventPayload["key"].(string); strings.HasPrefix(key, "r1/ask/owner/") {
					m, found = *x, true
				}
			}
		})
		return found
	})
	return m
}

// click is a click on the request's button to approve, as Slack sends it.
func (w *town) click(m slacktest.Message, user, at string) string {
	w.t.Helper()
	c, ok := m.Button(user, "belay_approve", at)
	if !ok {
		w.t.Fatalf("the request has no button to approve: %s", m.Blocks)
	}
	return c.JSON()
}

// whispered gives what a person was told.
func (w *town) whispered(user string) []string {
	var out []string
	for _, s := range w.chat.Heard() {
		if text, ok := strings.CutPrefix(s, user+": "); ok {
			out = append(out, text)
		}
	}
	return out
}

// hear waits until a person was told so many things, and checks how each begins.
func (w *town) hear(user string, want ...string) {
	if !w.until(fmt.Sprintf("%d replies to %s", len(want), user), func() bool { return len(w.whispered(user)) >= len(want) }) {
		return
	}
	if got := w.whispered(user); !slices.EqualFunc(got, want, strings.HasPrefix) {
		w.problem("%s was told %q, want %q", user, got, want)
	}
}

// decided waits for the step that was approved, ends the rollout and checks what is
// left of the question: the journal has one answer, by one person, folded in by one
// replica; the one message was updated once and has no buttons.
func (w *town) decided(r *replica, by, owner string) {
	w.t.Helper()
	ctx := context.Background()
	if !w.until("the approved step", func() bool {
		s, err := r.Rollout(ctx, "r1")
		return err == nil && s.State.Reached == 1
	}) {
		return
	}
	if _, err := r.Deliver(ctx, "r1", "end", rollout.Event{Kind: rollout.EventCommanded, Command: rollout.CommandRollback, By: &person.Person{ID: "sre"}, Reason: "the test is over"}); err != nil {
		w.t.Fatal(err)
	}
	if !w.until("the end of the rollout", func() bool {
		s, err := r.Rollout(ctx, "r1")
		return err == nil && s.State.Phase.Terminal() && len(s.State.Outbox) == 0
	}) {
		return
	}
	var answers []string
	for e, err := range r.Journal(ctx, "r1") {
		if err != nil {
			w.t.Fatal(err)
		}
		for _, d := range e.Decisions {
			if d.Kind == decision.Answer {
				answers = append(answers, d.By+" at "+e.Owner)
			}
		}
	}
	if want := []string{"slack:" + slacktest.Team + "/" + by + " at " + owner}; !slices.Equal(answers, want) {
		w.problem("the journal has the answers %q, want %q", answers, want)
	}
	ask := w.request()
	if _, open := ask.Button(by, "belay_approve", "9"); open || ask.Edits != 1 || !strings.Contains(string(ask.Blocks), "Approved") {
		w.problem("the request was edited %d times (buttons %v), want once, to Approved: %s", ask.Edits, open, ask.Blocks)
	}
	asks := 0
	w.chat.Set(func() {
		for _, x := range w.chat.Messages {
			if key, _ := x.Metadata.EventPayload["key"].(string); strings.Contains(key, "/ask/") {
				asks++
			}
		}
	})
	if asks != 1 {
		w.problem("got %d approval requests, want one", asks)
	}
}

// asked starts two replicas and a rollout that the first one carries up to its gate.
func (w *town) asked() (one, two *replica, m slacktest.Message) {
	w.t.Helper()
	one = w.replica("one")
	if _, _, err := one.Start(context.Background(), gated()); err != nil {
		w.t.Fatal(err)
	}
	m = w.request()
	return one, w.replica("two"), m
}

// oneClick is an afternoon with two replicas. A click reaches the one that does not
// carry the rollout, and, sent again since Slack heard nothing yet, the other one at
// the same time; and once more later. A stranger clicks too, and another approver
// who still sees the buttons.
func (w *town) oneClick() []string {
	one, two, m := w.asked()
	w.chat.Envelope(one.conn, "e0", "interactive", w.click(m, "U0OTHER", "1.0"))
	w.hear("U0OTHER", "Not accepted: ")

	click := w.click(m, "U0MEMBER", "1.1")
	w.chat.Send(two.conn, "e1", "interactive", click)
	w.chat.Send(one.conn, "e2", "interactive", click)
	w.chat.Acked("e1")
	w.chat.Acked("e2")
	w.hear("U0MEMBER", "Recorded.", "Recorded.")
	w.chat.Envelope(two.conn, "e3", "interactive", click)
	w.hear("U0MEMBER", "Recorded.", "Recorded.", "Recorded.")

	if !w.until("the decision", func() bool {
		s, err := two.Rollout(context.Background(), "r1")
		return err == nil && s.State.Step == 1
	}) {
		return w.wrong
	}
	w.chat.Envelope(two.conn, "e4", "interactive", w.click(m, "U0APPROVER", "1.2"))
	w.hear("U0APPROVER", "Not accepted: ")
	w.decided(two, "U0MEMBER", "one")
	return w.wrong
}

// heardByTheDying: the replica that carries the rollout hears the click, writes it
// down, and is killed before it can act on it. Slack repeats the click to the other
// one, which acts on it when the lease is over.
func (w *town) heardByTheDying() []string {
	one, two, m := w.asked()
	heard := make(chan struct{})
	die := sync.OnceFunc(func() {
		one.kill()
		close(heard)
	})
	one.heard.Store(&die)
	click := w.click(m, "U0MEMBER", "1.1")
	w.chat.Send(one.conn, "e1", "interactive", click)
	<-heard
	w.chat.Envelope(two.conn, "e2", "interactive", click)
	w.hear("U0MEMBER", "Recorded.")
	w.decided(two, "U0MEMBER", "two")
	return w.wrong
}

// TestOneClick: two engines on one store hear one click; it counts once, and nobody
// is told an error.
func TestOneClick(t *testing.T) {
	t.Parallel()
	for _, problem := range newTown(t).oneClick() {
		t.Error(problem)
	}
}

// TestHeardByTheDying: a click outlives the replica that heard it.
func TestHeardByTheDying(t *testing.T) {
	t.Parallel()
	for _, problem := range newTown(t).heardByTheDying() {
		t.Error(problem)
	}
}

// renaming is an inbox that gives every act a name of its own.
type renaming struct {
	notifier.Inbox
	n atomic.Int64
}

func (r *renaming) Run(ctx context.Context, deliver func(context.Context, notifier.Answer) (notifier.Reply, error)) error {
	return r.Inbox.Run(ctx, func(ctx context.Context, a notifier.Answer) (notifier.Reply, error) {
		a.ID = fmt.Sprintf("%s/%p/%d", a.ID, r, r.n.Add(1))
		return deliver(ctx, a)
	})
}

// unwritten is a store that keeps no act, and says that it does.
type unwritten struct{ store.Store }

func (u unwritten) Append(ctx context.Context, key string, entry, state []byte, after store.Revision) (store.Revision, error) {
	if strings.HasPrefix(key, "inbox/") {
		return 1, nil
	}
	return u.Store.Append(ctx, key, entry, state, after)
}

// TestClicksBite: without the record that is created once under the click's name,
// the stories go wrong, and the tests above see it.
func TestClicksBite(t *testing.T) {
	for name, story := range map[string]func(*town) []string{
		"every hearing is an act of its own": func(w *town) []string {
			w.inbox = func(i notifier.Inbox) notifier.Inbox { return &renaming{Inbox: i} }
			return w.oneClick()
		},
		"what was heard is not written down": func(w *town) []string {
			w.shared = func(s store.Store) store.Store { return unwritten{s} }
			w.patience = 12 * time.Second
			return w.heardByTheDying()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong := story(newTown(t))
			if len(wrong) == 0 {
				t.Error("got no problem, want some")
			}
			t.Log(wrong)
		})
	}
}
