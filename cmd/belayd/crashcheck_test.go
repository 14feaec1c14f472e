package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/cmd/internal/cli"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
)

// A crashRun is what one run came to.
type crashRun struct {
	deaths   int
	problems []string
}

func (r *crashRun) wrong(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// runCrash carries the rollout to its end with a belayd that dies at a point ("":
// at none), and holds what is left against the promises.
func runCrash(t testing.TB, belayd, dir string, breach bool, at, points string) *crashRun {
	ctx := t.Context()
	r := &crashRun{}
	w, err := openCrashWorld(t, dir, breach)
	if err != nil {
		r.wrong("%v", err)
		return r
	}
	defer w.Close()
	deaths, last, err := live(ctx, belayd, w, at, points)
	r.deaths = deaths
	if err != nil {
		r.wrong("%v", err)
		return r
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r.problems = append(r.problems, w.trouble...)
	want := rollout.PhasePromoted
	if breach {
		want = rollout.PhaseRolledBack
	}
	if last.Phase != want {
		r.wrong("the rollout ended %s (%s), want %s", last.Phase, last.Sentence, want)
	}
	r.checkWrites(w)
	r.checkJournal(ctx, w, last.ID)
	r.checkNotices(w)
	return r
}

// checkWrites looks at the endpoint's own log: every step once and in order, none
// before its gate opened or its predecessor's bake was over, all of the traffic
// where it belongs in the end.
func (r *crashRun) checkWrites(w *crashWorld) {
	weights, bakes, end := []int{5, 50, 100}, []time.Duration{2 * time.Second, 3 * time.Second}, "green"
	if w.breach {
		// A breach waits for no bake.
		weights, bakes, end = []int{5, 50, 0}, []time.Duration{2 * time.Second, 0}, "blue"
	}
	var got []int
	for i, x := range w.writes {
		got = append(got, x.weights["green"])
		if sum := x.weights["blue"] + x.weights["green"]; sum != 100 {
			r.wrong("write %d: %v sums to %d", i, x.weights, sum)
		}
		if x.weights["green"] > 5 && x.approvals == 0 {
			r.wrong("write %d gives green %d%% before anybody approved", i, x.weights["green"])
		}
		if i > 0 && i <= len(bakes) && x.at.Sub(w.writes[i-1].at) < bakes[i-1] {
			r.wrong("write %d came %s after the one before, want the bake of %s", i, x.at.Sub(w.writes[i-1].at), bakes[i-1])
		}
	}
	if !slices.Equal(got, weights) {
		r.wrong("the endpoint's log: green got %v, want %v", got, weights)
	}
	if w.weights[end] != 100 {
		r.wrong("in the end: got %v, want %s at 100", w.weights, end)
	}
}

// checkJournal looks at the store as a person would with belay: one rollout, its
// chain whole, its states the same when its journal is folded again.
func (r *crashRun) checkJournal(ctx context.Context, w *crashWorld, id string) {
	belay := func(args ...string) []byte {
		args = append(args, "--store", filepath.Join(w.dir, "belay.db"))
		var out bytes.Buffer
		if code := cli.Run(ctx, args, strings.NewReader(""), &out, &out); code != 0 {
			r.wrong("belay %s: exit code %d\n%s", strings.Join(args, " "), code, &out)
		}
		return out.Bytes()
	}
	var list struct{ Rollouts []struct{ ID string } }
	if err := json.Unmarshal(belay("list", "--output", "json"), &list); err != nil || len(list.Rollouts) != 1 || list.Rollouts[0].ID != id {
		r.wrong("belay list: got %v %v, want %s alone", list.Rollouts, err, id)
	}
	belay("audit", "verify")
	var again struct {
		Entries, States int
		Same            bool
	}
	if err := json.Unmarshal(belay("replay", id, "--output", "json"), &again); err != nil || !again.Same || again.States != again.Entries || again.Entries == 0 {
		r.wrong("belay replay: got %+v %v, want every state the same", again, err)
	}
}

// checkNotices looks at what people were told. What is delivered again has the
// key that it had: one status message, one question, one page that says
// how it ended, and no line of the thread under two keys.
func (r *crashRun) checkNotices(w *crashWorld) {
	keys := map[string][]string{}
	add := func(what, key string) {
		if !slices.Contains(keys[what], key) {
			keys[what] = append(keys[what], key)
		}
	}
	var page notifier.Notice
	for _, n := range w.notices {
		add("delivery "+n.Delivery, n.Key)
		switch {
		case n.Topic == notifier.TopicThread && strings.Contains(n.Summary, "the evidence is not enough"):
			// A busy machine reads late, before a death and again after it.
		case n.Topic == notifier.TopicThread:
			add("thread: "+n.Summary, n.Key)
		default:
			add(string(n.Topic), n.Key)
		}
		if n.Topic == notifier.TopicPage {
			page = n
		}
	}
	for what, ks := range keys {
		if len(ks) > 1 {
			r.wrong("%s came under the keys %v, want one", what, ks)
		}
	}
	for _, topic := range []notifier.Topic{notifier.TopicStatus, notifier.TopicAsk} {
		if len(keys[string(topic)]) != 1 {
			r.wrong("topic %s: got keys %v, want one", topic, keys[string(topic)])
		}
	}
	if paged := page.Key != ""; paged != w.breach || paged && (page.Resolve || !strings.Contains(page.Summary, "onfirmed")) {
		r.wrong("pages: got %q with resolve=%v, want one only after a breach, open until it is acknowledged, that says confirmed", page.Summary, page.Resolve)
	}
}
