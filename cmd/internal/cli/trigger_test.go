package cli

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/api"
)

// refusedPage is a page of the three events that nats:RELEASES refused; the cursor
// is how many came before.
func refusedPage(trigger string, q url.Values) api.RefusedList {
	l := api.RefusedList{SchemaVersion: 1, Trigger: trigger, Refused: []api.RefusedEvent{}}
	if trigger != "nats:RELEASES" {
		return l
	}
	all := []api.RefusedEvent{
		{Stream: "RELEASES", Sequence: 9, Subject: "models.approved.recs", Reason: "body: not JSON\x1b[2J", At: now.Add(-5 * time.Minute), Body: "hello"},
		{Stream: "RELEASES", Sequence: 7, Subject: "models.approved.recs", Source: "ci", ID: "41", Reason: "policy \"nobody\": there is none", At: now.Add(-26 * time.Hour), Header: map[string]string{"ce-id": "41"}},
		{Stream: "RELEASES", Sequence: 4, Subject: "models.approved.recs", Source: "ci", ID: "40", Reason: "the same key came before with another body, as rollout r1", At: now.Add(-27 * time.Hour)},
	}
	from, _ := strconv.Atoi(q.Get("cursor"))
	n, _ := strconv.Atoi(q.Get("limit"))
	l.Refused = all[from:min(len(all), from+min(n, 2))] // a page has two at most
	if next := from + len(l.Refused); next < len(all) {
		l.Next = strconv.Itoa(next)
	}
	return l
}

// What starts rollouts, whether it consumes, and what it refused, all pages of it.
func TestTriggers(t *testing.T) {
	d := newFakeDaemon(t)
	s := newShell(t)
	golden(t, "triggers.txt", s.want(exitOK, "trigger", "list", "--server", d.URL))
	if got := s.want(exitOK, "trigger", "list", "--server", d.URL, "--output", "name"); got != "nats:RELEASES\nnats:NIGHTLY\n" {
		t.Errorf("names: got %q", got)
	}
	golden(t, "refused.txt", s.want(exitOK, "trigger", "refused", "--server", d.URL))
	s.want(exitOK, "trigger", "refused", "nats:RELEASES", "--server", d.URL, "--limit", "1")
	if !strings.Contains(s.err.String(), "nats:RELEASES keeps more") {
		t.Errorf("limit: got %q, want it to say that there are more", s.err.String())
	}
	var out struct {
		Triggers []api.RefusedList `json:"triggers"`
	}
	if err := json.Unmarshal([]byte(s.want(exitOK, "trigger", "refused", "nats:RELEASES", "--server", d.URL, "--output", "json")), &out); err != nil || len(out.Triggers) != 1 || len(out.Triggers[0].Refused) != 3 || out.Triggers[0].Refused[0].Body != "hello" {
		t.Errorf("json: got %+v, %v, want three events with their bodies", out, err)
	}
	s.want(exitUsage, "trigger", "refused", "--limit", "0")
}
