package pagerduty_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/notifier/pagerduty"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/view"
)

const key = "cAnAry7890123456789012345678901x"

func open(t *testing.T) (*pagerduty.Client, *emulator, *notifiertest.Server) {
	t.Helper()
	e := &emulator{}
	s := notifiertest.NewServer(t, e)
	c, err := pagerduty.New(pagerduty.Config{RoutingKey: key, URL: s.URL, Client: notifiertest.Client(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("New: got %v, want no error", err)
	}
	t.Cleanup(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.refused != nil {
			t.Errorf("events against the schema: got %v, want none", e.refused)
		}
	})
	return c, e, s
}

// notify delivers n and gives its reference.
func notify(t *testing.T, c *pagerduty.Client, n notifier.Notice) string {
	t.Helper()
	ref, err := c.Notify(t.Context(), n)
	if err != nil {
		t.Fatalf("Notify(%s %s): got %v, want no error", n.Topic, n.Key, err)
	}
	return ref
}

func TestExercise(t *testing.T) {
	notifiertest.Exercise(t, func(t *testing.T) notifiertest.Subject {
		c, e, s := open(t)
		return notifiertest.Subject{
			Notifier: c, Secrets: []string{key},
			Messages: func(key string) int { return len(e.of(key)) + len(e.changesOf(key)) },
			Tells: func(topic notifier.Topic) bool {
				return topic != notifier.TopicThread && topic != notifier.TopicAsk
			},
			Break: s.Break, Silence: s.Silence, Heal: s.Heal,
		}
	})
}

func TestRetryTable(t *testing.T) {
	c, _, s := open(t)
	notifiertest.RetryTable(t, c, s, key)
}

// TestPage tells of a rollback that takes long: one alert is triggered, updated
// and resolved; what breaks after that is a new alert.
func TestPage(t *testing.T) {
	c, e, _ := open(t)
	n := notifiertest.Notice(notifier.TopicPage)
	n.Ref = notify(t, c, n)
	n.Summary, n.Severity = "recs: the rollback is not confirmed after 2m", notifier.SeverityError
	notify(t, c, n)
	as := e.of(n.Key)
	if len(as) != 1 || as[0].resolved {
		t.Fatalf("alerts: got %d, want one that is open", len(as))
	}
	p := as[0].last["payload"].(map[string]any)
	if p["summary"] != n.Summary || p["severity"] != "error" {
		t.Errorf("alert: got %v, want the summary and severity of the update", p)
	}
	resolve := n
	resolve.Resolve = true
	notify(t, c, resolve)
	notify(t, c, resolve)
	notify(t, c, n)
	as = e.of(n.Key)
	if len(as) != 2 {
		t.Fatalf("alerts after the resolve and a new trigger: got %d, want 2", len(as))
	}
	if got, want := fmt.Sprint(as[0].events, as[1].events), "[trigger trigger resolve] [trigger]"; got != want {
		t.Errorf("events: got %s, want %s", got, want)
	}
}

// TestTemplates: a summary in a team's words, within the limit.
func TestTemplates(t *testing.T) {
	e := &emulator{}
	s := notifiertest.NewServer(t, e)
	c, err := pagerduty.New(pagerduty.Config{RoutingKey: key, URL: s.URL, Client: notifiertest.Client(), Log: slog.New(slog.DiscardHandler), Templates: map[string]string{
		"page": `P1 {{.Rollout.Owner}}: {{.Summary}} {{range 300}}long {{end}}`,
	}})
	if err != nil {
		t.Fatalf("New: got %v, want no error", err)
	}
	n := notifiertest.Notice(notifier.TopicPage)
	notify(t, c, n)
	got := e.of(n.Key)[0].last["payload"].(map[string]any)["summary"].(string)
	if !strings.HasPrefix(got, "P1 team-recommendations: recs: failures broke") || len([]rune(got)) > 1024 {
		t.Errorf("summary: got %q, want the team's words in at most 1,024 characters", got)
	}
}

// TestSeverity: PagerDuty's four words pass, anything else is an error: a page
// must not get lost over a word.
func TestSeverity(t *testing.T) {
	c, e, _ := open(t)
	for in, want := range map[notifier.Severity]string{
		notifier.SeverityCritical: "critical", notifier.SeverityError: "error", notifier.SeverityWarning: "warning", notifier.SeverityInfo: "info",
		"": "error", "fatal": "error",
	} {
		n := notifiertest.Notice(notifier.TopicPage)
		n.Key, n.Severity = "page/"+string(in), in
		notify(t, c, n)
		if got := e.of(n.Key)[0].last["payload"].(map[string]any)["severity"]; got != want {
			t.Errorf("severity %q: got %v, want %s", in, got, want)
		}
	}
}

// TestChanges tells of a rollout as a responder sees it: one change event a step,
// one for the rollback, one for the end, whatever else the status message shows.
func TestChanges(t *testing.T) {
	c, e, _ := open(t)
	n := notifiertest.Notice(notifier.TopicStatus)
	for _, at := range []struct{ step, phase string }{
		{"", "preflight"}, {"canary", "shifting"}, {"canary", "baking"}, {"canary", "held"}, {"canary", "baking"},
		{"quarter", "shifting"}, {"quarter", "baking"}, {"quarter", "rolling-back"}, {"quarter", "rolling-back"}, {"quarter", "rolled-back"}, {"quarter", "rolled-back"},
	} {
		n.Rollout.Step, n.Rollout.Phase, n.Summary = at.step, at.phase, at.step+" "+at.phase
		n.Ref = notify(t, c, n)
	}
	want := []string{"preflight", "canary shifting", "quarter shifting", "quarter rolling-back", "quarter rolled-back"}
	if diff := cmp.Diff(want, e.changesOf(n.Key)); diff != "" {
		t.Errorf("change events (-want +got):\n%s", diff)
	}
	if len(e.alerts) != 0 {
		t.Errorf("alerts: got %d, want none from a status", len(e.alerts))
	}
}

// TestLimits sends the largest notices: the event stays within 512 KB, and what
// to do is still in it.
func TestLimits(t *testing.T) {
	c, e, _ := open(t)
	for _, topic := range []notifier.Topic{notifier.TopicPage, notifier.TopicStatus} {
		n := notifiertest.Notice(topic)
		n.Key = strings.Repeat("k", 300)
		n.Rollout.Labels, n.Rollout.Weights, n.Rollout.Guardrails = map[string]string{}, map[string]int{}, nil
		for i := range 100 {
			long := fmt.Sprintf("%04d%s", i, strings.Repeat("\u0001\"😀", 3000))
			n.Rollout.Labels[long], n.Rollout.Weights[long] = long, i
			n.Rollout.Guardrails = append(n.Rollout.Guardrails, notifier.Guardrail{
				Guardrail: view.Guardrail{Name: long, Verdict: "pass", Sentence: long},
			})
		}
		ref := notify(t, c, n)
		if len(e.last) > 512<<10 || !bytes.Contains(e.last, []byte(n.Rollout.ManualRollback)) {
			t.Errorf("%s: got %d bytes, want at most 512 KB with the command in them", topic, len(e.last))
		}
		if len(ref) > 255 {
			t.Errorf("%s: got a reference of %d characters, want at most 255", topic, len(ref))
		}
	}
}

// TestGolden holds each event against the files in testdata.
func TestGolden(t *testing.T) {
	c, e, _ := open(t)
	resolve := notifiertest.Notice(notifier.TopicPage)
	resolve.Resolve = true
	for _, test := range []struct {
		name   string
		notice notifier.Notice
	}{
		{"trigger", notifiertest.Notice(notifier.TopicPage)},
		{"acknowledge", notifiertest.Acknowledged()},
		{"resolve", resolve},
		{"change", notifiertest.Notice(notifier.TopicStatus)},
		{"test", notifiertest.Notice(notifier.TopicTest)},
	} {
		notify(t, c, test.notice)
		var got bytes.Buffer
		if err := json.Indent(&got, e.last, "", "  "); err != nil {
			t.Fatalf("indent the event: got %v, want no error", err)
		}
		got.WriteByte('\n')
		file := filepath.Join("testdata", test.name+".json")
		goldentest.Check(t, file, got.String())
	}
}

func TestNew(t *testing.T) {
	good := pagerduty.Config{RoutingKey: key + "\n", Client: http.DefaultClient, Log: slog.New(slog.DiscardHandler)}
	for _, test := range []struct {
		name   string
		change func(*pagerduty.Config)
		want   string
	}{
		{"complete", func(*pagerduty.Config) {}, ""},
		{"the European region", func(c *pagerduty.Config) { c.URL = "https://events.eu.pagerduty.com/" }, ""},
		{"no key", func(c *pagerduty.Config) { c.RoutingKey = "" }, "routing key"},
		{"a key of another API", func(c *pagerduty.Config) { c.RoutingKey = "cAnAry78901234567890" }, "routing key"},
		{"a key with a space", func(c *pagerduty.Config) { c.RoutingKey = "cAnAry7890123456 8901234567890123" }, "routing key"},
		{"no address", func(c *pagerduty.Config) { c.URL = "events" }, "url"},
		{"the address of one call", func(c *pagerduty.Config) { c.URL = "https://events.pagerduty.com/v2/enqueue" }, "without /v2/enqueue"},
		{"a broken template", func(c *pagerduty.Config) { c.Templates = map[string]string{"page": "{{"} }, "template page"},
		{"no client", func(c *pagerduty.Config) { c.Client = nil }, "client"},
		{"no log", func(c *pagerduty.Config) { c.Log = nil }, "log"},
	} {
		config := good
		test.change(&config)
		_, err := pagerduty.New(config)
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("New(%s): got %v, want an error about %q", test.name, err, test.want)
		}
		notifiertest.NoSecret(t, err, "cAnAry")
	}
}
