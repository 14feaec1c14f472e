package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
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
	counts := map[rollout.Topic]int{}
	var thread []string
	asked := map[rollout.QuestionState]int{}
	for _, d := range s.world.Notices {
		n := d.Effect.Notice
		counts[n.Topic]++
		if d.At.Before(last) {
			t.Errorf("%s arrived at %s, after %s", n.Key, d.At, last)
		}
		last = d.At
		switch n.Topic {
		case rollout.TopicThread:
			if id, twice := seen[n.Key]; twice {
				t.Errorf("entry %s arrived twice, as %s and %s", n.Key, id, d.Effect.ID)
			}
			seen[n.Key] = d.Effect.ID
			thread = append(thread, n.Summary)
		case rollout.TopicAsk:
			asked[n.Question.State]++
		case rollout.TopicStatus, rollout.TopicPage:
		}
	}
	var want []string
	for _, l := range s.world.Journal {
		for _, d := range l.Decisions {
			switch d.Kind {
			case rollout.DecisionStart, rollout.DecisionConfirm, rollout.DecisionAsk, rollout.DecisionPage:
			default:
				want = append(want, d.Sentence)
			}
		}
	}
	if strings.Join(thread, "\n") != strings.Join(want, "\n") {
		t.Errorf("entries: got %d:\n%s\nwant %d:\n%s", len(thread), strings.Join(thread, "\n"), len(want), strings.Join(want, "\n"))
	}
	if asked[rollout.QuestionOpen] != 1 || asked[rollout.QuestionApproved] != 1 {
		t.Errorf("questions: got %v, want one asked and one decided", asked)
	}
	if r := s.world.Runs[0]; r.State.Phase != rollout.PhasePromoted {
		t.Errorf("the rollout is %s, want promoted", r.State.Phase)
	}
	t.Logf("delivered: %d status, %d thread, %d ask, %d page", counts[rollout.TopicStatus], counts[rollout.TopicThread], counts[rollout.TopicAsk], counts[rollout.TopicPage])
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
