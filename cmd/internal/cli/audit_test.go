package cli

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/view"
)

// A whole journal verifies. One that was edited, shortened in the middle,
// reordered, or written by another owner in the same epoch does not.
func TestAuditFindsTampering(t *testing.T) {
	plan, _ := compiled(t, "30s")
	for name, c := range map[string]struct {
		tamper func(es []journal.Entry) []journal.Entry
		want   string
	}{
		"nothing":      {func(es []journal.Entry) []journal.Entry { return es }, ""},
		"an edit":      {func(es []journal.Entry) []journal.Entry { es[2].Decisions = nil; return es }, "entry 3 was changed, or entry 4 does not follow it: the hash of entry 3 is"},
		"a reason":     {func(es []journal.Entry) []journal.Entry { es[4].Events[0].Reason = "dinner"; return es }, "entry 5 was changed, or entry 6 does not follow it"},
		"a gap":        {func(es []journal.Entry) []journal.Entry { return append(es[:2:2], es[3:]...) }, "entry 4: it comes after entry 2; entries are missing"},
		"an order":     {func(es []journal.Entry) []journal.Entry { es[1], es[2] = es[2], es[1]; return es }, "entry 3: it comes after entry 1; entries are missing or in another order"},
		"a beginning":  {func(es []journal.Entry) []journal.Entry { return es[1:] }, "entry 2: it is the first; the beginning is missing"},
		"another link": {func(es []journal.Entry) []journal.Entry { es[3].Prev = "0123456789abcdef"; return es }, "entry 3 was changed, or entry 4 does not follow it"},
		"a foreign beginning": {func(es []journal.Entry) []journal.Entry {
			es[0].Prev = "0123456789abcdef"
			return es
		}, "entry 1: it names 0123456789ab as the hash before, but it is the first"},
		"a stranger":   {func(es []journal.Entry) []journal.Entry { es[5].Owner = "b"; return es }, "b wrote in the epoch of a"},
		"an old epoch": {func(es []journal.Entry) []journal.Entry { es[5].Epoch = 0; return es }, "epoch 0 follows 1"},
	} {
		f := journalled(t, plan)
		f.entries = c.tamper(f.entries)
		a, err := verify(t.Context(), f, "r1")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := strings.Join(a.Problems, "\n")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got problems %q, want %q", name, got, c.want)
		}
	}
}

// vanishing is a reader of rollouts of which retention deletes some while they are
// read: one before its journal is read, one between plan and journal.
type vanishing struct {
	*fakeReader

	reads int // of the journal of "half"
}

func (v *vanishing) Rollouts(context.Context, view.Filter) iter.Seq2[view.Rollout, error] {
	return func(yield func(view.Rollout, error) bool) {
		for _, id := range []string{"r1", "gone", "half"} {
			if !yield(view.Rollout{ID: id}, nil) {
				return
			}
		}
	}
}

func (v *vanishing) Plan(ctx context.Context, id string) (*rollout.Plan, error) {
	if id != "r1" {
		return nil, rollout.ErrNotFound
	}
	return v.fakeReader.Plan(ctx, id)
}

func (v *vanishing) Journal(ctx context.Context, id string) iter.Seq2[journal.Entry, error] {
	if id == "half" {
		v.reads++
	}
	if id == "gone" || v.reads > 1 {
		return func(yield func(journal.Entry, error) bool) { yield(journal.Entry{}, rollout.ErrNotFound) }
	}
	return v.fakeReader.Journal(ctx, id)
}

// What is deleted while all journals are verified is named and no fault of the
// others; asked for by its name it is not found.
func TestAuditToleratesDeletion(t *testing.T) {
	plan, _ := compiled(t, "30s")
	s := newShell(t)
	v := &vanishing{fakeReader: journalled(t, plan)}
	if err := auditVerify(t.Context(), s.env(), v, nil, "", "json"); err != nil {
		t.Errorf("all: got %v, want no error", err)
	}
	var out struct {
		Audits  []audit
		Deleted []string
	}
	if err := json.Unmarshal(s.out.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Audits) != 1 || out.Audits[0].Rollout != "r1" || !slices.Equal(out.Deleted, []string{"gone", "half"}) {
		t.Errorf("all: got %+v, want r1 verified and the others deleted", out)
	}
	if got := s.err.String(); !strings.Contains(got, "gone was deleted after it was listed") {
		t.Errorf("all: got %q, want it to name what was deleted", got)
	}
	if err := auditVerify(t.Context(), s.env(), v, []string{"gone"}, "", "json"); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("by its name: got %v, want %v", err, rollout.ErrNotFound)
	}
}

// The chain covers the plan: one that was rewritten in the store is noticed.
func TestAuditFindsAnotherPlan(t *testing.T) {
	plan, _ := compiled(t, "30s")
	f := journalled(t, plan)
	other := *plan
	other.Policy.Owner = "somebody-else"
	f.plan = &other
	a, err := verify(t.Context(), f, "r1")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(a.Problems, "\n"); !strings.Contains(got, "entry 1: the plan is not the one that it names") {
		t.Errorf("got problems %q, want the plan to be noticed", got)
	}
}

// A chain that was rewritten whole links, and does not decide what it says.
func TestAuditFoldsAgain(t *testing.T) {
	plan, _ := compiled(t, "30s")
	f := journalled(t, plan)
	prev := ""
	for i := range f.entries {
		if i == 4 {
			f.entries[i].Decisions = []decision.Decision{{Kind: decision.Promote, By: "mallory", Sentence: "mallory approves."}}
		}
		f.entries[i].Prev = prev
		var err error
		if prev, err = f.entries[i].Hash(); err != nil {
			t.Fatal(err)
		}
	}
	a, err := verify(t.Context(), f, "r1")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(a.Problems, "\n"); got != "entry 5: folded again, the decisions differ; belay replay r1 shows how" {
		t.Errorf("got problems %q, want the decision that was put in", got)
	}
}

// What the head that was kept covers is compared: as it was it is 0; changed, or in
// an older copy, it is 1 and says so, though every chain is whole.
func TestAuditAgainst(t *testing.T) {
	plan, _ := compiled(t, "30s")
	f := journalled(t, plan)
	same, fewer, other := "7-2-"+strings.Repeat("ab", 32), "7-1-"+strings.Repeat("cd", 32), "7-2-"+strings.Repeat("cd", 32)
	for _, c := range []struct {
		kept, is, says string
		code           int
	}{
		{same, same, "all as at the head " + same, exitOK},
		{same, fewer, "there were 2 rollouts, of which it has 1", exitError},
		{same, other, "what the head covers has changed", exitError},
		{"9" + same[1:], same, "no head at this revision", exitError},
		{"nonsense", same, "want a head as belay audit head prints it", exitUsage},
	} {
		s := newShell(t)
		f.heads = map[uint64]string{7: c.is}
		code := s.env().exit("belay audit verify", auditVerify(t.Context(), s.env(), f, nil, c.kept, "table"))
		if got := s.out.String() + s.err.String(); code != c.code || !strings.Contains(got, c.says) {
			t.Errorf("%s against %s: got exit code %d, want %d with %q:\n%s", c.is, c.kept, code, c.code, c.says, got)
		}
	}
}
