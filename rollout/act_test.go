package rollout_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/split"
)

// asked is a rollout that waits for an approval by so many people.
func asked(t *testing.T, quorum int, requester person.Person, onBehalfOf string) (*rollout.Plan, rollout.State) {
	t.Helper()
	p := demoPlan()
	p.Steps[0].Requires, p.Release.Requester, p.Release.OnBehalfOf = []string{"owner"}, requester, onBehalfOf
	p.Approvals = []approval.Approval{{Name: "owner", Notifier: "slack", Quorum: quorum, NotByRequester: true, Expires: time.Hour}}
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	s := rollout.Next(p, rollout.Start(p, at), rollout.Event{Kind: rollout.EventStarted, At: at})
	for range 5 {
		if s.Gates["owner"].State == approval.Open {
			return p, s
		}
		e := s.Outbox[0]
		for _, x := range s.Outbox {
			if x.Kind == rollout.EffectClaim || x.Kind == rollout.EffectPreflight {
				e = x
			}
		}
		ev := rollout.Event{Kind: rollout.EventClaimed, At: at, Effect: e.ID, Attempt: e.Attempt}
		if e.Kind == rollout.EffectPreflight {
			ev.Kind, ev.Split = rollout.EventPreflighted, &split.Split{Weights: map[string]int{"blue": 100}}
		}
		s = rollout.Next(p, s, ev)
	}
	t.Fatalf("got phase %s, want the approval asked", s.Phase)
	return nil, s
}

// One person is one person, whichever name they used when: people knew them under
// another id, or did not know them yet, or asked for the release under it.
func TestOnePerson(t *testing.T) {
	slack, oidc := person.Person{ID: "slack:T1/U1"}, person.Person{ID: "oidc:sub-1"}
	ann := func(as string) person.Person { return person.Person{ID: "ann", As: as} }
	bob := person.Person{ID: "bob"}
	known := map[string]string{"slack:T1/U1": "ann", "oidc:sub-1": "ann"}
	nobody := person.Person{ID: "ci"}
	for _, c := range []struct {
		story      string
		quorum     int
		requester  person.Person
		onBehalfOf string
		yes        []person.Person
		known      map[string]string
		opens      bool
		voices     string // how many count after the last, "" where that was not accepted
	}{
		{"two people", 2, nobody, "", []person.Person{slack, bob}, nil, true, "2 of 2"},
		{"people learn who the first was", 2, nobody, "", []person.Person{slack, ann("oidc:sub-1")}, known, false, ""},
		{"the same notifier, another id", 2, nobody, "", []person.Person{slack, ann("slack:T1/U1")}, nil, false, ""},
		{"people forget who it was", 2, nobody, "", []person.Person{ann("slack:T1/U1"), slack}, nil, false, ""},
		{"two of three turn out to be one", 3, nobody, "", []person.Person{slack, oidc, bob}, known, false, "2 of 3"},
		{"the requester by a name that people learn", 1, slack, "", []person.Person{ann("oidc:sub-1")}, known, false, ""},
		{"the requester under the name they had", 1, ann("slack:T1/U1"), "", []person.Person{slack}, nil, false, ""},
		{"whom it was asked for", 1, nobody, "oidc:sub-1", []person.Person{ann("slack:T1/U1")}, known, false, ""},
		{"a token's owner whom no people entry names", 1, nobody, "token:ann", []person.Person{ann("token:ann")}, nil, false, ""},
		{"the same by the bare name, in capitals", 1, nobody, "ANN", []person.Person{ann("token:ann")}, nil, false, ""},
		{"an issuer's subject without the issuer", 1, nobody, "sub-1", []person.Person{oidc}, nil, false, ""},
		{"somebody else than whom it was asked for", 1, nobody, "oidc:sub-1", []person.Person{bob}, known, true, "1 of 1"},
	} {
		p, s := asked(t, c.quorum, c.requester, c.onBehalfOf)
		said := ""
		for i, by := range c.yes {
			ev := rollout.Event{Kind: rollout.EventAnswered, At: s.At, Key: fmt.Sprint("yes", i), Gate: "owner", Nonce: s.Gates["owner"].Nonce, Approve: true, By: &by}
			if i == len(c.yes)-1 {
				ev.Known = c.known
			}
			s, said = rollout.Next(p, s, ev), ""
			for _, d := range s.Last.Decisions {
				if d.Kind == decision.Answer {
					said = d.Sentence
				}
			}
		}
		opened := s.Phase != rollout.PhaseWaiting
		if opened != c.opens || (c.voices == "") != (said == "") || !strings.Contains(said, c.voices) {
			t.Errorf("%s: got phase %s and %q, want it opened %v and %q", c.story, s.Phase, said, c.opens, c.voices)
		}
	}
}

// An act that is told again under its key changes nothing, whatever came between;
// the state remembers a bounded number of them.
func TestActOnce(t *testing.T) {
	p, s := asked(t, 1, person.Person{ID: "ci"}, "")
	by := &person.Person{ID: "ann"}
	pause := rollout.Event{Kind: rollout.EventCommanded, At: s.At, Key: "k1", Command: rollout.CommandPause, By: by}
	s = rollout.Next(p, s, pause)
	s = rollout.Next(p, s, rollout.Event{Kind: rollout.EventCommanded, At: s.At, Key: "k2", Command: rollout.CommandResume, By: by})
	s = rollout.Next(p, s, pause)
	if s.Phase == rollout.PhasePaused || s.Last.Ignored != "it was taken up before" {
		t.Errorf("the pause told again: got phase %s, ignored %q, want it ignored", s.Phase, s.Last.Ignored)
	}
	for i := range 3 * rollout.HeardMax {
		s = rollout.Next(p, s, rollout.Event{Kind: rollout.EventCommanded, At: s.At, Key: fmt.Sprint("x", i), Command: rollout.CommandExtend, By: by})
	}
	if len(s.Acts) != rollout.HeardMax || !s.Heard(fmt.Sprint("x", 3*rollout.HeardMax-1)) || s.Heard("k1") {
		t.Errorf("got %d acts remembered, want the last %d", len(s.Acts), rollout.HeardMax)
	}
}
