package house

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// mostColumns is how long a line of code may be; a tab counts as one, as linters have it.
const mostColumns = 120

// wide are the packages that still have longer lines in their production files. A
// package that loses its last one leaves the list, and none joins it.
var wide = []string{
	"analysis",
	"analysis/loganalytics",
	"analysis/prometheus",
	"cmd/internal/bulkhead",
	"cmd/internal/certtest",
	"cmd/internal/cli",
	"cmd/internal/config",
	"cmd/internal/daemon",
	"cmd/internal/importer",
	"cmd/internal/probe",
	"notifier",
	"notifier/slack",
	"notifier/slack/slacktest",
	"rollout",
	"rollout/api",
	"rollout/calendar",
	"rollout/engine",
	"rollout/realtest",
	"rollout/sim",
	"rollout/traffic/azureml",
	"rollout/traffic/azureml/armtest",
	"rollout/traffic/haproxy",
	"rollout/traffic/webhook",
	"store/bolt",
}

// TestColumns: production files have no line of more than 120 columns, but for struct
// tags, which cannot be broken.
func TestColumns(t *testing.T) {
	for _, p := range list(t) {
		if slices.Contains(wide, strings.TrimPrefix(p.ImportPath, module+"/")) {
			continue
		}
		for _, f := range p.GoFiles {
			for _, n := range longLines(t, filepath.Join(p.Dir, f)) {
				t.Errorf("%s/%s:%d: the line has more than %d columns", p.ImportPath, f, n, mostColumns)
			}
		}
	}
}

// longLines are the numbers of the lines that are too long.
func longLines(t *testing.T, file string) []int {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }() // it was only read
	var out []int
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		if text := lines.Text(); utf8.RuneCountInString(text) > mostColumns && !strings.Contains(text, ` doc:"`) {
			out = append(out, n)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestColumnsBite: a line of 121 columns is found, one of 120 and a tag are not.
func TestColumnsBite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wide.go")
	text := strings.Repeat("é", 120) + "\n" + strings.Repeat("é", 121) + "\n`yaml:\"x\" doc:\"" + strings.Repeat("x", 200) + "\"`\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := longLines(t, file); !slices.Equal(got, []int{2}) {
		t.Errorf("got lines %v, want 2 alone", got)
	}
}

// The most that a package holds, so that it can be read by its table of contents.
const (
	mostFiles = 25
	mostLines = 4500
)

// TestRooms: no package is a bag. The command line alone has a file for every command.
func TestRooms(t *testing.T) {
	for _, p := range list(t) {
		if strings.HasSuffix(p.ImportPath, "/cmd/internal/cli") {
			continue
		}
		lines := 0
		for _, f := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			lines += strings.Count(string(text), "\n")
		}
		if len(p.GoFiles) > mostFiles || lines > mostLines {
			t.Errorf("%s has %d files and %d lines, want at most %d and %d: give what is a subject of its own a room",
				p.ImportPath, len(p.GoFiles), lines, mostFiles, mostLines)
		}
	}
}
