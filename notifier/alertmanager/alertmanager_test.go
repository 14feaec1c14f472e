package alertmanager_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/alertmanager"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/realtest/goldentest"
)

const password = "cAnAry-password"

// A posted alert, as the API takes it.
type posted struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL"`
}

// A recorder stands before an Alertmanager, or is one: it checks what the API's
// schema demands and keeps what was accepted, by label set.
type recorder struct {
	behind http.Handler // nil: it answers by itself

	mu     sync.Mutex
	alerts map[string]posted
	posts  [][]posted
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil || req.Method != http.MethodPost || req.URL.Path != "/api/v2/alerts" {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	var as []posted
	if err := json.Unmarshal(body, &as); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, a := range as {
		if problem := a.problem(); problem != "" {
			http.Error(w, problem, http.StatusBadRequest)
			return
		}
	}
	if r.behind != nil {
		req.Body = io.NopCloser(bytes.NewReader(body))
		answer := &status{ResponseWriter: w}
		r.behind.ServeHTTP(answer, req)
		if answer.code != http.StatusOK {
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posts = append(r.posts, as)
	for _, a := range as {
		set, _ := json.Marshal(a.Labels)
		// A resolved alert that was never open is nobody's message.
		if _, known := r.alerts[string(set)]; known || a.EndsAt.After(time.Now()) {
			r.alerts[string(set)] = a
		}
	}
}

func (a posted) problem() string {
	for k, v := range a.Labels {
		if !labelName.MatchString(k) || v == "" {
			return fmt.Sprintf("label %q=%q", k, v)
		}
	}
	if a.Labels["alertname"] == "" || a.StartsAt.IsZero() || a.EndsAt.Before(a.StartsAt) {
		return fmt.Sprintf("alert %v from %s to %s", a.Labels, a.StartsAt, a.EndsAt)
	}
	if _, err := url.ParseRequestURI(a.GeneratorURL); a.GeneratorURL != "" && err != nil {
		return "generatorURL " + a.GeneratorURL
	}
	return ""
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// of counts the label sets that were ever open under a key.
func (r *recorder) of(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, a := range r.alerts {
		if a.Labels["belay_key"] == key {
			n++
		}
	}
	return n
}

func (r *recorder) last() []posted {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.posts[len(r.posts)-1]
}

func open(t *testing.T, behind http.Handler) (*alertmanager.Client, *recorder, *notifiertest.Server) {
	t.Helper()
	r := &recorder{behind: behind, alerts: map[string]posted{}}
	s := notifiertest.NewServer(t, r)
	c, err := alertmanager.New(alertmanager.Config{
		URL: strings.Replace(s.URL, "//", "//belay:"+password+"@", 1), Client: notifiertest.Client(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatalf("New: got %v, want no error", err)
	}
	return c, r, s
}

func subject(t *testing.T, behind http.Handler) notifiertest.Subject {
	c, r, s := open(t, behind)
	return notifiertest.Subject{
		Notifier: c, Secrets: []string{password}, Messages: r.of,
		Tells: func(topic notifier.Topic) bool { return topic != notifier.TopicThread },
		Break: s.Break, Silence: s.Silence, Heal: s.Heal,
	}
}

func TestExercise(t *testing.T) {
	notifiertest.Exercise(t, func(t *testing.T) notifiertest.Subject { return subject(t, nil) })
}

func TestRetryTable(t *testing.T) {
	c, _, s := open(t, nil)
	notifiertest.RetryTable(t, c, s, password)
}

// TestOneAlert: whatever becomes of the severity, of who has taken charge and of the
// summary, a page is one alert of one label set, and no call posts another beside it.
func TestOneAlert(t *testing.T) {
	c, r, _ := open(t, nil)
	for i, sev := range []notifier.Severity{notifier.SeverityError, notifier.SeverityCritical, notifier.SeverityInfo, "", "odd"} {
		n := notifiertest.Notice(notifier.TopicPage)
		n.Severity, n.Summary = sev, fmt.Sprintf("update %d", i)
		if i == 2 {
			n.Acknowledged = notifiertest.Acknowledged().Acknowledged
		}
		n.Resolve = i == 4
		if _, err := c.Notify(t.Context(), n); err != nil {
			t.Fatalf("Notify(%s): got %v, want no error", sev, err)
		}
		posts := r.last()
		if len(posts) != 1 || posts[0].Labels["severity"] != "critical" || posts[0].Annotations["severity"] != string(sev) {
			t.Errorf("a page of severity %q: got %+v, want one alert with the label critical and the severity as an annotation", sev, posts)
		}
		if got := posts[0].Annotations["acknowledged_by"]; (got != "") != (i == 2) || i == 2 && got != "slack:T1/U2 at 2026-11-24 12:01 UTC: looking at the new feature store" {
			t.Errorf("update %d: got acknowledged_by %q", i, got)
		}
	}
	if len(r.alerts) != 1 {
		t.Errorf("got %d alerts, want one", len(r.alerts))
	}
}

// TestStates: how long the alert of each topic is open.
func TestStates(t *testing.T) {
	status := func(phase string) notifier.Notice {
		n := notifiertest.Notice(notifier.TopicStatus)
		n.Rollout.Phase = phase
		return n
	}
	ask := func(state approval.QuestionState) notifier.Notice {
		n := notifiertest.Notice(notifier.TopicAsk)
		n.Question.State = state
		return n
	}
	resolved := func(topic notifier.Topic) notifier.Notice {
		n := notifiertest.Notice(topic)
		n.Resolve = true
		return n
	}
	for _, test := range []struct {
		name   string
		notice notifier.Notice
		want   time.Duration
	}{
		{"page", notifiertest.Notice(notifier.TopicPage), alertmanager.DefaultLasts},
		{"page resolved", resolved(notifier.TopicPage), 0},
		{"test", notifiertest.Notice(notifier.TopicTest), notifier.TestLasts},
		{"test resolved", resolved(notifier.TopicTest), 0},
		{"rollout baking", status("baking"), alertmanager.DefaultLasts},
		{"rollout rolling back", status("rolling-back"), alertmanager.DefaultLasts},
		{"rollout promoted", status("promoted"), 0},
		{"rollout rolled back", status("rolled-back"), 0},
		{"question open", ask("open"), alertmanager.DefaultLasts},
		{"question approved", ask("approved"), 0},
		{"question void", ask("void"), 0},
	} {
		c, r, _ := open(t, nil)
		before := time.Now()
		if _, err := c.Notify(t.Context(), test.notice); err != nil {
			t.Errorf("Notify(%s): got %v, want no error", test.name, err)
			continue
		}
		end := r.last()[0].EndsAt
		if end.Before(before.Add(test.want).Truncate(time.Microsecond)) || end.After(time.Now().Add(test.want)) {
			t.Errorf("%s: got an end in %s, want in %s", test.name, end.Sub(before), test.want)
		}
	}
}

// TestGolden holds the alerts of each topic against the files in testdata; time is
// a bubble's, so that starts and ends are part of them.
func TestGolden(t *testing.T) {
	for _, topic := range []notifier.Topic{notifier.TopicPage, notifier.TopicStatus, notifier.TopicAsk, notifier.TopicTest} {
		synctest.Test(t, func(t *testing.T) {
			am := &memory{}
			c, err := alertmanager.New(alertmanager.Config{URL: "http://am.example", Client: &http.Client{Transport: am}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatalf("New: got %v, want no error", err)
			}
			n := notifiertest.Notice(topic)
			n.At = time.Now().Add(-time.Minute)
			if topic == notifier.TopicPage {
				n.Since = n.At.Add(-time.Hour)
			}
			if _, err := c.Notify(t.Context(), n); err != nil {
				t.Fatalf("Notify(%s): got %v, want no error", topic, err)
			}
			got, err := json.MarshalIndent(am.take()[0], "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", string(topic)+".json")
			goldentest.Check(t, file, string(got)+"\n")
		})
	}
}

// TestLabels: names that Prometheus would not take are made into some it does, and
// no label of a release displaces one of Belay's.
func TestLabels(t *testing.T) {
	c, r, _ := open(t, nil)
	n := notifiertest.Notice(notifier.TopicPage)
	n.Rollout.Labels = map[string]string{
		"team": "recs", "severity": "none", "app.kubernetes.io/name": "recs", "9lives": "yes", "__address__": "x", "": "empty", "blank": "", "日本": "jp",
	}
	if _, err := c.Notify(t.Context(), n); err != nil {
		t.Fatalf("Notify: got %v, want no error", err)
	}
	got := r.last()[0].Labels
	want := map[string]string{
		"alertname": "BelayPage", "severity": "critical", "belay_key": n.Key, "rollout": "r-7f3a", "endpoint": "recs", "router": "azureml-prod",
		"policy": "recommendations", "owner": "team-recommendations", "candidate": "green",
		"team": "recs", "release_severity": "none", "app_kubernetes_io_name": "recs", "release_9lives": "yes", "address__": "x", "release_": "empty", "release___": "jp",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func TestNew(t *testing.T) {
	good := alertmanager.Config{URL: "https://am.example/", Client: http.DefaultClient, Log: slog.Default()}
	for _, test := range []struct {
		name   string
		change func(*alertmanager.Config)
		want   string
	}{
		{"complete", func(*alertmanager.Config) {}, ""},
		{"no address", func(c *alertmanager.Config) { c.URL = "am.example" }, "url"},
		{"a broken template", func(c *alertmanager.Config) { c.Templates = map[string]string{"page": "{{"} }, "template page"},
		{"no client", func(c *alertmanager.Config) { c.Client = nil }, "client"},
		{"no log", func(c *alertmanager.Config) { c.Log = nil }, "log"},
		{"shorter than the pace", func(c *alertmanager.Config) { c.Lasts = time.Minute }, "lasts"},
	} {
		config := good
		test.change(&config)
		_, err := alertmanager.New(config)
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("New(%s): got %v, want an error about %q", test.name, err, test.want)
		}
	}
}
