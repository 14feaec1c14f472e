package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link  = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)
	named = regexp.MustCompile("`(analysis|rollout|policies|notifier|store|traffic|access|backoff|calendar|claim|journal|paging|undo|view)\\.([A-Z]\\w+)")
)

// What the documents at the top say is there: each link leads to a file, and each name
// of the words is one that its package declares.
func TestDocuments(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	documents, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil || len(documents) < 5 {
		t.Fatalf("documents: got %q, %v, want those of the house", documents, err)
	}
	checked := 0
	for _, file := range documents {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", filepath.Base(file), m[1])
			}
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			dir := m[1]
			if _, err := os.Stat(filepath.Join(root, dir)); err != nil {
				dir = "rollout/" + dir // a room of the rollouts
			}
			if checked++; !declares(t, filepath.Join(root, dir), m[2]) {
				t.Errorf("%s: %s declares no %s", filepath.Base(file), m[1], m[2])
			}
		}
	}
	if checked < 20 {
		t.Errorf("got %d names checked, want those of the words", checked)
	}
}

// Whoever is called at night greps for the field's word: each stands in ARCHITECTURE.md
// with the file in which the thing is, and that file says the word, too.
func TestFieldWords(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\w+) \|.*\]\(([\w./-]+\.go)\) \|$`)
	leads := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		leads[m[1]] = m[2]
	}
	for _, word := range []string{"acknowledge", "backoff", "evict", "fingerprint", "quarantine", "singleflight"} {
		code, err := os.ReadFile(filepath.Join(root, leads[word]))
		switch {
		case leads[word] == "":
			t.Errorf("ARCHITECTURE.md leads from %s to no file", word)
		case err != nil:
			t.Errorf("ARCHITECTURE.md: %s: %v", word, err)
		case !strings.Contains(strings.ToLower(string(code)), word):
			t.Errorf("ARCHITECTURE.md leads from %s to %s, which does not say it", word, leads[word])
		}
	}
}

// declares reports whether the package in a folder declares the name.
func declares(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == name {
					return true
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok && s.Name.Name == name {
						return true
					}
				}
			}
		}
	}
	return false
}
