package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/record"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// A story is a whole rollout with everybody who takes part in it.
type story struct {
	name string
	gate bool
	fail int // the weight from which on green fails; 0 never
	want rollout.Phase
	// act is what a person does at a step, once it serves.
	act  rollout.Command
	step int
}

var stories = []story{
	{name: "promotion behind a gate", gate: true, want: rollout.PhasePromoted},
	{name: "breach at 25%", fail: 25, want: rollout.PhaseRolledBack},
	{name: "rolled back by a person", act: rollout.CommandRollback, step: 1, want: rollout.PhaseStopped},
}

// down is how long a killed process stays away.
const down = 20 * time.Second

// play runs a story to its end, whatever is killed meanwhile, and returns when
// the process was away. Whoever starts and answers tries again until told that it
// is done, as the trigger and the inbox do.
func (w *world) play(st story, owners ...string) (away [][2]time.Time) {
	ctx := context.Background()
	if st.fail > 0 {
		w.failAt(st.fail)
	}
	e, n := w.start(owners[0]), 1
	started, acted := false, false
	for range 3 * 3600 {
		time.Sleep(time.Second)
		if e.dead() {
			from := time.Now()
			time.Sleep(down)
			away = append(away, [2]time.Time{from, time.Now()})
			e, n = w.start(owners[n%len(owners)]), n+1
			continue
		}
		if !started {
			_, _, err := e.Start(ctx, plan("r1", "recs", st.gate))
			started = err == nil
			continue
		}
		s, err := e.Rollout(ctx, "r1")
		if err != nil {
			continue
		}
		if q := s.State.Gates["owner"]; q.State == approval.Open {
			_, _ = e.Deliver(ctx, "r1", "yes-"+q.Nonce, rollout.Event{Kind: rollout.EventAnswered, Gate: "owner", Nonce: q.Nonce, Approve: true,
				By: &person.Person{ID: "owner"}})
		}
		if st.act != "" && !acted && s.State.Reached == st.step {
			_, err := e.Deliver(ctx, "r1", "act", rollout.Event{Kind: rollout.EventCommanded, Command: st.act, By: &person.Person{ID: "sre"}})
			acted = err == nil
		}
		if s.State.Closed() {
			break
		}
	}
	return away
}

// judge checks a story's end.
func (w *world) judge(st story, away [][2]time.Time) []string {
	rec, err := w.store.Head(context.Background(), "rollout/r1")
	if err != nil {
		w.violate("I8: %v", err)
		return w.audit()
	}
	s, _, err := record.DecodeHead(rec)
	if err != nil {
		w.violate("%v", err)
	}
	if !s.Closed() || s.Phase != st.want {
		w.violate("I10: got phase %s (%s), outbox %v, want %s\n%s", s.Phase, s.Sentence, kinds(s.Outbox), st.want, w.journal("r1"))
	}
	w.auditSteps(away)
	w.auditMessages(st)
	return w.audit("r1")
}

// auditSteps checks that no step was skipped and that no time counted as baked in
// which the process was away.
func (w *world) auditSteps(away [][2]time.Time) {
	var order []string
	var since time.Time
	for rec, err := range w.store.History(context.Background(), "rollout/r1") {
		if err != nil {
			w.violate("%v", err)
			return
		}
		e, err := record.DecodeEntry(rec)
		if err != nil {
			w.violate("%v", err)
			return
		}
		for _, d := range e.Decisions {
			if d.Kind == decision.Step {
				order = append(order, d.Step)
				if !since.IsZero() {
					w.auditBake(d.Step, since, e.At, away)
				}
				since = time.Time{}
			}
			if d.Kind == decision.Confirm {
				since = e.At
			}
		}
	}
	if want := []string{"canary", "quarter", "full"}; !slices.Equal(order, want[:min(len(order), 3)]) {
		w.violate("promise 5: the steps came as %v, want %v", order, want)
	}
}

func (w *world) auditBake(before string, from, to time.Time, away [][2]time.Time) {
	watched := to.Sub(from)
	for _, a := range away {
		start, end := a[0], a[1]
		if start.Before(from) {
			start = from
		}
		if end.After(to) {
			end = to
		}
		if end.After(start) {
			watched -= end.Sub(start)
		}
	}
	if watched < time.Minute-15*time.Second {
		w.violate("promise 5: the step before %s was watched for %s, want about a minute", before, watched)
	}
}

// auditMessages checks that a page that was opened was resolved under its key, and
// that no entry of the thread came twice under another delivery.
func (w *world) auditMessages(st story) {
	open := map[string]bool{}
	for _, n := range w.pager.all(notifier.TopicPage) {
		// A process that was killed may have called people about the store: the next one
		// ends a page that nobody has seen.
		if _, known := open[n.Key]; known || !n.Resolve || !strings.HasPrefix(n.Key, "store/") {
			open[n.Key] = !n.Resolve
		}
	}
	for k, o := range open {
		if o {
			w.violate("I3: the page %s was never resolved", k)
		}
	}
	if want := map[bool]int{true: 1}[st.want == rollout.PhaseRolledBack]; len(open) != want {
		w.violate("promise 5: got %d pages, want %d", len(open), want)
	}
	said := map[string]string{}
	for _, n := range w.chat.all(notifier.TopicThread) {
		// One event may decide two things in the same words.
		event, _, _ := strings.Cut(n.Key, ".")
		if k, ok := said[n.Summary]; ok && k != event {
			w.violate("promise 5: %q was told under %s and %s", n.Summary, k, event)
		}
		said[n.Summary] = event
	}
}

// stride is how many instants of a story lie between two that are tried. The race
// detector is after what runs at once, and need not see every one of them: the build
// without it does.
const stride = 1 + 4*raced

// Each story is killed at every instant before and after every append, traffic
// call and message, and taken up again by a fresh process of the same name or of
// another: nothing is skipped, nothing is sent without an intent, and the end is
// the same.
func TestCrashMatrix(t *testing.T) {
	for _, st := range stories {
		for _, owners := range [][]string{{"one"}, {"one", "two"}} {
			t.Run(fmt.Sprintf("%s by %d", st.name, len(owners)), func(t *testing.T) {
				t.Parallel()
				total := 0
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					defer w.endAll()
					for _, v := range w.judge(st, w.play(st, owners...)) {
						t.Fatal(v)
					}
					total = w.points
				})
				for n := 1; n <= total; n += stride {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						w.killAt = n
						defer w.endAll()
						for _, v := range w.judge(st, w.play(st, owners...)) {
							t.Errorf("killed at point %d of %d (%s): %s", n, total, w.killed, v)
						}
					})
				}
				t.Logf("%d points", total)
			})
		}
	}
}

// Every append of every story is broken in turn while the process lives on: not
// written, written with the answer lost, each told as unknown; and full. It goes
// on as if nothing had been.
func TestBrokenAppends(t *testing.T) {
	faults := map[string]func() (bool, error){
		"unknown, written":     func() (bool, error) { return true, store.ErrUnknown },
		"unknown, not written": func() (bool, error) { return false, store.ErrUnknown },
		"conflict that is none": func() (bool, error) {
			return false, store.ErrConflict
		},
		"no answer, written": func() (bool, error) { return true, context.DeadlineExceeded },
		"full":               func() (bool, error) { return false, store.ErrFull },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, st := range stories {
				for n := int64(1); ; n += stride {
					var count atomic.Int64
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						defer w.endAll()
						w.store.Fault = func(mem.Op) (bool, error) {
							if count.Add(1) == n {
								return fault()
							}
							return true, nil
						}
						for _, v := range w.judge(st, w.play(st, "one")) {
							t.Errorf("%s, append %d: %s", st.name, n, v)
						}
					})
					if n+stride > count.Load() {
						break
					}
				}
			}
		})
	}
}

// Two processes of different names work on one store whose leases exclude nobody:
// the journal's head decides, and every promise holds.
func TestRace(t *testing.T) {
	for _, st := range stories {
		t.Run(st.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.endAll()
				w.start("two")
				for _, v := range w.judge(st, w.play(st, "one")) {
					t.Error(v)
				}
			})
		})
	}
}
