package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/store/bolt"
)

// A store's file has rollouts of two endpoints and two owners, finished and open,
// with labels and texts that look like the fields that the list reads without
// decoding. Every filter lists just what it should, the newest first, and the
// status of one is that of the very rollout.
func TestStoreListChooses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "belay.db")
	st, err := bolt.Open(file, bolt.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	template := rollout.NewID("bench", "template")
	type made struct{ id, endpoint, owner, phase string }
	var all []made
	for i := range 24 {
		m := made{fmt.Sprintf("r%02d", i), []string{"recs", "search"}[i%2], []string{"team-a", "team-b"}[i/2%2], []string{"promoted", "baking"}[i/4%2]}
		plan, state, journal := storedRollout(t, template, m.phase == "promoted", 2)
		plan = bytes.Replace(plan, []byte(`"name":"recs"`), []byte(`"name":"`+m.endpoint+`"`), 1)
		plan = bytes.Replace(plan, []byte(`"owner":"team-recommendations"`), []byte(`"owner":"`+m.owner+`","labels":{"endpoint":"edge/search","owner":"team-b","x":"\"owner\":\"team-b\",\"phase\":\"held\""}`), 1)
		if err := putRollout(t.Context(), st, template, m.id, plan, state, journal); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(all)
	s := newShell(t)
	for _, c := range []struct {
		args string
		want func(made) bool
	}{
		{"", func(made) bool { return true }},
		{"--phase open", func(m made) bool { return m.phase == "baking" }},
		{"--phase promoted", func(m made) bool { return m.phase == "promoted" }},
		{"--phase held,stopped", func(made) bool { return false }},
		{"--phase open,promoted", func(made) bool { return true }},
		{"--endpoint search", func(m made) bool { return m.endpoint == "search" }},
		{"--endpoint edge/recs", func(m made) bool { return m.endpoint == "recs" }},
		{"--endpoint other/recs", func(made) bool { return false }},
		{"--owner team-b", func(m made) bool { return m.owner == "team-b" }},
		{"--owner team-a,team-b --phase baking --endpoint recs", func(m made) bool { return m.phase == "baking" && m.endpoint == "recs" }},
	} {
		for _, limit := range []int{0, 3} {
			var want []string
			for _, m := range all {
				if c.want(m) && (limit == 0 || len(want) < limit) {
					want = append(want, m.id)
				}
			}
			args := append([]string{"list", "--store", file, "--output", "name", "--limit", fmt.Sprint(limit)}, strings.Fields(c.args)...)
			if got := strings.Fields(s.want(exitOK, args...)); !slices.Equal(got, want) {
				t.Errorf("list %s --limit %d: got %v, want %v", c.args, limit, got, want)
			}
		}
	}
	if got := s.want(exitRunning, "status", "r05", "--store", file, "--output", "json"); !strings.Contains(got, `"id": "r05"`) || !strings.Contains(got, `"name": "search"`) {
		t.Errorf("status of r05: got %s", got)
	}
}

// What is read of a state without decoding it is its phase, or nothing.
func TestPhaseOf(t *testing.T) {
	for state, want := range map[string]rollout.Phase{
		`{"id":"r1","phase":"held","x":{"phase":"baking"}}`: rollout.PhaseHeld,
		`{"id":"\"phase\":\"held\"","phase":"promoted"}`:    rollout.PhasePromoted,
		`{"x":{"phase":"held"},"phase":"baking"}`:           "",
		`{"phase":"of another version"}`:                    "",
		`{"phase":"held`:                                    "",
		`{"phase": "held"}`:                                 "",
		`[]`:                                                "",
		``:                                                  "",
	} {
		if got := phaseOf([]byte(state)); got != want {
			t.Errorf("phaseOf(%s): got %q, want %q", state, got, want)
		}
	}
}

// A file is checked whole before anything of it is shown: damage where nobody looks is
// said as well, with the commands that help.
func TestDamagedFileIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "belay.db")
	st, err := bolt.Open(file, bolt.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	template := rollout.NewID("bench", "template")
	plan, state, journal := storedRollout(t, template, false, 8)
	for i := range 8 {
		if err := putRollout(t.Context(), st, template, fmt.Sprintf("r%d", i), plan, state, journal); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte(`"seq":`+fmt.Sprint(journal[2].Seq)+`,"prev"`))
	if at < 0 {
		t.Fatal("the entry is not in the file")
	}
	b[at+1]++
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newShell(t)
	for _, args := range [][]string{{"list"}, {"status", "r1"}, {"audit", "verify", "r7"}} {
		s.want(exitError, append(args, "--store", file)...)
		if text := s.err.String(); !strings.Contains(text, "damaged") || !strings.Contains(text, "belayd backup") {
			t.Errorf("%s: got %q, want it to say what is damaged and what helps", args, text)
		}
	}
}
