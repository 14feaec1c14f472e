package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/view"
)

// Every command's help is a golden, and every command shows an example or is the
// parent of others.
func TestHelp(t *testing.T) {
	s := newShell(t)
	var walk func(table []*command, path []string)
	walk = func(table []*command, path []string) {
		for _, c := range table {
			words := append(append([]string(nil), path...), c.name)
			golden(t, filepath.Join("help", strings.Join(words, "-")+".txt"), s.want(exitOK, append(words, "--help")...))
			if c.sub == nil && len(c.examples) == 0 && c.name != "version" {
				t.Errorf("%s: it has no example", strings.Join(words, " "))
			}
			if !strings.HasSuffix(c.short, ".") {
				t.Errorf("%s: %q is no sentence", strings.Join(words, " "), c.short)
			}
			walk(c.sub, words)
		}
	}
	walk(commands(), nil)
	golden(t, "help/belay.txt", s.want(exitOK, "--help"))
	reference(t, s)
	if a, b := s.want(exitOK, "help", "status"), s.want(exitOK, "status", "--help"); a != b {
		t.Errorf("help status: got %q, want what status --help says", a)
	}
}

// reference is the page of all commands, as their help says.
func reference(t *testing.T, s *shell) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# The command line\n\nWhat `belay COMMAND --help` says, of every command, and the exit codes of all.\n\n")
	fmt.Fprintf(&b, "```\n%s```\n", strings.TrimPrefix(codesHelp, "\n"))
	var walk func(table []*command, path []string)
	walk = func(table []*command, path []string) {
		for _, c := range table {
			words := append(slices.Clone(path), c.name)
			if c.sub == nil {
				fmt.Fprintf(&b, "\n## belay %s\n\n```\n%s```\n", strings.Join(words, " "), s.want(exitOK, append(words, "--help")...))
			}
			walk(c.sub, words)
		}
	}
	walk(commands(), nil)
	golden(t, "../../../../deploy/reference/cli.md", b.String())
}

// A wrong command line is told what is wrong and exits with 2, whatever it is.
func TestUsage(t *testing.T) {
	s := newShell(t)
	for line, want := range map[string]string{
		"":                                 "Commands:",
		"statsu":                           `did you mean "status"?`,
		"frobnicate":                       `there is no command "frobnicate"` + "\n",
		"audit":                            "verify",
		"audit veirfy":                     `did you mean "verify"?`,
		"status":                           "want ID",
		"status a b":                       `"b" is too many; want ID`,
		"list x":                           "want no arguments",
		"status a --colour":                "unknown flag: --colour",
		"status a --output xml":            "--output: want one of table, json, yaml, name",
		"list --limit -1":                  "--limit",
		"list --phase held --phase paused": "given before, as \"held\"",
		"list --wait=maybe":                "unknown flag",
		"pause ID":                         "--reason",
		"extend ID --reason r":             "--by",
		"skip ID --reason r":               "--to",
		"undo ID --now":                    "--reason",
		"start --policy p":                 "want --policy, --candidate and --version",
		"completion tcsh":                  "bash, zsh, fish or powershell",
		"demo --fault fire":                "--fault: want one of none, failures",
		"demo --speed 99":                  "--speed",
		"start --timeout 3s --policy p --candidate c --version v": "only with --wait",
		"explain ID --at noon --store testdata/none":              "",
	} {
		code := s.run(strings.Fields(line)...)
		if want == "" {
			continue // another error comes first: the store is not there
		}
		if code != exitUsage || !strings.Contains(s.err.String()+s.out.String(), want) {
			t.Errorf("belay %s: got %d, %q, want 2 and %q", line, code, s.err.String(), want)
		}
	}
}

// Flags may stand before and behind arguments; after -- there are none.
func TestFlagsAnywhere(t *testing.T) {
	d := newFakeDaemon(t, promoted())
	s := newShell(t)
	id := promoted().ID
	for _, line := range [][]string{
		{"status", "--server", d.URL, id}, {"status", id, "--server", d.URL}, {"status", "--server=" + d.URL, "--", id},
	} {
		s.want(exitOK, line...)
	}
}

// The exit code of a rollout is that of its phase.
func TestExitCodes(t *testing.T) {
	late := rollingBack()
	for _, c := range []struct {
		phase rollout.Phase
		late  bool
		want  int
	}{
		{rollout.PhasePromoted, false, 0}, {rollout.PhaseRolledBack, false, 5}, {rollout.PhaseStopped, false, 6}, {rollout.PhaseRefused, false, 9},
		{rollout.PhaseQueued, false, 8}, {rollout.PhaseScheduled, false, 8}, {rollout.PhasePreflight, false, 8}, {rollout.PhaseShifting, false, 8}, {rollout.PhaseBaking, false, 8},
		{rollout.PhaseWaiting, false, 8}, {rollout.PhaseHeld, false, 8}, {rollout.PhasePaused, false, 8}, {rollout.PhaseSuspect, false, 8},
		{rollout.PhaseRollingBack, false, 8}, {rollout.PhaseRollingBack, true, 10},
	} {
		late.Phase, late.Unconfirmed = c.phase, c.late
		d := newFakeDaemon(t, late)
		s := newShell(t)
		s.want(c.want, "status", late.ID, "--server", d.URL)
	}
	d := newFakeDaemon(t)
	s := newShell(t)
	s.want(exitError, "status", "nobody", "--server", d.URL)
	for status, want := range map[int]int{401: exitNotAllowed, 403: exitNotAllowed, 409: exitError, 500: exitError} {
		d.set(func() {
			d.fail = &api.ProblemDetails{Type: "x", Title: "No", Status: status, Detail: "because", Instance: "req-1"}
		})
		s.want(want, "status", "x", "--server", d.URL)
		if !strings.Contains(s.err.String(), "No: because") || status == 500 && !strings.Contains(s.err.String(), "req-1") {
			t.Errorf("%d: got %q", status, s.err.String())
		}
	}
	d.set(func() {
		d.fail = &api.ProblemDetails{Type: api.TypeInvalidPolicy, Title: "The policy is not valid", Status: 422}
	})
	s.want(exitInvalid, "start", "--policy", "p", "--candidate", "c", "--version", "v", "--server", d.URL)
	s.want(exitError, "status", "x", "--server", "http://127.0.0.1:1")
	if !strings.Contains(s.err.String(), "is it running?") {
		t.Errorf("no daemon: got %q, want a remedy", s.err.String())
	}
}

// What scripts read keeps its form: JSON, YAML with the same fields, names.
func TestOutputs(t *testing.T) {
	d := newFakeDaemon(t, baking(), promoted())
	s := newShell(t)
	var r view.Rollout
	if err := json.Unmarshal([]byte(s.want(exitRunning, "status", baking().ID, "--server", d.URL, "--output", "json")), &r); err != nil || r.SchemaVersion != 1 || r.ID != baking().ID {
		t.Errorf("json: got %+v, %v", r, err)
	}
	var y struct {
		SchemaVersion int    `yaml:"schemaVersion"`
		Version       string `yaml:"version"`
		CreatedAt     time.Time
	}
	text := s.want(exitRunning, "status", baking().ID, "--server", d.URL, "--output", "yaml")
	if err := yaml.Unmarshal([]byte(text), &y); err != nil || y.SchemaVersion != 1 || y.Version != "2026.11.2" || strings.ContainsAny(text[:40], "{}") {
		t.Errorf("yaml: got %+v, %v of\n%s", y, err, text)
	}
	if got, want := s.want(exitOK, "list", "--server", d.URL, "--output", "name"), baking().ID+"\n"+promoted().ID+"\n"; got != want {
		t.Errorf("names: got %q, want %q", got, want)
	}
	golden(t, "list.txt", s.want(exitOK, "list", "--server", d.URL))
	s.want(exitOK, "list", "--server", d.URL, "--limit", "1", "--phase", "open", "--owner", "a,b", "--endpoint", "edge/recs")
	if !strings.Contains(s.err.String(), "more than 1") {
		t.Errorf("limit: got %q, want it to say that there are more", s.err.String())
	}
	if got := d.last("GET").path; !strings.Contains(got, "phase=open") || !strings.Contains(got, "owner=a%2Cb") || !strings.Contains(got, "endpoint=edge%2Frecs") {
		t.Errorf("filter: got %s", got)
	}
	golden(t, "endpoints.txt", s.want(exitOK, "endpoint", "list", "--server", d.URL))
	s.want(exitError, "endpoint", "show", "recs", "--server", d.URL)
	if !strings.Contains(s.err.String(), "several routers") {
		t.Errorf("endpoint show recs: got %q", s.err.String())
	}
	if got := s.want(exitOK, "endpoint", "show", "ads", "--server", d.URL, "--output", "name"); got != "edge/ads\n" {
		t.Errorf("endpoint show ads: got %q", got)
	}
	golden(t, "doctor.txt", strings.ReplaceAll(s.want(exitError, "doctor", "--server", d.URL, "--notify"), d.URL, "http://belay.example"))
}

// Orders reach belayd with their reason and a key of their own.
func TestActs(t *testing.T) {
	d := newFakeDaemon(t, baking())
	s := newShell(t)
	id := baking().ID
	for _, c := range []struct{ line, path, body string }{
		{"approve ID --gate product-owner", "approve", `{"gate":"product-owner"}`},
		{"reject ID --reason no", "reject", `{"reason":"no"}`},
		{"pause ID --reason r", "pause", `{"reason":"r"}`},
		{"resume --reason r ID", "resume", `{"reason":"r"}`},
		{"rollback ID --reason r", "rollback", `{"reason":"r"}`},
		{"promote ID --reason r", "promote", `{"reason":"r"}`},
		{"extend ID --by 90m --reason r", "extend", `{"reason":"r","extend":"1h30m0s"}`},
		{"skip ID --to full --reason r", "skip", `{"reason":"r","to":"full"}`},
	} {
		s.want(exitOK, append(strings.Fields(strings.Replace(c.line, "ID", id, 1)), "--server", d.URL)...)
		got := d.last("POST")
		if got.path != "/v1/rollouts/"+id+"/"+c.path || got.body != c.body || len(got.key) < 20 {
			t.Errorf("%s: got %+v, want %s with %s", c.line, got, c.path, c.body)
		}
	}
	s.want(exitOK, "pause", id, "--reason", "r", "--idempotency-key", "mine", "--server", d.URL)
	if got := d.last("POST").key; got != "mine" {
		t.Errorf("key: got %q, want mine", got)
	}
	s.want(exitOK, "cooldown", "clear", "edge/recs", "--version", "6", "--reason", "x", "--server", d.URL)
	if got := d.last("DELETE").path; got != "/v1/endpoints/edge/recs/cooldown?reason=x&version=6" {
		t.Errorf("cooldown clear: got %s", got)
	}
}

// decoded is the one document that a command printed.
func decoded(t *testing.T, text string) (x outcome) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(&x); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("got more than one document: %s", text)
	}
	return x
}

// start takes a policy by name or as a file, and --wait ends with the rollout.
func TestStart(t *testing.T) {
	d := newFakeDaemon(t, baking())
	d.set(func() { d.stream = []api.StreamEvent{{Rollout: new(baking())}, {Rollout: new(promoted())}} })
	s := newShell(t)
	file := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(file, []byte("spec: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := []string{"start", "--candidate", "green", "--version", "7", "--server", d.URL}
	s.want(exitOK, append(base, "--policy", "recs", "--labels", "a=b,c=", "--requested-by", "eve")...)
	if got, want := d.last("POST").body, `{"policy":"recs","candidate":"green","version":"7","requestedBy":"eve","labels":{"a":"b","c":""}}`; got != want {
		t.Errorf("body: got %s, want %s", got, want)
	}
	s.want(exitOK, append(base, "--policy", file)...)
	if got := d.last("POST").body; !strings.Contains(got, `"policyText":"spec: {}\n"`) {
		t.Errorf("body with a file: got %s", got)
	}
	s.want(exitOK, append(base, "--policy", "recs", "--wait")...)
	if first, _, _ := strings.Cut(s.err.String(), "\n"); !strings.HasPrefix(first, baking().ID+" started: ") || !strings.Contains(s.err.String(), "roll back  belay rollback "+baking().ID+" --reason '…' --server "+d.URL) {
		t.Errorf("start --wait, standard error: got %s, want the id first, and the way back", &s.err)
	}
	if got := s.out.String(); !strings.HasPrefix(got, baking().ID+" is promoted: ") || strings.Count(got, "\n") != 1 {
		t.Errorf("start --wait, standard output: got %q, want the outcome alone", got)
	}
	if got := s.want(exitOK, append(base, "--policy", "recs", "--output", "name")...); got != baking().ID+"\n" {
		t.Errorf("start --output name: got %q", got)
	}
	if got := s.want(exitOK, append(base, "--policy", "recs", "--wait", "--output", "name")...); got != baking().ID+"\n" {
		t.Errorf("start --wait --output name: got %q", got)
	}
	if x := decoded(t, s.want(exitOK, append(base, "--policy", "recs", "--wait", "--output", "json")...)); x.Exit != 0 || x.Phase != rollout.PhasePromoted {
		t.Errorf("start --wait --output json: got %s with exit %d", x.Phase, x.Exit)
	}
	if x := decoded(t, s.want(exitOK, append(base, "--policy", "recs", "--output", "json")...)); x.Exit != 0 || x.ID != baking().ID {
		t.Errorf("start --output json: got %s with exit %d", x.ID, x.Exit)
	}
	d.set(func() { d.hang, d.stream = true, []api.StreamEvent{{Rollout: new(baking())}} })
	s.want(exitTimeout, append(base, "--policy", "recs", "--wait", "--timeout", "200ms")...)
	if x := decoded(t, s.want(exitTimeout, append(base, "--policy", "recs", "--wait", "--timeout", "200ms", "--output", "json")...)); x.Exit != exitTimeout || x.Phase != rollout.PhaseBaking {
		t.Errorf("start --wait --output json that took too long: got %s with exit %d", x.Phase, x.Exit)
	}
	late := rollingBack()
	d.set(func() { d.stream = []api.StreamEvent{{Rollout: &late}} })
	s.want(exitUnconfirmed, append(base, "--policy", "recs", "--wait", "--timeout", "200ms")...)
	// It has ended, and a notifier that is away keeps its last word.
	d.set(func() { d.stream = []api.StreamEvent{{Rollout: new(promoted())}} })
	s.want(exitOK, append(base, "--policy", "recs", "--wait", "--timeout", "200ms")...)
	s.want(exitOK, append(base, "--policy", "recs", "--wait")...)
	s.want(exitUsage, append(base, "--policy", "recs", "--labels", "x")...)
	s.want(exitError, append(base, "--policy", "./nothing.yaml")...)
}
