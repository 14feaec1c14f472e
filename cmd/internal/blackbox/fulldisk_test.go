package blackbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/view"
)

// The disk under the store is full when the candidate breaks. The rollback cannot
// be written down, and is sent nonetheless two seconds after it was decided; a
// human is called; other releases hear why they cannot start. With room again all
// of it stands in the journal, which still verifies, and belayd killed at that
// point comes back to the same end.
func TestRollbackOnFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 64<<20) // no step goes forward without the reserve, which asks for 32 MiB free
	e := newEndpoints(t, "recs")
	var broken atomic.Int64 // the count of requests from which on every other one fails
	green := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := time.Now().UnixMilli() / 2
		failed := int64(0)
		if from := broken.Load(); from > 0 {
			failed = (n - from) / 2
		}
		fmt.Fprintf(w, "# TYPE requests_total counter\nrequests_total{deployment=\"green\"} %d\n# TYPE failed_total counter\nfailed_total{deployment=\"green\"} %d\n", n, failed)
	}))
	defer green.Close()
	var pages calls
	hook := httptest.NewServer(&pages)
	defer hook.Close()

	secret := filepath.Join(disk, "secret")
	if err := os.WriteFile(secret, []byte("a secret of the hook alone"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, e, fmt.Sprintf("notifiers: {hook: {webhook: {url: %q, secretFile: %q}}}\n", hook.URL, secret),
		policy("recs", "recs", "  concurrency: refuse\n  page: [hook]\n", "[{weight: 5%, bake: 10m}, {weight: 100%, bake: 2s}]"))
	w.kill(syscall.SIGTERM)
	config := w.read("belayd.yaml")
	config = strings.NewReplacer("path: belay.db", "path: "+filepath.Join(disk, "belay.db"), e.URL+"/metrics/green", green.URL).Replace(config)
	w.write("belayd.yaml", config)
	w.start()

	w.want(0, "", "start", "--policy", "recs", "--candidate", "green", "--version", "v1")
	realtest.Eventually(t, "green to have 5%", func() bool { return e.green("recs") == 5 })
	id := ids(w)[0]
	realtest.Eventually(t, "a watched second", func() bool { r := status(w, id); return r.Phase == "baking" && len(r.Guardrails) == 1 })

	// What is free within the store's file is used up by releases that are refused, and
	// what it gives up of its reserve by the ballast.
	full := ""
	for n := 0; full == "" && n < 500; n++ {
		fill(t, filepath.Join(disk, "ballast"))
		if code, out := w.run("", "start", "--policy", "recs", "--candidate", "green", "--version", fmt.Sprint("w", n)); code == 1 {
			full = out
		}
	}
	if !strings.Contains(full, "no space left on its disk; free some") {
		t.Fatalf("start on a full disk: got %q, want why, and the remedy", full)
	}
	if !strings.Contains(w.logs.String(), "store reserve given up") {
		t.Error("a full disk: got the reserve kept, want it given up before anything is refused")
	}

	if _, out := w.run("", "doctor"); !strings.Contains(out, "until 32 MiB are free") {
		t.Errorf("doctor without the reserve: got %s, want how much is to be freed", out)
	}

	began := time.Now()
	broken.Store(began.UnixMilli() / 2)
	realtest.Eventually(t, "green to have nothing", func() bool { return e.green("recs") == 0 })
	t.Logf("rolled back %s after green broke", time.Since(began).Round(100*time.Millisecond))
	realtest.Eventually(t, "a call to a human", func() bool { return strings.Contains(pages.String(), "rolled back") })
	if took := w.decision(); took < 1.5 || took > 3 {
		t.Errorf("seconds from the reading to the traffic call: got %.2f, want about 2: the time that the store is waited for", took)
	}
	if r := status(w, id); r.Phase != "baking" && r.Phase != "rolling-back" {
		t.Errorf("phase while nothing can be written: got %s, want what is durable", r.Phase)
	}

	if err := os.Remove(filepath.Join(disk, "ballast")); err != nil {
		t.Fatal(err)
	}
	realtest.Eventually(t, "the journal to hold the end", func() bool { return status(w, id).Phase == "rolled-back" })
	w.kill(syscall.SIGKILL)
	w.start()
	if r := status(w, id); r.Phase != "rolled-back" || e.green("recs") != 0 {
		t.Errorf("after a kill: got phase %s and %d%% for green, want rolled-back and nothing", r.Phase, e.green("recs"))
	}
	if out := w.want(0, "", "history", id); !strings.Contains(out, "failures broke its limit") || !strings.Contains(out, "The endpoint shows blue 100.") {
		t.Errorf("history: got %s, want the breach and the confirmation", out)
	}
	w.want(0, "", "audit", "verify", id)
	e.mu.Lock()
	defer e.mu.Unlock()
	if got := fmt.Sprint(e.writes["recs"]); got != "[5 0]" {
		t.Errorf("writes: got %s, want [5 0]: the rollback once", got)
	}
}

// smallDisk mounts an ext4 file system of that many bytes and returns where.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	if err := errors.Join(os.Mkdir(mnt, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mount", "-o", "loop", image, mnt}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			realtest.Missing(t, "no real disk to fill: %s: %v: %s (it takes root and e2fsprogs)", args[0], err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", mnt).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return mnt
}

// fill writes at a file's end until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// calls are the bodies that a webhook got.
type calls struct {
	mu   sync.Mutex
	text strings.Builder
}

func (c *calls) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(append(body, '\n'))
}

// String is all of them.
func (c *calls) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// status is a rollout as anybody may see it where nobody is asked who they are.
func status(w *world, id string) view.Rollout {
	w.t.Helper()
	var r view.Rollout
	_, out := w.run("", "status", id, "--output", "json") // its code says how the rollout stands
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		w.t.Fatalf("status %s: %v: %s", id, err, out)
	}
	return r
}

// read is a file of the world.
func (w *world) read(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

var decisionSum = regexp.MustCompile(`(?m)^belay_decision_seconds_sum (\S+)$`)

// decision is how many seconds belayd's one rollback took from its reading to the
// call.
func (w *world) decision() float64 {
	w.t.Helper()
	return w.number(decisionSum, w.metrics())
}

// number is the one that a text shows.
func (w *world) number(in *regexp.Regexp, text string) float64 {
	w.t.Helper()
	m := in.FindStringSubmatch(text)
	if m == nil {
		w.t.Fatalf("nothing is like %s in %s", in, text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// belayd starts on a disk with less room than its reserve needs. The log and /readyz say
// so with the remedy, a release moves no traffic, and an order that the full disk cannot
// take is answered with the command by hand. With room again the release goes on.
func TestNoReserveAtStart(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 64<<20)
	ballast := filepath.Join(disk, "ballast")
	e := newEndpoints(t, "recs")
	w := prepare(t, e, "", policy("recs", "recs", "", "[{weight: 5%, bake: 10m}, {weight: 100%, bake: 2s}]"))
	w.write("belayd.yaml", strings.Replace(w.read("belayd.yaml"), "path: belay.db", "path: "+filepath.Join(disk, "belay.db"), 1))
	if err := os.WriteFile(ballast, make([]byte, 40<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	const missing = "its reserve is missing, so that no step goes forward: "
	if got := w.problems(); !strings.Contains(got, missing) || !strings.Contains(got, "32 MiB") {
		t.Errorf("/readyz: got %q, want %q and how much is to be freed", got, missing)
	}
	if !strings.Contains(w.logs.String(), "store reserve missing") {
		t.Errorf("the log does not say that there is no reserve: %s", w.logs)
	}
	id := w.release("v1")
	realtest.Eventually(t, "the first step to be wanted", func() bool { return status(w, id).Phase == "shifting" })
	time.Sleep(3 * time.Second)
	if got := e.written("recs"); got != 0 {
		t.Errorf("without a reserve: got %d writes, want none", got)
	}

	// What is free within the store's file is used up by orders, until one is not taken.
	code, out := 0, ""
	for n := 0; code == 0 && n < 200; n++ {
		fill(t, ballast)
		code, out = w.run("", "pause", id, "--reason", strings.Repeat("to fill the store ", 50))
	}
	if code == 0 || !strings.Contains(out, "by hand: ") {
		t.Errorf("an order that cannot be recorded: got %d, %q, want the command by hand", code, out)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	realtest.Eventually(t, "green to have 5%", func() bool {
		if status(w, id).Phase == "paused" { // orders that the store took
			_, _ = w.run("", "resume", id, "--reason", "there is room")
		}
		return e.green("recs") == 5
	})
	realtest.Eventually(t, "/readyz to say no more of it", func() bool { return !strings.Contains(w.problems(), missing) })
}
