package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/view"
)

// An id may be cut as long as one rollout alone begins so, for reading and for orders
// alike; where several do, nothing is ordered and they are named.
func TestShortIDs(t *testing.T) {
	other := promoted()
	other.ID = "kq3zzzzzzzzzzzzzzzzz"
	d := newFakeDaemon(t, baking(), other)
	s := newShell(t)
	if got := s.want(exitRunning, "status", "kq3x", "--server", d.URL, "--output", "name"); got != baking().ID+"\n" {
		t.Errorf("status kq3x: got %q", got)
	}
	s.want(exitOK, "rollback", "kq3x7", "--reason", "r", "--server", d.URL)
	if got := d.last("POST").path; got != "/v1/rollouts/"+baking().ID+"/rollback" {
		t.Errorf("rollback kq3x7: got %s", got)
	}
	asked := len(d.asked)
	s.want(exitUsage, "rollback", "kq3", "--reason", "r", "--server", d.URL)
	for _, want := range []string{"begins more than one id", baking().ID, other.ID, "recs 2026.11.2"} {
		if !strings.Contains(s.err.String(), want) {
			t.Errorf("rollback kq3: got %q, want %q in it", s.err.String(), want)
		}
	}
	if d.last("POST").path != "/v1/rollouts/"+baking().ID+"/rollback" || len(d.asked) != asked+1 {
		t.Errorf("rollback kq3: got %d requests, want the list alone", len(d.asked)-asked)
	}
	s.want(exitError, "status", "nobody", "--server", d.URL)
	s.want(exitError, "status", "kq", "--server", d.URL) // too short to mean one
	whole := len(d.asked)
	s.want(exitRunning, "status", baking().ID, "--server", d.URL)
	if len(d.asked) != whole+1 {
		t.Errorf("status of a whole id: got %d requests, want 1", len(d.asked)-whole)
	}
}

// Filters reach belayd as they are meant, and what is none is said before anybody is asked.
func TestListFilters(t *testing.T) {
	d := newFakeDaemon(t, baking(), promoted())
	s := newShell(t)
	s.want(exitOK, "list", "--server", d.URL, "--version", "7", "--label", "team=recs", "--since", "24h", "--until", "2026-11-24T10:00:00Z")
	for _, want := range []string{"version=7", "label=team%3Drecs", "since=2026-11-23T", "until=2026-11-24T10%3A00%3A00Z"} {
		if got := d.last("GET").path; !strings.Contains(got, want) {
			t.Errorf("list: got %s, want %s", got, want)
		}
	}
	asked := len(d.asked)
	for _, args := range [][]string{{"--since", "yesterday"}, {"--label", "team"}, {"--phase", "done"}, {"--limit", "-1"},
		{"--since", "1h", "--until", "24h"}, {"--watch", "--output", "json"}} {
		s.want(exitUsage, append([]string{"list", "--server", d.URL}, args...)...)
		if !strings.Contains(s.err.String(), "--"+strings.TrimPrefix(args[len(args)-2], "--")) && args[0] != "--watch" {
			t.Errorf("list %v: got %q, want the flag named", args, s.err.String())
		}
	}
	if len(d.asked) != asked {
		t.Errorf("a mistake reached belayd: %v", d.asked[asked:])
	}
	text := s.want(exitOK, "list", "--server", d.URL, "--limit", "1", "--output", "json")
	card := new(baking()).Card()
	if !strings.Contains(text, `"next": "`+card.Cursor()+`"`) || !strings.Contains(s.err.String(), "--after "+card.Cursor()) {
		t.Errorf("list --limit 1: got %s and %q, want where it goes on", text, s.err.String())
	}
	s.want(exitOK, "list", "--server", d.URL, "--after", card.Cursor())
	if got := d.last("GET").path; !strings.Contains(got, "cursor="+card.Cursor()) {
		t.Errorf("list --after: got %s", got)
	}
}

// The fleet stands on one screen: what needs a person first, and never more than fits.
func TestFleetOnAScreen(t *testing.T) {
	stuck := held()
	stuck.ID = "zzzzzzzzzzzzzzzzzzzz"
	fleet := []view.Rollout{promoted(), baking(), stuck}
	for i := range 40 {
		r := promoted()
		r.ID = fmt.Sprintf("ended%015d", i)
		fleet = append(fleet, r)
	}
	out := &bytes.Buffer{}
	e := terminal(out, 100, 12)
	s := newScreen(e)
	s.fleet(fleet[:3], false, nil, map[string]string{})
	s.fleet(fleet, true, nil, map[string]string{})
	shown := vt(t, 100, out.String())
	if len(shown) > 12 || !strings.HasPrefix(shown[0], "rollouts: 43, as of") || !strings.Contains(shown[0], "there are more") {
		t.Errorf("got %d rows, want at most 12 with their number on top:\n%s", len(shown), strings.Join(shown, "\n"))
	}
	if !strings.HasPrefix(shown[2], stuck.ID) || !strings.HasPrefix(shown[3], baking().ID) || !strings.Contains(strings.Join(shown, "\n"), "more: see --phase") {
		t.Errorf("got, want the held one first, then the one that bakes, and how many are left out:\n%s", strings.Join(shown, "\n"))
	}
	s.fleet(fleet[:3], false, errors.New("connection refused"), map[string]string{})
	if shown = vt(t, 100, out.String()); !strings.Contains(shown[0], "not as of now: connection refused") || len(strings.Join(shown[5:], "")) > 20 {
		t.Errorf("got, want that the list is old, and nothing of the longer one:\n%s", strings.Join(shown, "\n"))
	}
}

// Off a terminal each change is a line, and the same picture is none.
func TestFleetAsLines(t *testing.T) {
	out := &bytes.Buffer{}
	e := terminal(out, 80, 24)
	e.tty = false
	s, seen := newScreen(e), map[string]string{}
	s.fleet([]view.Rollout{baking()}, false, nil, seen)
	s.fleet([]view.Rollout{baking()}, false, nil, seen)
	s.fleet([]view.Rollout{promoted()}, false, nil, seen)
	if got := strings.Count(out.String(), "\n"); got != 2 || !strings.Contains(out.String(), string(rollout.PhasePromoted)) {
		t.Errorf("got %d lines, want one for each change:\n%s", got, out)
	}
}

// Ctrl-C ends a watched list; one that was never read is an error at once.
func TestWatchListEnds(t *testing.T) {
	d := newFakeDaemon(t, baking())
	s := newShell(t)
	ctx, cancel := context.WithCancel(t.Context())
	d.set(func() { d.onList = cancel })
	if got := s.env().run(ctx, []string{"list", "--watch", "--server", d.URL}); got != exitDetached {
		t.Errorf("got exit code %d, want %d", got, exitDetached)
	}
	d.Close()
	s.want(exitError, "list", "--watch", "--server", d.URL)
}

// What is in force is listed and shown by name.
func TestPoliciesInForce(t *testing.T) {
	d := newFakeDaemon(t, baking())
	s := newShell(t)
	if got := s.want(exitOK, "policy", "list", "--server", d.URL, "--output", "name"); got != "recommendations\nlost\n" {
		t.Errorf("policy list: got %q", got)
	}
	if got := s.want(exitOK, "policy", "list", "--server", d.URL); !strings.Contains(got, "edge/recs") {
		t.Errorf("policy list: got %q", got)
	}
	if got := s.want(exitOK, "policy", "show", "recommendations", "--server", d.URL); got != "kind: RolloutPolicy # default\n" {
		t.Errorf("policy show: got %q", got)
	}
	s.want(exitError, "policy", "show", "nobody", "--server", d.URL)
}
