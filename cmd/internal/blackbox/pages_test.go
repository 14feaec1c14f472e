package blackbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
)

// What makes people get up: two releases break at once and are rolled back by rule.
// One policy pages through Debian's Alertmanager, with the group_wait of 30 s that it
// is usually given, and a receiver behind it; the other through PagerDuty. Both
// notifications arrive, each of one alert, and so do the tests that doctor sends. One
// page is acknowledged by the command line, the other in PagerDuty: both end there,
// and the journals say who it was.
func TestPagesReachPeople(t *testing.T) {
	t.Parallel()
	am := newAlertmanager(t, "30s")
	pd := newPagerDuty(t)
	e := newEndpoints(t, "recs", "ads")
	e.broken.Store(requests())
	const steps = "[{weight: 25%, bake: 20s}, {weight: 100%, bake: 20s}]"
	w := newWorld(t, e, fmt.Sprintf(`notifiers:
  am: {alertmanager: {url: %q}}
  oncall: {pagerduty: {routingKeyFile: %q, url: %q, webhookSecretFile: %q}}
people: [{id: ann, pagerduty: PXPGF42}]
`, am.url, secretFile(t, strings.Repeat("k", 32)), pd.URL, secretFile(t, pd.secret)),
		policy("recs", "recs", "  page: [am]\n", steps), policy("ads", "ads", "  page: [oncall]\n", steps))

	if out := w.want(0, "", "doctor", "--notify"); !strings.Contains(out, "look for a notification of the alert BelayPage") || !strings.Contains(out, "look for an incident [TEST]") {
		t.Errorf("doctor: got %s, want what to look for at both", out)
	}
	begun := time.Now()
	ids := map[string]string{}
	for _, name := range []string{"recs", "ads"} {
		ids[name] = strings.TrimSpace(w.want(0, "", "start", "--policy", name, "--candidate", "green", "--version", "1", "--output", "name"))
	}
	for _, name := range []string{"recs", "ads"} {
		w.want(5, "", "watch", ids[name])
	}
	rolledBack := time.Since(begun)

	recs, ads := "rollout/recs/"+ids["recs"], "rollout/ads/"+ids["ads"]
	realtest.Eventually(t, "PagerDuty to be told of the rollback of ads", func() bool { return pd.state(ads) == "trigger" })
	realtest.Eventually(t, "the receiver to be told of the rollback of recs", func() bool { return am.told("firing", recs) })
	t.Logf("rolled back after %s, notified through Alertmanager after %s", rolledBack.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	realtest.Eventually(t, "the receiver to be told of the test", func() bool { return am.told("firing", "test/am/") })
	if got := pd.state("test/oncall/"); got != "trigger" {
		t.Errorf("the test at PagerDuty: got its last event %q, want trigger", got)
	}
	if got := pd.state(ads); got != "trigger" {
		t.Errorf("the rollback of ads at PagerDuty: got its last event %q, want it open until somebody acknowledges it", got)
	}

	w.want(0, "", "ack", ids["recs"], "--reason", "looking into it")
	if got := pd.acknowledge(t, "http://"+w.address, ads); got != http.StatusOK {
		t.Errorf("PagerDuty's webhook: got %d, want 200", got)
	}
	realtest.Eventually(t, "the page of recs to end at the receiver", func() bool { return am.told("resolved", recs) })
	realtest.Eventually(t, "the page of ads to end at PagerDuty", func() bool { return pd.state(ads) == "resolve" })
	for name, who := range map[string]string{"recs": "local", "ads": "ann"} {
		if out := w.want(0, "", "history", ids[name], "--output", "json"); !strings.Contains(out, `"command": "ack"`) || !strings.Contains(out, fmt.Sprintf(`"by": %q`, who)) {
			t.Errorf("history of %s: got %s, want that %s acknowledged its page", name, out, who)
		}
	}
	for key, sets := range am.alerts() {
		if len(sets) != 1 {
			t.Errorf("%s: got %d alerts at the receiver, want one: %v", key, len(sets), sets)
		}
	}
	w.kill(syscall.SIGTERM)
	if got := pd.state("test/oncall/"); got != "resolve" {
		t.Errorf("the test at PagerDuty after belayd stopped: got its last event %q, want resolve", got)
	}
}

// secretFile is a file with a secret in it.
func secretFile(t testing.TB, secret string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// An alertmanager is Debian's, with a receiver behind it.
type alertmanager struct {
	url string

	mu sync.Mutex
	// heard are the label sets that the receiver was told of, by key and status.
	heard map[string]map[string]bool
}

func newAlertmanager(t *testing.T, groupWait string) *alertmanager {
	t.Helper()
	am := &alertmanager{heard: map[string]map[string]bool{}}
	receiver := httptest.NewServer(http.HandlerFunc(am.receive))
	t.Cleanup(receiver.Close)
	am.url = realtest.Alertmanager(t, fmt.Sprintf("route: {receiver: people, group_by: [belay_key], group_wait: %s, group_interval: 2s, repeat_interval: 4h}\nreceivers: [{name: people, webhook_configs: [{url: %q}]}]\n",
		groupWait, receiver.URL)).URL
	return am
}

func (am *alertmanager) receive(_ http.ResponseWriter, r *http.Request) {
	var body struct {
		Alerts []struct {
			Status string            `json:"status"`
			Labels map[string]string `json:"labels"`
		} `json:"alerts"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil {
		return // it was killed while it told
	}
	am.mu.Lock()
	defer am.mu.Unlock()
	for _, a := range body.Alerts {
		key := a.Labels["belay_key"]
		for _, k := range []string{key, a.Status + " " + key} {
			if am.heard[k] == nil {
				am.heard[k] = map[string]bool{}
			}
			am.heard[k][fmt.Sprint(a.Labels)] = true
		}
	}
}

// told reports whether the receiver was told of an alert whose key begins so.
func (am *alertmanager) told(status, key string) bool {
	am.mu.Lock()
	defer am.mu.Unlock()
	for k := range am.heard {
		if strings.HasPrefix(k, status+" "+key) {
			return true
		}
	}
	return false
}

// alerts are the label sets of each key.
func (am *alertmanager) alerts() map[string][]string {
	am.mu.Lock()
	defer am.mu.Unlock()
	out := map[string][]string{}
	for k, sets := range am.heard {
		if !strings.Contains(k, " ") {
			out[k] = slices.Sorted(maps.Keys(sets))
		}
	}
	return out
}

// A pagerDuty stands for the Events API and for a webhook subscription.
type pagerDuty struct {
	*httptest.Server
	secret string

	mu     sync.Mutex
	events [][2]string // dedup_key and event_action, in order
}

func newPagerDuty(t *testing.T) *pagerDuty {
	pd := &pagerDuty{secret: strings.Repeat("w", 32)}
	pd.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Key    string `json:"dedup_key"`
			Action string `json:"event_action"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, "bad", http.StatusBadRequest)
			return
		}
		pd.mu.Lock()
		defer pd.mu.Unlock()
		pd.events = append(pd.events, [2]string{in.Key, in.Action})
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(pd.Close)
	return pd
}

// state is the last event of the incident whose key begins so; "" for none.
func (pd *pagerDuty) state(key string) (last string) {
	pd.mu.Lock()
	defer pd.mu.Unlock()
	for _, e := range pd.events {
		if strings.HasPrefix(e[0], key) {
			last = e[1]
		}
	}
	return last
}

// acknowledge tells belayd that a person acknowledged an incident.
func (pd *pagerDuty) acknowledge(t *testing.T, belayd, key string) int {
	t.Helper()
	body := fmt.Sprintf(`{"event":{"id":"E1","event_type":"incident.acknowledged","occurred_at":%q,"agent":{"id":"PXPGF42","type":"user_reference","summary":"Ann"},"data":{"incident_key":%q}}}`,
		time.Now().UTC().Format(time.RFC3339), key)
	mac := hmac.New(sha256.New, []byte(pd.secret))
	mac.Write([]byte(body))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, belayd+"/hooks/pagerduty", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-PagerDuty-Signature", "v1="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
