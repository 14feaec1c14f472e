package rollout_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/paging"
	"github.com/belayd/belay/rollout/sim"
)

// told runs a story whose page opens at 7m50.1s and ends at 9m0.1s, opens again at
// 11m50.1s and ends at 13m0.1s, and says at the given instants what did not reach people.
func told(t *testing.T, story string, at ...time.Duration) []string {
	t.Helper()
	s := newScenario(t)
	for line := range strings.SplitSeq(`policy onNoData=page
model green from=7m gone=1
model green from=9m failures=0.1%
model green from=11m gone=1
model green from=13m failures=0.1%
`+story+"\nbegin", "\n") {
		s.line(line)
	}
	var got []string
	for _, after := range at {
		s.world.At(s.start.Add(after), func(w *sim.World) {
			u, ok := w.Runs[0].State.UndeliveredPage()
			line := fmt.Sprintf("%s: nothing", after)
			if ok {
				line = fmt.Sprintf("%s: taken by %q, ended %v:", after, u.DeliveredTo, u.Ended)
			}
			for _, f := range u.Failures {
				line += fmt.Sprintf(" %s since %s (end %v)", f.Notifier, s.since(f.Since), f.End)
				if f.Tries < 1 || f.Last.Before(f.Since) || f.Why != "503" {
					t.Errorf("%s: got %+v, want tries, the last of them and the reason", after, f)
				}
			}
			got = append(got, line)
		})
	}
	s.line("run 1h")
	return got
}

// TestUndeliveredPage follows a page whose first notifier, or all of them, are away
// when it opens, when it ends, or both. What the state says of it is what a person
// needs to know whom to call: who failed since when, and who took it instead.
func TestUndeliveredPage(t *testing.T) {
	for _, c := range []struct {
		name, story string
		at          []time.Duration
		want        []string
	}{
		{"all is well", "policy page=oncall,backup", []time.Duration{8*time.Minute + 30*time.Second, 11 * time.Minute}, []string{
			"8m30s: nothing", "11m0s: nothing"}},
		{"the first is down", "policy page=oncall,backup\nfault oncall from=0s to=9m", []time.Duration{8*time.Minute + 30*time.Second, 11 * time.Minute, 12*time.Minute + 30*time.Second}, []string{
			`8m30s: taken by "backup", ended false: oncall since 7m50.1s (end false)`,
			"11m0s: nothing", "12m30s: nothing"}},
		{"all are down for a while", "policy page=oncall,backup\nfault oncall from=0s to=1h\nfault backup from=0s to=8m20s", []time.Duration{8*time.Minute + 15*time.Second, 8*time.Minute + 55*time.Second}, []string{
			`8m15s: taken by "", ended false: oncall since 7m50.1s (end false) backup since 7m50.2s (end false)`,
			`8m55s: taken by "backup", ended false: oncall since 7m50.1s (end false)`}},
		{"nobody takes the page before it ends", "policy page=oncall\nfault oncall from=0s to=11m", []time.Duration{10*time.Minute + 40*time.Second, 11*time.Minute + 40*time.Second}, []string{
			`10m40s: taken by "", ended true: oncall since 9m0.1s (end true)`, "11m40s: nothing"}},
		{"the end is not taken by the second", "policy page=oncall,backup\nfault oncall from=0s to=1h\nfault backup from=8m30s to=11m", []time.Duration{10*time.Minute + 40*time.Second, 11*time.Minute + 40*time.Second}, []string{
			`10m40s: taken by "backup", ended true: backup since 9m0.1s (end true)`, "11m40s: nothing"}},
		{"the end is not taken", "policy page=oncall\nfault oncall from=8m30s to=11m", []time.Duration{10*time.Minute + 40*time.Second, 11*time.Minute + 40*time.Second}, []string{
			`10m40s: taken by "oncall", ended true: oncall since 9m0.1s (end true)`, "11m40s: nothing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, told(t, c.story, c.at...)); diff != "" {
				t.Errorf("undelivered (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUndeliveredPageSurvives: the state holds the failure in its JSON, so that a
// restart shows it before anything is tried again.
func TestUndeliveredPageSurvives(t *testing.T) {
	s := rollout.State{Page: &paging.OpenPage{Cause: "blind"}, Paging: paging.Ledger{Calls: "backup", Views: []paging.View{
		{Notifier: "oncall", Failure: &paging.FailingNotifier{Notifier: "oncall", Tries: 2, Why: "HTTP status 503"}}, {Notifier: "backup", Shows: "0001-01-01T00:00:00.000Z/blind"}}}}
	u, ok := s.UndeliveredPage()
	if !ok || u.DeliveredTo != "backup" || u.Failures[0].Why != "HTTP status 503" {
		t.Errorf("got %+v, %v, want oncall's failure and that backup took it", u, ok)
	}
}

// pages runs a story and lists the pages as they arrived: when, where, and whether
// it was an end.
func pages(t *testing.T, story string) []string {
	t.Helper()
	s := newScenario(t)
	for line := range strings.SplitSeq(story, "\n") {
		s.line(line)
	}
	var got []string
	for _, d := range s.world.Notices {
		if d.Effect.Kind == rollout.EffectPage {
			got = append(got, fmt.Sprintf("%s %s %s", s.since(d.At), d.Notifier, map[bool]string{false: "page", true: "end"}[d.Effect.Notice.Resolve]))
		}
	}
	return got
}

// TestPageOvertakesEnd: the pager that took a page is down when the page ends, and
// still when people must be called again. The new page does not wait for the end of
// the old one.
func TestPageOvertakesEnd(t *testing.T) {
	got := pages(t, `policy page=oncall,backup onNoData=page
model green from=7m gone=1
model green from=9m failures=0.1%
model green from=11m gone=1
model green from=13m failures=0.1%
fault oncall from=8m30s to=14m
begin
run 1h`)
	want := []string{"7m50.1s oncall page", "11m50.2s backup page", "13m0.1s backup end", "14m40.4s oncall end"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}

// TestPageEndsEverywhere: a page is open at the first pager when its update can only
// be told to the second. Both learn that it is over.
func TestPageEndsEverywhere(t *testing.T) {
	got := pages(t, `policy page=oncall,backup
model green from=8m failures=25%
fault router from=8m to=13m
fault oncall from=9m to=12m
begin
run 1h`)
	want := []string{"8m20.1s oncall page", "8m20.2s oncall page", "10m20.2s backup page",
		"13m5s backup page", "28m5.1s oncall end", "28m5.1s backup end"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}

// TestPageAboutQuestionEnds: the messenger is down when an approval is to be asked, so
// people are called. They are relieved when it was asked after all, or when somebody
// answered over another way; a page that was open before is left open.
func TestPageAboutQuestionEnds(t *testing.T) {
	for _, c := range []struct{ name, story, want string }{
		{"asked after all", "fault slack from=4m to=14m\nbegin\nat 25m approve=product-owner by=ann", "[10m22.9s oncall page 14m45.5s oncall end]"},
		{"answered otherwise", "fault slack from=4m to=14m\nbegin\nat 12m approve=product-owner by=ann", "[10m22.9s oncall page 12m0.1s oncall end]"},
		{"a page before", "policy onBreach=page\nmodel green from=6m failures=25%\nmodel green from=7m failures=0.1%\nfault slack from=4m to=14m\nbegin\nat 25m command=rollback by=ann", ""},
	} {
		got := fmt.Sprint(pages(t, "policy requires=2:product-owner\n"+c.story+"\nrun 1h"))
		if c.want == "" {
			if strings.Contains(got, "14m") || !strings.HasSuffix(got, "25m0.1s oncall end]") {
				t.Errorf("%s: got %s, want it open until the rollback", c.name, got)
			}
		} else if got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestPageOfLongName: a page about an endpoint whose name alone fills a summary says what
// happened all the same.
func TestPageOfLongName(t *testing.T) {
	s := newScenario(t)
	s.plan.Endpoint.Name = strings.Repeat("recommendations-", 13)
	for _, line := range []string{"model green from=7m failures=25%", "begin", "run 1h"} {
		s.line(line)
	}
	pages := 0
	for _, d := range s.world.Notices {
		if d.Effect.Kind != rollout.EffectPage || d.Effect.Notice.Resolve {
			continue
		}
		pages++
		if got := d.Effect.Notice.Summary; !strings.Contains(got, "failures broke its limit") {
			t.Errorf("got the page %q, want what happened in it", got)
		}
	}
	if pages == 0 {
		t.Error("got no page")
	}
}
