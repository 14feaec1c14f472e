package blackbox

import (
	"bytes"
	"errors"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/belayd/belay/rollout/realtest"
)

// belayd is killed in the middle of a rollout, and somebody has broken something in
// the config meanwhile. It comes back, says what is missing, goes on watching the
// rollout, and rolls it back and calls when the candidate breaks. Put right, all of
// it is there again.
func TestComesBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		// file is broken by putting new in old's place, or at its end; says is what
		// /readyz names.
		file, old, new string
		says           []string
		// refused is what a release hears, shut that nobody is let in at all.
		refused string
		shut    bool
	}{
		{name: "a policy", file: "policies/0.yaml", old: "name: recs", new: "nam: recs", says: []string{"0.yaml:3", "did you mean name"}, refused: "/readyz says why"},
		{name: "a pattern", file: "belayd.yaml", old: "policies/*.yaml", new: "polices/*.yaml", says: []string{"matches no file"}, refused: "/readyz says why"},
		{name: "a section", file: "belayd.yaml", old: "\nnotifiers:", new: "\ntriggers: [{nats: {url: \"nats://127.0.0.1:1\", stream: S, subject: s}, map: {polcy: x}}]\nevents: {nats: {url: \"nats://127.0.0.1:1\", subjectPrefx: x}}\nnotifiers:",
			says: []string{"triggers[0]: map.polcy", "did you mean subjectPrefix"}},
		{name: "a notifier", file: "belayd.yaml", old: "second: {webhook: {", new: "second: {webhook: {secret: x, ", says: []string{"notifiers.second.webhook: no such key"}},
		{name: "an issuer that is away", file: "belayd.yaml", new: "auth: {oidc: {issuer: \"https://127.0.0.1:1\", audience: belay, grants: [{everyone: true, roles: [admin]}]}}\n", shut: true},
		{name: "auth", file: "belayd.yaml", new: "auth: {tokens: [{name: ann, roles: [admin], sha256: x}]}\n", says: []string{"want a SHA-256"}, shut: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			comesBack(t, c.file, c.old, c.new, c.says, c.refused, c.shut)
		})
	}
}

func comesBack(t *testing.T, file, old, with string, says []string, refused string, shut bool) {
	e := newEndpoints(t, "recs")
	var pages calls
	hook := httptest.NewServer(&pages)
	defer hook.Close()
	notifiers := fmt.Sprintf("notifiers: {hook: {webhook: {url: %q, secretFile: secret}}, second: {webhook: {url: %q, secretFile: secret}}}\n", hook.URL, hook.URL)
	w := prepare(t, e, notifiers, policy("recs", "recs", "  page: [second, hook]\n", "[{weight: 5%, bake: 10m}, {weight: 100%, bake: 2s}]"))
	w.write("secret", "a secret of the hook alone")
	w.start()
	id := w.release("v1")
	realtest.Eventually(t, "green to have 5%", func() bool { return e.green("recs") == 5 })
	w.kill(syscall.SIGKILL)

	good := w.read(file)
	bad := good + with
	if old != "" {
		bad = strings.Replace(good, old, with, 1)
	}
	if bad == good {
		t.Fatalf("%q is not in %s", old, file)
	}
	w.write(file, bad)
	w.start()
	for _, s := range says {
		// Strangers are not told why.
		if got := w.problems(); !strings.Contains(got, s) && (!shut || !strings.Contains(w.logs.String(), s)) {
			t.Errorf("/readyz: got %q, want %q", got, s)
		}
	}
	if code, out := w.run("", "start", "--policy", "recs", "--candidate", "green", "--version", "v2"); refused != "" && (code == 0 || !strings.Contains(out, refused)) {
		t.Errorf("a release: got %d, want %q: %s", code, refused, out)
	}
	if code, _ := w.run("", "list"); shut == (code == 0) {
		t.Errorf("the list: got exit code %d; shut: %v", code, shut)
	}
	if shut && len(says) > 0 {
		w.want(0, "", "list", "--server", "unix:"+filepath.Join(w.dir, "belay.db.ctl"))
	}
	e.broken.Store(requests())
	realtest.Eventually(t, "the rollback", func() bool { return e.green("recs") == 0 })
	realtest.Eventually(t, "the page", func() bool { return strings.Contains(pages.String(), "page") && strings.Contains(pages.String(), id) })

	w.write(file, good)
	w.hup()
	// What a notifier did not take while it was missing may still be told of.
	realtest.Eventually(t, "the config to be whole", func() bool {
		got := w.problems()
		return !strings.Contains(got, "config: ") && !strings.Contains(got, "policies: ")
	})
	realtest.Eventually(t, "everybody to be let in again", func() bool {
		code, _ := w.run("", "list")
		return code == 0
	})
	realtest.Eventually(t, "the metric to say so", func() bool { return strings.Contains(w.metrics(), "\nbelay_config_last_reload_successful 1\n") })
	if r := status(w, id); r.Phase != "rolled-back" {
		t.Errorf("the rollout: got %s, want rolled-back: %s", r.Phase, r.Reason)
	}
}

// What is no YAML at all ends belayd with a code of its own; what is right again is
// taken by the next try, rollout and all.
func TestUnusableConfig(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	w := newWorld(t, e, "", policy("recs", "recs", "", "[{weight: 5%, bake: 3s}, {weight: 100%, bake: 2s}]"))
	id := w.release("v1")
	realtest.Eventually(t, "green to have 5%", func() bool { return e.green("recs") == 5 })
	w.kill(syscall.SIGKILL)
	good := w.read("belayd.yaml")
	for _, bad := range []string{"{", "", strings.Replace(good, "store:", "stoer:", 1)} {
		w.write("belayd.yaml", bad)
		out, err := exec.Command(w.belayd, "--config", filepath.Join(w.dir, "belayd.yaml")).CombinedOutput()
		if ended, ok := errors.AsType[*exec.ExitError](err); !ok || ended.ExitCode() != 78 || !bytes.Contains(out, []byte("belayd.yaml:1:1")) && !bytes.Contains(out, []byte("did you mean store")) {
			t.Errorf("%.20q: got %v, want exit code 78 and the place: %s", bad, err, out)
		}
	}
	w.write("belayd.yaml", good)
	w.start()
	realtest.Eventually(t, "the promotion", func() bool { return status(w, id).Phase == "promoted" })
}

// Every adapter panics now and then: belayd goes on, the rollout too, each panic is
// in the log with its stack and in the metric, and the candidate that breaks is
// rolled back for all that.
func TestAdaptersPanic(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	var pages calls
	hook := httptest.NewServer(&pages)
	defer hook.Close()
	points := []string{"describe.before:1", "split.after:3", "split.before:6", "read.before:3", "read.after:5", "shift.after:2", "notify.before:1", "notify.after:2"}
	w := prepare(t, e, fmt.Sprintf("notifiers: {hook: {webhook: {url: %q, secretFile: secret}}}\n", hook.URL),
		policy("recs", "recs", "  page: [hook]\n  notify: [hook]\n", "[{weight: 5%, bake: 10m}, {weight: 100%, bake: 2s}]"))
	w.belayd, w.env = realtest.Build(t, "belayd", "crashpoints"), []string{"BELAY_PANIC=" + strings.Join(points, ",")}
	w.write("secret", "a secret of the hook alone")
	w.start()
	id := w.release("v1")
	realtest.Eventually(t, "green to have 5%", func() bool { return e.green("recs") == 5 })
	realtest.Eventually(t, "the source to panic twice", func() bool { return strings.Count(w.logs.String(), "kind=source name=pods call=read") == 2 })
	e.broken.Store(requests())
	realtest.Eventually(t, "the rollback", func() bool { return e.green("recs") == 0 && status(w, id).Phase == "rolled-back" })
	realtest.Eventually(t, "the page", func() bool { return strings.Contains(pages.String(), "rolled") })
	if w.cmd.ProcessState != nil {
		t.Errorf("belayd ended: %s", w.logs)
	}
	panics := regexp.MustCompile(`(?m)^belay_adapter_panics_total\{kind="(\w+)",name="\w+"\} (\d+)$`).FindAllStringSubmatch(w.metrics(), -1)
	if got := fmt.Sprint(panics); len(panics) != 3 {
		t.Errorf("belay_adapter_panics_total: got %s, want those of a router, a source and a notifier", got)
	}
	if said := w.logs.String(); strings.Count(said, "adapter panicked") < 6 || !strings.Contains(said, "crash.go") || strings.Contains(said, "told to panic") {
		t.Errorf("the log does not have the panics with their stacks, or says what was thrown: %s", said)
	}
}

// An older copy is put in the store's place while a release that it does not know of
// has all the traffic. belayd calls somebody, with what the endpoint shows and what
// the copy says, names the endpoint in /readyz and in the log, and touches nothing.
func TestOlderCopy(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	var pages calls
	hook := httptest.NewServer(&pages)
	defer hook.Close()
	w := prepare(t, e, fmt.Sprintf("notifiers: {hook: {webhook: {url: %q, secretFile: secret}}}\n", hook.URL),
		policy("recs", "recs", "  page: [hook]\n", "[{weight: 5%, bake: 2s}, {weight: 100%, bake: 10m}]"))
	w.write("secret", "a secret of the hook alone")
	w.start()
	first := w.release("v1")
	realtest.Eventually(t, "green to have 5%", func() bool { return e.green("recs") == 5 })
	w.want(0, "", "rollback", first, "--reason", "to have a record")
	realtest.Eventually(t, "the first to end", func() bool { return status(w, first).Phase == "stopped" })
	if out, err := exec.Command(w.belayd, "backup", filepath.Join(w.dir, "copy.db"), "--config", filepath.Join(w.dir, "belayd.yaml")).CombinedOutput(); err != nil {
		t.Fatalf("backup: %v: %s", err, out)
	}
	second := w.release("v2")
	realtest.Eventually(t, "green to have 100%", func() bool { return e.green("recs") == 100 })
	w.kill(syscall.SIGKILL)
	w.rename("copy.db", "belay.db")
	writes := e.written("recs")
	w.start()
	const both = "recs shows green 100, with blue 100 on record"
	realtest.Eventually(t, "the page", func() bool { return strings.Contains(pages.String(), both) })
	if got := w.problems(); !strings.Contains(got, "endpoint edge/recs is suspect: "+both) {
		t.Errorf("/readyz: got %q", got)
	}
	if !strings.Contains(w.logs.String(), "level=WARN msg=\"endpoint unexplained\" endpoint=edge/recs") {
		t.Errorf("the log does not warn: %s", w.logs)
	}
	if code, out := w.run("", "status", second); code == 0 {
		t.Errorf("the copy knows of %s: %s", second, out)
	}
	if got := e.written("recs"); got != writes {
		t.Errorf("writes since: got %d, want none", got-writes)
	}
}

// The copy is of the time when the release had 5%, and by now it has all the traffic: the
// rollout is suspect, somebody is called, and nothing is written until a person decides.
func TestOlderCopyOfOpenRollout(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	var pages calls
	hook := httptest.NewServer(&pages)
	defer hook.Close()
	w := prepare(t, e, fmt.Sprintf("notifiers: {hook: {webhook: {url: %q, secretFile: secret}}}\n", hook.URL),
		policy("recs", "recs", "  page: [hook]\n", "[{weight: 5%, bake: 10m}, {weight: 100%, bake: 10m}]"))
	w.write("secret", "a secret of the hook alone")
	w.start()
	id := w.release("v1")
	realtest.Eventually(t, "the first step to bake", func() bool { return status(w, id).Phase == "baking" })
	if out, err := exec.Command(w.belayd, "backup", filepath.Join(w.dir, "copy.db"), "--config", filepath.Join(w.dir, "belayd.yaml")).CombinedOutput(); err != nil {
		t.Fatalf("backup: %v: %s", err, out)
	}
	w.want(0, "", "promote", id, "--reason", "to be ahead of the copy")
	realtest.Eventually(t, "green to have 100%", func() bool { return e.green("recs") == 100 })
	w.kill(syscall.SIGKILL)
	w.rename("copy.db", "belay.db")
	writes := e.written("recs")
	w.start()
	realtest.Eventually(t, "the rollout to be suspect", func() bool { return status(w, id).Phase == "suspect" })
	realtest.Eventually(t, "the page", func() bool { return strings.Contains(pages.String(), "The store and the endpoint disagree") })
	if got := e.written("recs"); got != writes {
		t.Errorf("writes since: got %d, want none", got-writes)
	}
	w.want(0, "", "rollback", id, "--reason", "the copy is old")
	realtest.Eventually(t, "green to have nothing", func() bool { return e.green("recs") == 0 })
}
