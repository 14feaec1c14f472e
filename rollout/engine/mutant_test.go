package engine

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A mutation takes one protection of the engine away where a Config names it: new
// stands for old, which the engine's source has once.
type mutation struct{ name, old, new string }

var mutations = []mutation{
	{"seam", "	// next is rollout.Next unless a test replaces it.\n", "	mutant string\n"},
	{"effects before their append",
		"	saved := l.isSaved(e)\n",
		"	saved := l.isSaved(e) || l.e.cfg.mutant == `eager`\n"},
	{"a raise although the endpoint is another's",
		"	if rec.Active != l.id {\n",
		"	if rec.Active != l.id && l.e.cfg.mutant != `unclaimed` {\n"},
	{"a raise although the lease is not trusted",
		"	trusted := l.at.trusted()\n",
		"	trusted := l.at.trusted()\n	if l.e.cfg.mutant == `untrusted` { trusted = minTrust }\n"},
	{"an unknown append taken for a success",
		"	case errors.Is(err, store.ErrBroken):\n		e.fail(err)\n",
		"	case errors.Is(err, store.ErrUnknown) && e.cfg.mutant == `assume`:\n		return after + 1, nil\n" +
			"	case errors.Is(err, store.ErrBroken):\n		e.fail(err)\n"},
	{"an append over somebody else's",
		"	case errors.Is(readErr, store.ErrConflict):\n",
		"	case errors.Is(readErr, store.ErrConflict) && e.cfg.mutant == `overwrite`:\n" +
			"		return e.cfg.Store.Append(ctx, key, entry, state, rev)\n	case errors.Is(readErr, store.ErrConflict):\n"},
	{"a rollback in the router's queue",
		"	// The forward call that this one supersedes was cancelled",
		"	if l.e.cfg.mutant == `queued` {\n		if !acquire(ctx, r.slots) { return rollout.Event{}, false }\n		defer func() { <-r.slots }()\n	}\n" +
			"	// The forward call that this one supersedes was cancelled"},
	{"a rollback that waits for the store",
		"	if l.unsaved.IsZero() {\n		return false\n",
		"	if l.unsaved.IsZero() || l.e.cfg.mutant == `stuck` {\n		return false\n"},
	{"a forward call that goes on",
		"		if want[k] || j.stage == jobRuns && isMessage(j.effect.Kind) {\n",
		"		if want[k] || j.stage == jobRuns && (isMessage(j.effect.Kind) || l.e.cfg.mutant == `keep` && j.effect.Forward) {\n"},
	{"a rollback behind its messages",
		"			return saved || l.urgent()\n",
		"			if l.e.cfg.mutant == `notices` && slices.ContainsFunc(l.s.Outbox, func(x rollout.Effect) bool { return isMessage(x.Kind) }) { return false }\n" +
			"			return saved || l.urgent()\n"},
	{"no read-back",
		"	if ctx.Err() != nil {\n		// Cancelled: whoever wants something else now reads for itself.\n",
		"	if l.e.cfg.mutant == `blind` {\n		to := e.To.Clone()\n		ev.Split = &to\n		return ev, true\n	}\n" +
			"	if ctx.Err() != nil {\n		// Cancelled: whoever wants something else now reads for itself.\n"},
	{"a router taken away from its rollout",
		"	if len(used) > 0 {\n",
		"	if len(used) > 0 && e.cfg.mutant != `forsake` {\n"},
	{"a page about the store that a restart forgets",
		"	for _, name := range before.page {\n		if !w.page",
		"	for _, name := range before.page {\n		if w.Forget { break }\n		if !w.page"},
	{"its seams", "	Log *slog.Logger\n}\n", "	Log *slog.Logger\n	Forget bool\n}\n"},
	{"its seams", "outage.Shell{Owner:", "outage.Shell{Forget: e.cfg.mutant == `forget`, Owner:"},
}

// Each protection of the engine is taken away in a copy of its source, which is built
// once for all of them: the scenes notice every one that is missing (see bites_test.go).
// What they would not notice is not protected.
func TestMutants(t *testing.T) {
	t.Parallel()
	overlay := overlaid(t, mutations)
	run := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-tags=mutants", "-overlay="+overlay, "-run=^(TestScenesBite|TestChaosBites)$", ".") // #nosec G204 -- a test's own arguments
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestScenesBite") {
		t.Fatalf("go test: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "caught: ") || strings.Contains(line, "seed ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// overlaid writes the mutated copies of the engine's files and what go's flag -overlay
// reads, and returns the name of that.
func overlaid(t *testing.T, all []mutation) string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, filepath.Join("..", "outage", "outage.go"),
		filepath.Join("..", "outage", "page.go"))
	sources, replace := map[string]string{}, map[string]string{}
	for _, name := range files {
		b, err := os.ReadFile(name) // #nosec G304 -- the package's own source
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			sources[name] = string(b)
		}
	}
	dir := t.TempDir()
	for _, m := range all {
		found := 0
		for name, text := range sources {
			n := strings.Count(text, m.old)
			if found += n; n == 0 {
				continue
			}
			sources[name] = strings.Replace(text, m.old, m.new, 1)
			from, err := filepath.Abs(name)
			if err != nil {
				t.Fatal(err)
			}
			replace[from] = filepath.Join(dir, filepath.Base(name))
		}
		if found != 1 {
			t.Fatalf("mutation %q: got %d places for %q, want one", m.name, found, m.old)
		}
	}
	for name, text := range sources {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}
