package pagerduty_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
)

// The emulator is PagerDuty's Events API v2 as documented: it refuses what the
// documented schema forbids, and keeps alerts by dedup_key as PagerDuty does.
type emulator struct {
	mu      sync.Mutex
	alerts  []*alert
	changes []map[string]any
	last    []byte
	refused []string
}

// An alert is what one dedup_key opened; a trigger after its resolve opens another.
type alert struct {
	key      string
	resolved bool
	// events are the actions in order, last the latest trigger.
	events []string
	last   map[string]any
}

func (e *emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = body
	var problems []string
	answer := map[string]any{"status": "success"}
	switch {
	case r.Method != http.MethodPost:
		http.Error(w, "method", http.StatusMethodNotAllowed)
		return
	case len(body) > 512<<10:
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		e.refused = append(e.refused, fmt.Sprintf("%d bytes", len(body)))
		return
	case r.URL.Path == "/v2/enqueue":
		problems = e.event(body)
		answer["message"] = "Event processed"
	case r.URL.Path == "/v2/change/enqueue":
		problems = e.change(body)
		answer["message"] = "Change event processed"
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if problems != nil {
		e.refused = append(e.refused, problems...)
		w.WriteHeader(http.StatusBadRequest)
		answer = map[string]any{"status": "invalid event", "message": "Event object is invalid", "errors": problems}
	} else {
		w.WriteHeader(http.StatusAccepted)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// event checks an alert event and folds it into the alerts.
func (e *emulator) event(body []byte) []string {
	v := &checker{}
	m := v.object(body, "routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "links", "images")
	v.text(m, "routing_key", 32, 32, true)
	v.text(m, "dedup_key", 1, 255, m["event_action"] != "trigger")
	v.enum(m, "event_action", true, "trigger", "acknowledge", "resolve")
	v.text(m, "client", 0, 1<<20, false)
	v.web(m, "client_url")
	v.links(m)
	if m["event_action"] == "trigger" || m["payload"] != nil {
		p, ok := m["payload"].(map[string]any)
		if !ok {
			v.fail("'payload' is missing or blank")
		}
		v.keys(p, "summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details")
		v.text(p, "summary", 1, 1024, true)
		v.text(p, "source", 1, 1<<20, true)
		v.enum(p, "severity", true, "critical", "error", "warning", "info")
		v.time(p, "timestamp")
		for _, k := range []string{"component", "group", "class"} {
			v.text(p, k, 0, 1<<20, false)
		}
	}
	if v.problems != nil {
		return v.problems
	}
	key, action := m["dedup_key"].(string), m["event_action"].(string)
	i := slices.IndexFunc(e.alerts, func(a *alert) bool { return a.key == key && !a.resolved })
	switch {
	case i < 0 && action == "trigger":
		e.alerts = append(e.alerts, &alert{key: key, events: []string{action}, last: m})
	case i >= 0:
		a := e.alerts[i]
		a.events, a.resolved = append(a.events, action), action == "resolve"
		if action == "trigger" {
			a.last = m
		}
	}
	return nil
}

// change checks a change event and keeps it.
func (e *emulator) change(body []byte) []string {
	v := &checker{}
	m := v.object(body, "routing_key", "payload", "links", "images")
	v.text(m, "routing_key", 32, 32, true)
	v.links(m)
	p, ok := m["payload"].(map[string]any)
	if !ok {
		v.fail("'payload' is missing or blank")
	}
	v.keys(p, "summary", "source", "timestamp", "custom_details")
	v.text(p, "summary", 1, 1024, true)
	v.text(p, "source", 0, 1<<20, false)
	v.time(p, "timestamp")
	if v.problems == nil {
		e.changes = append(e.changes, m)
	}
	return v.problems
}

// of gives the alerts that a key opened.
func (e *emulator) of(key string) []*alert {
	e.mu.Lock()
	defer e.mu.Unlock()
	var as []*alert
	for _, a := range e.alerts {
		if a.key == key {
			as = append(as, a)
		}
	}
	return as
}

// changesOf gives the summaries of the change events about a notice's key.
func (e *emulator) changesOf(key string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, c := range e.changes {
		p := c["payload"].(map[string]any)
		if d, _ := p["custom_details"].(map[string]any); d["belay_key"] == key {
			out = append(out, p["summary"].(string))
		}
	}
	return out
}

// A checker collects what the schema forbids.
type checker struct{ problems []string }

func (v *checker) fail(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

func (v *checker) object(body []byte, known ...string) map[string]any {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&m); err != nil || !utf8.Valid(body) {
		v.fail("not a JSON object in UTF-8")
	}
	v.keys(m, known...)
	return m
}

func (v *checker) keys(m map[string]any, known ...string) {
	for k := range m {
		if !slices.Contains(known, k) {
			v.fail("'%s' is not a field", k)
		}
	}
}

func (v *checker) text(m map[string]any, k string, atLeast, atMost int, required bool) {
	s, ok := m[k].(string)
	switch n := utf8.RuneCountInString(s); {
	case m[k] == nil && !required:
	case !ok:
		v.fail("'%s' is missing or no text", k)
	case n < atLeast || n > atMost:
		v.fail("Length of '%s' is incorrect (%d, should be %d to %d)", k, n, atLeast, atMost)
	}
}

func (v *checker) enum(m map[string]any, k string, required bool, of ...string) {
	s, ok := m[k].(string)
	if (required || m[k] != nil) && (!ok || !slices.Contains(of, s)) {
		v.fail("'%s' is %v, should be one of %v", k, m[k], of)
	}
}

func (v *checker) time(m map[string]any, k string) {
	s, ok := m[k].(string)
	if _, err := time.Parse(time.RFC3339, s); m[k] != nil && (!ok || err != nil) {
		v.fail("'%s' is no ISO 8601 time: %v", k, m[k])
	}
}

func (v *checker) web(m map[string]any, k string) {
	s, ok := m[k].(string)
	if u, err := url.Parse(s); m[k] != nil && (!ok || err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http")) {
		v.fail("'%s' is no address: %v", k, m[k])
	}
}

func (v *checker) links(m map[string]any) {
	if m["links"] == nil {
		return
	}
	ls, ok := m["links"].([]any)
	if !ok {
		v.fail("'links' is no list")
	}
	for _, l := range ls {
		o, _ := l.(map[string]any)
		v.keys(o, "href", "text")
		v.text(o, "href", 1, 1<<20, true)
		v.web(o, "href")
		v.text(o, "text", 0, 1<<20, false)
	}
}
