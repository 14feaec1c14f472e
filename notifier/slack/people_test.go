package slack

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/notifier"
)

// TestGroups: which groups hold whom, with everything that Slack may tell of them.
func TestGroups(t *testing.T) {
	w := newWorkspace(t)
	w.Groups = []map[string]any{
		{"id": "S0WHOLE", "handle": "whole", "users": []string{"U0A", "U0B"}, "user_count": 2},
		{"id": "S0PART", "handle": "part", "users": []string{"U0A"}, "user_count": 3},
		{"id": "S0HIDDEN", "handle": "hidden", "user_count": 4},
		{"id": "S0GONE", "handle": "gone", "users": []string{"U0A"}, "user_count": 1, "date_delete": 1700000000},
		{"id": "S0TWIN1", "handle": "twin", "users": []string{"U0A"}, "user_count": 1},
		{"id": "S0TWIN2", "handle": "twin", "users": []string{"U0B"}, "user_count": 1},
		{"id": "", "handle": "nameless", "users": []string{"U0A"}, "user_count": 1},
		{"id": "S0EMPTY", "handle": "empty", "user_count": 0},
	}
	w.Members["S0PART"] = []string{"U0A", "U0B", "U0C"}
	c := w.open(nil)
	for user, want := range map[string][]string{
		"U0A": {"@part", "@whole", "S0PART", "S0TWIN1", "S0WHOLE", "part", "whole"},
		"U0B": {"@part", "@whole", "S0PART", "S0TWIN2", "S0WHOLE", "part", "whole"},
		"U0C": {"@part", "S0PART", "part"},
		"U0D": nil,
	} {
		got, err := c.people.memberOf(t.Context(), user)
		if err == nil || !strings.Contains(err.Error(), "hidden") {
			t.Errorf("memberOf(%s): got %v, want an error about the group that is not told", user, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("memberOf(%s) (-want +got):\n%s", user, diff)
		}
	}
}

// TestGroupsAge: groups are believed for five minutes; after that nobody is in one
// until Slack has told them again.
func TestGroupsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkspace(t)
		c := w.open(nil)
		in := func() bool {
			groups, _ := c.people.memberOf(t.Context(), "U0MEMBER")
			return len(groups) > 0
		}
		if once, twice := in(), in(); !once || !twice || w.Calls["usergroups.list"] != 1 {
			t.Fatalf("asked twice: got %d calls, want 1 and a member", w.Calls["usergroups.list"])
		}
		w.Groups[0]["users"] = []string{"U0SOMEBODY"}
		time.Sleep(groupsFor - time.Second)
		if !in() {
			t.Error("before five minutes: got no member, want what was told")
		}
		time.Sleep(2 * time.Second)
		if in() {
			t.Error("after five minutes: got a member, want what is told now")
		}
		w.Groups[0]["users"] = []string{"U0MEMBER"}
		time.Sleep(groupsFor + time.Second)
		w.Refuse["usergroups.list"] = "internal_error"
		if in() {
			t.Error("while Slack does not tell: got a member, want none")
		}
		clear(w.Refuse)
		if !in() {
			t.Error("when Slack tells again: got no member, want one at once")
		}
	})
}

// TestEnterprise: in an enterprise, a member of the workspace may be at home in the
// organization; a member of another of its workspaces is a stranger.
func TestEnterprise(t *testing.T) {
	w := newWorkspace(t)
	c := w.open(nil)
	c.people.team, c.people.enterprise = team, "E1"
	w.User("U0ORG", map[string]any{"team_id": "E1", "enterprise_user": map[string]any{"enterprise_id": "E1", "teams": []string{team}}})
	w.User("U0ELSE", map[string]any{"team_id": "T0ELSE", "enterprise_user": map[string]any{"enterprise_id": "E1", "teams": []string{"T0ELSE"}}})
	w.User("U0FOREIGN", map[string]any{"team_id": "T0ELSE", "enterprise_user": map[string]any{"enterprise_id": "E2", "teams": []string{team}}})
	for user, want := range map[string]bool{"U0ORG": true, "U0ELSE": false, "U0FOREIGN": false} {
		_, err := c.people.person(t.Context(), user)
		if (err == nil) != want {
			t.Errorf("person(%s): got %v, want accepted = %t", user, err, want)
		}
	}
}

// TestMentionOfGroups: a group is asked by its mention; while Slack does not tell
// which it is, by its name, and the request goes out.
func TestMentionOfGroups(t *testing.T) {
	for code, want := range map[string]string{"": "<!subteam^S0PRODUCT>", "plan_upgrade_required": "the group product-owners"} {
		w := newWorkspace(t)
		w.Refuse["usergroups.list"] = code
		n := asked("open")
		n.Question.Groups = []string{"@product-owners", "S0RAW"}
		notify(t, w.open(nil), n)
		got := strings.ReplaceAll(string(pretty(t, w.Messages[0].Blocks)), "@", "")
		if !strings.Contains(got, want) || !strings.Contains(got, "<!subteam^S0RAW>") {
			t.Errorf("request with usergroups.list %q: got %s, want %s in it", code, got, want)
		}
		if n.Question.Groups[0] != "@product-owners" {
			t.Errorf("the notice that was given: got groups %q, want it as it was", n.Question.Groups)
		}
	}
	w := newWorkspace(t)
	notify(t, w.open(nil), asked("void", notifier.ShownVote{}))
	if w.Calls["usergroups.list"] != 0 {
		t.Errorf("calls for a request that is over: got %d, want none", w.Calls["usergroups.list"])
	}
}
