package blackbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/belayd/belay/rollout/realtest"
)

// An operator changes the config under a rollout, with SIGHUP and the program as
// it is shipped: a wrong config changes nothing and is said; a right one gives and
// takes rights, moves the router to another address and brings another policy,
// and the rollout goes on through all of it to its end. belayd is never started
// again.
func TestReload(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	w := newWorld(t, e, tokens(map[string]string{"viewer": "view", "sre": "start, operate"}),
		policy("recs", "recs", "", "[{weight: 5%, bake: 6s}, {weight: 50%, bake: 6s}, {weight: 100%, bake: 3s}]"))
	for _, actor := range []string{"viewer", "sre", "late"} {
		w.write("token-"+actor, tokenOf(actor))
	}
	process := w.cmd.Process.Pid
	out := w.want(0, "sre", "start", "--policy", "recs", "--candidate", "green", "--version", "2", "--output", "name")
	id := strings.TrimSpace(out)
	realtest.Eventually(t, "green to have 5%", func() bool { return e.green("recs") == 5 })

	good, err := os.ReadFile(filepath.Join(w.dir, "belayd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("belayd.yaml", strings.Replace(string(good), "policies:", "polices:", 1))
	w.hup()
	realtest.Eventually(t, "/readyz to name the bad key", func() bool { return strings.Contains(w.problems(), "did you mean policies") })
	w.want(0, "viewer", "list")

	// The same endpoint at another address, which is a proxy of its own.
	front := newFront(t, e)
	next := strings.Replace(string(good), fmt.Sprintf("{url: %q}", e.URL), fmt.Sprintf("{url: %q}", front.URL), 1)
	next = next[:strings.Index(next, "auth:")] + tokens(map[string]string{"viewer": "view", "late": "start, operate"})
	w.write("belayd.yaml", next)
	w.write("policies/other.yaml", policy("other", "recs", "", "[{weight: 100%, bake: 3s}]"))
	w.hup()
	realtest.Eventually(t, "/readyz to be ready", func() bool { return w.problems() == "" })
	w.want(4, "sre", "pause", id, "--reason", "who am I")
	w.want(0, "late", "list")
	w.want(0, "viewer", "watch", id)
	if e.green("recs") != 100 || front.calls.Load() == 0 {
		t.Errorf("green has %d%% after %d calls at the new address, want 100%% and some", e.green("recs"), front.calls.Load())
	}
	if out := w.want(9, "late", "start", "--policy", "other", "--candidate", "green", "--version", "3", "--wait"); strings.Contains(out, "there are:") {
		t.Errorf("the new policy: got %s, want it known", out)
	}
	if w.cmd.Process.Pid != process || w.cmd.ProcessState != nil {
		t.Error("belayd was started again")
	}
	for _, actor := range []string{"viewer", "sre", "late"} {
		if strings.Contains(w.logs.String(), tokenOf(actor)) {
			t.Errorf("the token of %s is in the log", actor)
		}
	}
}

// hup sends SIGHUP.
func (w *world) hup() {
	w.t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		w.t.Fatal(err)
	}
}

// problems is what /readyz names to the viewer, "" when it is ready.
func (w *world) problems() string {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+w.address+"/readyz", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+tokenOf("viewer"))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var h struct{ Problems []string }
	if err := json.NewDecoder(resp.Body).Decode(&h); err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(h.Problems, "; ")
}

// A front is another address of the same endpoints.
type front struct {
	*httptest.Server
	calls atomic.Int64
}

func newFront(t testing.TB, e *endpoints) *front {
	t.Helper()
	f := &front{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.calls.Add(1)
		e.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}
