package house

import (
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// mostColumns is how long a line of code may be; a tab counts as one, as linters have it.
const mostColumns = 120

// TestColumns: production files have no line of more than 120 columns, but for what
// stands between backquotes, which cannot be broken: struct tags, templates, patterns.
func TestColumns(t *testing.T) {
	for _, p := range list(t) {
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
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	quoted := map[int]bool{} // the lines on which something stands between backquotes
	files := token.NewFileSet()
	source := files.AddFile(file, -1, len(text))
	var words scanner.Scanner
	words.Init(source, text, nil, 0)
	for pos, tok, lit := words.Scan(); tok != token.EOF; pos, tok, lit = words.Scan() {
		if tok == token.STRING && lit[0] == '`' {
			first := source.Line(pos)
			for n := range strings.Count(lit, "\n") + 1 {
				quoted[first+n] = true
			}
		}
	}
	var out []int
	for i, line := range strings.Split(string(text), "\n") {
		if utf8.RuneCountInString(line) > mostColumns && !quoted[i+1] {
			out = append(out, i+1)
		}
	}
	return out
}

// TestColumnsBite: a line of 121 columns is found, one of 120 and a tag are not.
func TestColumnsBite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wide.go")
	text := strings.Repeat("é", 120) + "\n" + strings.Repeat("é", 121) + "\n`yaml:\"x\" doc:\"" + strings.Repeat("x", 200) +
		"\"`\n`\n" + strings.Repeat("x", 200) + "`\n"
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
