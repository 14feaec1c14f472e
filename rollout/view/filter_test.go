package view_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/view"
)

// Every field of a filter leaves out what it does not name, and nothing else.
func TestFilterChooses(t *testing.T) {
	at := time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)
	card := view.Card{ID: "kq3x7m", Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Owner: "ml", Version: "7",
		Labels: map[string]string{"team": "recs", "tier": "1"}, Phase: rollout.PhaseHeld, CreatedAt: at}
	for _, c := range []struct {
		name string
		f    view.Filter
		want bool
	}{
		{"empty", view.Filter{}, true},
		{"id", view.Filter{ID: "kq3"}, true}, {"another id", view.Filter{ID: "q3x"}, false},
		{"endpoint", view.Filter{Endpoint: "recs"}, true}, {"its router", view.Filter{Endpoint: "edge/recs"}, true},
		{"another router", view.Filter{Endpoint: "side/recs"}, false}, {"another endpoint", view.Filter{Endpoint: "edge/ads"}, false},
		{"owner", view.Filter{Owners: []string{"x", "ml"}}, true}, {"another owner", view.Filter{Owners: []string{"x"}}, false},
		{"version", view.Filter{Version: "7"}, true}, {"another version", view.Filter{Version: "70"}, false},
		{"labels", view.Filter{Labels: map[string]string{"team": "recs", "tier": "1"}}, true},
		{"one label of two", view.Filter{Labels: map[string]string{"team": "recs", "zone": "1"}}, false},
		{"an empty label", view.Filter{Labels: map[string]string{"zone": ""}}, false},
		{"phase", view.Filter{Phases: []string{"held"}}, true}, {"open", view.Filter{Phases: []string{"open"}}, true},
		{"another phase", view.Filter{Phases: []string{"paused", "promoted"}}, false},
		{"since then", view.Filter{Since: at}, true}, {"since later", view.Filter{Since: at.Add(1)}, false},
		{"until then", view.Filter{Until: at}, false}, {"until later", view.Filter{Until: at.Add(1)}, true},
		{"all of it", view.Filter{ID: "k", Endpoint: "edge/recs", Owners: []string{"ml"}, Version: "7", Phases: []string{"held"},
			Labels: map[string]string{"tier": "1"}, Since: at, Until: at.Add(1)}, true},
	} {
		if got := c.f.Chooses(&card); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
	ended := card
	ended.Phase = rollout.PhasePromoted
	if open := (view.Filter{Phases: []string{view.PhaseOpen}}); open.Chooses(&ended) {
		t.Error("a promoted rollout is open")
	}
}

// A list that is read in pages, each after the last of the one before, is the list.
func TestCursor(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	var all []view.Card
	for i := range 200 { // many of one instant
		all = append(all, view.Card{ID: "r" + strconv.Itoa(i), CreatedAt: time.Unix(int64(rng.IntN(20)), int64(rng.IntN(2))).UTC()})
	}
	slices.SortFunc(all, func(a, b view.Card) int { return a.Before(&b) })
	for i := range all {
		at, err := view.ParseCursor(all[i].Cursor())
		if err != nil {
			t.Fatal(err)
		}
		rest := slices.DeleteFunc(slices.Clone(all), func(c view.Card) bool { return at.Before(&c) >= 0 })
		if len(rest) != len(all)-i-1 || len(rest) > 0 && rest[0].ID != all[i+1].ID {
			t.Fatalf("after number %d: got %d rollouts, want %d", i, len(rest), len(all)-i-1)
		}
	}
	for _, s := range []string{"!", "e30", "bm90LWEtdGltZSB4"} {
		if _, err := view.ParseCursor(s); err == nil {
			t.Errorf("cursor %q: got no error", s)
		}
	}
}
