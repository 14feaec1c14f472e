package notifier_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/view"
)

func escape(s string) string { return strings.ReplaceAll(s, "<", "&lt;") }

// TestTemplates: an override says it in a team's words, over values that are
// already clean.
func TestTemplates(t *testing.T) {
	defaults := map[string]string{"page": "default {{.Summary}}", "ask": "ask {{.Question.Gate}}"}
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	n := notifier.Notice{
		Key: "<k>", Summary: "<!channel>", At: at,
		Rollout: notifier.Rollout{Weights: map[string]int{"gr<en": 25, "blue": 75}, Labels: map[string]string{"team": "<b>"}},
		Question: &notifier.Question{Gate: "po", Question: view.Question{
			Users: []string{"<@U1>", "U2"}, RequestsPerHour: 1234567.8, Expires: at.Add(4 * time.Hour),
		}},
	}
	for _, test := range []struct{ template, want string }{
		{"{{.Summary}}", "&lt;!channel>"},
		{"  *{{upper .Question.Gate}}* ", "*PO*"},
		{`{{weights .Rollout.Weights}}`, "blue 75%, gr&lt;en 25%"},
		{`{{time .At}} {{until .At .Question.Expires}}`, "2026-11-24 12:00 UTC 4h0m0s"},
		{`{{time .Rollout.Started}}`, "-"},
		{`{{join ", " .Question.Users}}`, "&lt;@U1>, U2"},
		{`{{count .Question.RequestsPerHour}} {{cut 3 "abcdef"}} {{lower "AB"}}`, "1,234,568 ab… ab"},
		{`{{range $k, $v := .Rollout.Labels}}{{$k}}={{$v}}{{end}}`, "team=&lt;b>"},
	} {
		words, err := notifier.ParseTemplates(defaults, map[string]string{"page": test.template}, escape, nil)
		if err != nil {
			t.Errorf("ParseTemplates(%q): got %v, want no error", test.template, err)
			continue
		}
		if got := words.Text("page", n); got != test.want {
			t.Errorf("Text of %q: got %q, want %q", test.template, got, test.want)
		}
		if got, want := words.Text("ask", n), "ask po"; got != want {
			t.Errorf("Text of the default: got %q, want %q", got, want)
		}
	}
}

// TestTemplateMistakes: all of them are reported when the configuration is read.
func TestTemplateMistakes(t *testing.T) {
	_, err := notifier.ParseTemplates(map[string]string{"page": "x", "ask": "x", "status": "x"}, map[string]string{
		"page": "{{.Nope}}", "ask": "{{", "paeg": "x", "status": strings.Repeat("x", 16<<10+1),
	}, escape, nil)
	if err == nil {
		t.Fatal("ParseTemplates of mistakes: got no error, want one")
	}
	for _, want := range []string{"template page: ", "template ask: ", "template paeg: no message has this name; there are ask, page, status", "template status: want at most 16384 bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("ParseTemplates: got %v, want %q in it", err, want)
		}
	}
	for name, text := range map[string]string{
		"an unknown field": "{{.Nope}}", "a map without the key": "{{.Rollout.Labels.nope.x}}", "too much": `{{range 100000}}0123456789{{end}}`,
	} {
		if _, err := notifier.ParseTemplates(map[string]string{"page": "x"}, map[string]string{"page": text}, escape, nil); err == nil {
			t.Errorf("ParseTemplates(%s): got no error, want one", name)
		}
	}
}

// TestTemplateFallback tells of an override that works on the samples and not on
// tonight's page: the page goes out in the default's words.
func TestTemplateFallback(t *testing.T) {
	words, err := notifier.ParseTemplates(map[string]string{"page": "default {{.Summary}}"},
		map[string]string{"page": `{{if eq .Summary "tonight"}}{{index .Rollout.Guardrails 9}}{{end}}fine`}, escape, nil)
	if err != nil {
		t.Fatalf("ParseTemplates: got %v, want no error", err)
	}
	if got, want := words.Text("page", notifier.Notice{Summary: "tonight"}), "default tonight"; got != want {
		t.Errorf("Text: got %q, want %q", got, want)
	}
}

// TestClean: every text is cleaned, addresses of messages are not, and the notice
// that was given is left as it was.
func TestClean(t *testing.T) {
	make := func(s string) notifier.Notice {
		return notifier.Notice{
			Key: "<", Delivery: "<", Ref: "<", ThreadRef: "<", Topic: notifier.Topic(s), Severity: notifier.Severity(s), Summary: s, At: time.Unix(1, 0),
			Rollout: notifier.Rollout{
				ID: s, Policy: s, Owner: s, Router: s, Endpoint: s, Stable: s, Candidate: s, Version: s, Requester: s, OnBehalfOf: s,
				Labels: map[string]string{s: s}, Runbook: s, Phase: s, Reason: s, Sentence: s, Step: s, Weights: map[string]int{s: 1},
				Guardrails: []notifier.Guardrail{{
					Guardrail: view.Guardrail{Name: s, Verdict: analysis.Outcome(s), Limit: s, Sentence: s, Needed: s, Unit: s},
					Candidate: s, Stable: s, Interval: s, N: s,
				}},
				WaitingFor: s, ManualRollback: s, BelayRollback: s, URL: s,
			},
			Question: &notifier.Question{
				Question: view.Question{
					Name: s, Nonce: s, Channel: s, Users: []string{s}, Groups: []string{s}, Step: s,
					OnExpiry: approval.ExpiryPolicy(s), State: approval.QuestionState(s),
				},
				Gate: s, Answers: []notifier.ShownVote{{Who: s, Reason: s}},
			},
		}
	}
	n := make("<")
	if diff := cmp.Diff(make("&lt;"), notifier.Clean(n, escape)); diff != "" {
		t.Errorf("Clean (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(make("<"), n); diff != "" {
		t.Errorf("the notice that was cleaned (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(notifier.Notice{}, notifier.Clean(notifier.Notice{}, escape)); diff != "" {
		t.Errorf("Clean of nothing (-want +got):\n%s", diff)
	}
}
