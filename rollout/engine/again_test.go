package engine

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

// The first step waits most of an hour for its approval. The checks are made again
// by whoever carries the rollout then: what has become unready meanwhile gets no
// traffic, and what is still well goes on with the approval it was given, also
// when the process dies between the answer and the checks.
func TestChecksAgain(t *testing.T) {
	for _, c := range []struct {
		name            string
		unready, killed bool
		want            rollout.Phase
	}{
		{"unready meanwhile", true, false, rollout.PhaseRefused},
		{"unready meanwhile, killed", true, true, rollout.PhaseRefused},
		{"still well", false, false, rollout.PhasePromoted},
		{"still well, killed", false, true, rollout.PhasePromoted},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				e := w.start("one")
				defer w.endAll()
				p := plan("r1", "recs", true)
				p.Steps[0].Requires, p.Steps[1].Requires = []string{"owner"}, nil
				p.Preflight = []check.Check{{Kind: "ready"}}
				w.begin(e, p)
				s := w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Gates["owner"].State == approval.Open })
				time.Sleep(50 * time.Minute)
				if c.unready {
					w.router.Set("recs", traffic.Split{Weights: map[string]int{"blue": 100}}, traffic.Description{
						Deployments: map[string]traffic.Deployment{"blue": {Ready: true, Instances: 2}, "green": {Instances: 2, Version: "v2"}}})
				}
				a := notifier.Answer{ID: "click", Rollout: "r1", Gate: "owner", Nonce: s.Gates["owner"].Nonce, Command: "approve", Who: "slack:T1/U1", At: time.Now()}
				if r, err := e.Answer(t.Context(), "chat", a); err != nil || !r.Accepted {
					t.Fatalf("approve: got %+v, %v", r, err)
				}
				if c.killed {
					e.kill()
					time.Sleep(time.Second)
					w.start("one")
				}
				final := w.ended("r1", time.Hour)
				if final.Phase != c.want {
					t.Errorf("got phase %s (%s), want %s\n%s", final.Phase, final.Sentence, c.want, w.journal("r1"))
				}
				writes := 0
				for _, call := range w.router.Calls() {
					if call.Op == traffictest.OpShift {
						writes++
					}
				}
				if c.unready && (writes > 0 || !strings.Contains(final.Sentence, "ready")) {
					t.Errorf("got %d writes and %q, want none and why", writes, final.Sentence)
				}
				if asks := w.chat.all(notifier.TopicAsk); len(asks) == 0 || asks[0].Question.Nonce != asks[len(asks)-1].Question.Nonce {
					t.Errorf("got %d messages of the approval, want one question and how it ended", len(asks))
				}
				w.clean("r1")
			})
		})
	}
}

// Somebody who may end a pause and nothing else orders it by Slack. The act that is
// written down, heard by whichever replica, names the pause that it ends; Slack's
// second try is the same act, whatever has become of the rollout by then.
func TestResumeNamesHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := w.start("one")
		defer w.endAll()
		p := plan("r1", "recs", true)
		w.begin(e, p)
		w.await("r1", time.Hour, func(s *rollout.State) bool { return s.Phase == rollout.PhaseBaking })
		say := func(id, command string) {
			t.Helper()
			r, err := e.Answer(t.Context(), "chat", notifier.Answer{ID: id, Rollout: "r1", Command: command, Who: "slack:T1/U1", Reason: "why", At: time.Now()})
			if err != nil || !r.Accepted {
				t.Fatalf("%s: got %+v, %v", command, r, err)
			}
		}
		say("a", "pause")
		since := w.await("r1", time.Minute, func(s *rollout.State) bool { return s.Phase == rollout.PhasePaused }).Hold.Since
		time.Sleep(time.Minute)
		say("b", "resume")
		act, known, err := e.act(t.Context(), "r1", actKey("chat", "b"))
		if err != nil || !known || !act.event.Hold.Equal(since) {
			t.Errorf("the act: got hold %v, known %v, %v, want %v", act.event.Hold, known, err, since)
		}
		say("b", "resume")
		say("c", "pause")
		say("b", "resume")
		if s, err := e.Rollout(t.Context(), "r1"); err != nil || s.State.Phase != rollout.PhasePaused {
			t.Errorf("after the second pause: got %s, %v, want paused", s.State.Phase, err)
		}
	})
}

// Whom a notifier hears is asked by each of the names that policies give them, also
// where the config knows them by another one, and never as the same user of another
// workspace.
func TestHeardFrom(t *testing.T) {
	e := &Engine{cfg: Config{People: func(string, string) access.Actor { return access.Actor{Person: person.Person{ID: "ann"}} }}}
	who := e.heardFrom("chat", notifier.Answer{Who: "slack:T1/U1", Name: "Ann"})
	for user, want := range map[string]bool{"ann": true, "slack:T1/U1": true, "T1/U1": true, "slack:U1": true, "U1": true, "slack:T2/U1": false, "T2/U1": false, "slack:T1/U2": false, "": false} {
		if got := who.AskedBy(approval.Approval{Users: []string{user}}); got != want {
			t.Errorf("an approval from %q asks %v: got %v, want %v", user, who.Person, got, want)
		}
	}
}
