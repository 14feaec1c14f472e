package rollout_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/sim"
)

// TestMessengerAway: the messenger is down for ten minutes in the middle of a
// rollout with an approval. Afterwards every entry has arrived once and in
// order, the status and the question stand as they are, and nothing waited for
// the messenger but the question itself.
func TestMessengerAway(t *testing.T) {
	s := newScenario(t)
	for line := range strings.SplitSeq(`policy requires=2:product-owner
begin
fault slack from=4m to=14m
at 16m approve=product-owner by=ann
run 1h`, "\n") {
		s.line(line)
	}
	seen, last := map[string]string{}, time.Time{}
	counts := map[mailbox.Topic]int{}
	var thread []string
	asked := map[approval.QuestionState]int{}
	for _, d := range s.world.Notices {
		n := d.Effect.Notice
		counts[n.Topic]++
		if d.At.Before(last) {
			t.Errorf("%s arrived at %s, after %s", n.Key, d.At, last)
		}
		last = d.At
		switch n.Topic {
		case mailbox.TopicThread:
			if id, twice := seen[n.Key]; twice {
				t.Errorf("entry %s arrived twice, as %s and %s", n.Key, id, d.Effect.ID)
			}
			seen[n.Key] = d.Effect.ID
			thread = append(thread, n.Summary)
		case mailbox.TopicAsk:
			asked[n.Question.State]++
		case mailbox.TopicStatus, mailbox.TopicPage:
		}
	}
	var want []string
	for _, l := range s.world.Journal {
		for _, d := range l.Decisions {
			untold := []decision.Kind{decision.Start, decision.Confirm, decision.Ask, decision.Page}
			if !slices.Contains(untold, d.Kind) {
				want = append(want, d.Sentence)
			}
		}
	}
	if strings.Join(thread, "\n") != strings.Join(want, "\n") {
		t.Errorf("entries: got %d:\n%s\nwant %d:\n%s", len(thread), strings.Join(thread, "\n"), len(want), strings.Join(want, "\n"))
	}
	if asked[approval.Open] != 1 || asked[approval.Approved] != 1 {
		t.Errorf("questions: got %v, want one asked and one decided", asked)
	}
	if r := s.world.Runs[0]; r.State.Phase != rollout.PhasePromoted {
		t.Errorf("the rollout is %s, want promoted", r.State.Phase)
	}
	t.Logf("delivered: %d status, %d thread, %d ask, %d page", counts[mailbox.TopicStatus], counts[mailbox.TopicThread], counts[mailbox.TopicAsk], counts[mailbox.TopicPage])
}

// TestPageIsOne: whatever happens to a rollout that must be rolled back while its
// router is away, it has one page: opened, told worse, and resolved by the same
// key.
func TestPageIsOne(t *testing.T) {
	s := newScenario(t)
	for line := range strings.SplitSeq(`model green from=8m failures=25%
begin
fault router from=8m to=13m
run 1h`, "\n") {
		s.line(line)
	}
	opened, resolved := 0, 0
	for _, d := range s.world.Notices {
		if d.Effect.Kind != rollout.EffectPage {
			continue
		}
		if want := s.world.Runs[0].Plan.PageKey(); d.Effect.Notice.Key != want {
			t.Errorf("page key: got %s, want %s", d.Effect.Notice.Key, want)
		}
		if d.Effect.Notice.Resolve {
			resolved++
		} else {
			opened++
			if resolved > 0 {
				t.Error("the page was opened again after it was resolved")
			}
		}
	}
	if opened == 0 || resolved != 1 {
		t.Errorf("got %d openings or updates and %d ends, want at least one and one", opened, resolved)
	}
}

// TestVoidForHours: the candidate's series come and go for half a day while an approval
// waits: each time it is void, and asked again. Whether the messenger takes all of it
// or none, the state stays small, and the last question stands.
func TestVoidForHours(t *testing.T) {
	for _, fault := range []string{"", "fault slack from=5m to=12h"} {
		s := newScenario(t)
		s.line("policy requires=1:product-owner")
		s.plan.Approvals[0].Expires = 48 * time.Hour
		for at := 6 * time.Minute; at < 12*time.Hour; at += 6 * time.Minute {
			s.line(fmt.Sprintf("model green from=%s gone=1", at))
			s.line(fmt.Sprintf("model green from=%s failures=0.1%%", at+2*time.Minute))
		}
		s.line(fault)
		s.line("begin")
		size := 0
		for at := time.Hour; at < 12*time.Hour; at += time.Hour {
			s.world.At(s.start.Add(at), func(w *sim.World) {
				b, err := json.Marshal(w.Runs[0].State)
				if err != nil {
					t.Error(err)
				}
				size = max(size, len(b))
			})
		}
		s.line("run 13h")
		voids, shown := 0, ""
		for _, l := range s.world.Journal {
			for _, d := range l.Decisions {
				if d.Kind == decision.Void {
					voids++
				}
			}
		}
		if voids < 50 {
			t.Fatalf("%q: the approval was void %d times; the story is not what it says", fault, voids)
		}
		if most := 17 << 10; size > most {
			t.Errorf("%q: got a state of %d bytes after %d voids, want at most %d", fault, size, voids, most)
		}
		nonce := s.world.Runs[0].State.Gates["product-owner"].Nonce
		for _, d := range s.world.Notices {
			if q := d.Effect.Notice.Question; q != nil && q.Nonce == nonce {
				shown = string(q.State)
			}
		}
		if want := string(s.world.Runs[0].State.Gates["product-owner"].State); shown != want || nonce == "" {
			t.Errorf("%q: the last question is shown as %q, want %q", fault, shown, want)
		}
	}
}

// TestEndsAfterLongOutage: the messenger and the pager are away for hours when a
// question is decided and a page is over. When they are back both learn of it: nobody
// is left with a page that is over, or with buttons that decide nothing.
func TestEndsAfterLongOutage(t *testing.T) {
	s := newScenario(t)
	for line := range strings.SplitSeq(`policy requires=1:product-owner onNoData=page
model green from=2m gone=1
model green from=4m failures=0.1%
begin
fault oncall from=3m30s to=6h
fault slack from=8m to=6h
at 10m approve=product-owner by=ann
run 8h`, "\n") {
		s.line(line)
	}
	if r := s.world.Runs[0]; !r.State.Closed() {
		t.Errorf("got phase %s with %d effects, want it over", r.State.Phase, len(r.State.Outbox))
	}
	var pages, asks []string
	for _, d := range s.world.Notices {
		n := d.Effect.Notice
		switch {
		case n.Topic == mailbox.TopicPage:
			pages = append(pages, fmt.Sprintf("end %v %s", n.Resolve, d.At.Sub(s.start).Truncate(time.Hour)))
		case n.Question != nil:
			asks = append(asks, fmt.Sprintf("%s %s", n.Question.State, d.At.Sub(s.start).Truncate(time.Hour)))
		}
	}
	if got, want := strings.Join(pages, ", "), "end false 0s, end true 6h0m0s"; got != want {
		t.Errorf("pages: got %s, want %s", got, want)
	}
	if got, want := strings.Join(asks, ", "), "open 0s, approved 6h0m0s"; got != want {
		t.Errorf("questions: got %s, want %s", got, want)
	}
}

// TestAnswerLateInOutage: nobody could be asked for five hours when somebody answers
// over another way. How that ended is told when the messenger is back.
func TestAnswerLateInOutage(t *testing.T) {
	s := newScenario(t)
	s.line("policy requires=1:product-owner")
	s.plan.Approvals[0].Expires = 24 * time.Hour
	for _, line := range []string{"fault slack from=4m to=6h", "begin", "at 5h approve=product-owner by=ann", "run 8h"} {
		s.line(line)
	}
	var asks []string
	for _, d := range s.world.Notices {
		if q := d.Effect.Notice.Question; q != nil {
			asks = append(asks, string(q.State))
		}
	}
	if got := strings.Join(asks, ", "); got != "approved" {
		t.Errorf("questions: got %q, want that it was approved", got)
	}
}
