package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/realtest/goldentest"
)

// One word means one thing: a type's name that several packages declare is either a
// form of one thing, in a package that ARCHITECTURE.md names as forms, or a word that
// stands there as shared, with what it means. All types are listed there, by package.
func TestWords(t *testing.T) {
	file := filepath.Join("..", "..", "..", "ARCHITECTURE.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	types := exportedTypes(t, filepath.Join("..", "..", ".."))
	forms, shared := firstColumn(string(text), "forms"), firstColumn(string(text), "shared")
	if len(forms) < 3 || len(shared) < 5 || len(types) < 40 {
		t.Fatalf("got %d packages of forms, %d shared words and %d packages, want those of the house", len(forms), len(shared), len(types))
	}
	for _, p := range ambiguous(types, forms, shared) {
		t.Error(p)
	}
	for _, phase := range rollout.Phases {
		if !strings.Contains(string(text), "`"+string(phase)+"`") {
			t.Errorf("ARCHITECTURE.md does not say what the phase %s is", phase)
		}
	}
	begin, end := "<!-- types -->\n", "<!-- end of types -->"
	head, rest, found := strings.Cut(string(text), begin)
	_, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("ARCHITECTURE.md has no list between %q and %q", begin, end)
	}
	want := head + begin + typeTable(types) + end + tail
	if goldentest.Update() {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(text) {
		t.Error("ARCHITECTURE.md does not list the types that there are: go test ./cmd/internal/house -run Words -update")
	}
}

// The rule bites: a second meaning is found, whichever way it comes in, and so is a
// word that is shared by nobody any more.
func TestWordsBite(t *testing.T) {
	forms, shared := []string{"policies"}, []string{"Config"}
	for _, c := range []struct {
		name  string
		types map[string][]string
		want  string
	}{
		{"one meaning", map[string][]string{"a": {"Config", "Step"}, "b": {"Config"}, "policies": {"Step"}}, ""},
		{"two meanings", map[string][]string{"a": {"Config", "Step"}, "b": {"Config", "Step"}}, "Step is declared in a and b"},
		{"a form besides", map[string][]string{"a": {"Config", "Step"}, "b": {"Config", "Step"}, "policies": {"Step"}}, "Step is declared in a and b"},
		{"shared by nobody", map[string][]string{"a": {"Config"}, "b": {"Step"}}, "Config is listed as shared, and is declared in a alone"},
	} {
		got := strings.Join(ambiguous(c.types, forms, shared), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// ambiguous says which words stand for two things. types are the names by package.
func ambiguous(types map[string][]string, forms, shared []string) []string {
	at := map[string][]string{}
	for _, pkg := range slices.Sorted(maps.Keys(types)) {
		for _, name := range types[pkg] {
			if !slices.Contains(forms, pkg) || slices.Contains(shared, name) {
				at[name] = append(at[name], pkg)
			}
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(at)) {
		switch in := strings.Join(at[name], " and "); {
		case slices.Contains(shared, name) && len(at[name]) < 2:
			out = append(out, fmt.Sprintf("%s is listed as shared, and is declared in %s alone", name, in))
		case !slices.Contains(shared, name) && len(at[name]) > 1:
			out = append(out, fmt.Sprintf("%s is declared in %s: give one of them another name, or list it as shared", name, in))
		}
	}
	return out
}

// exportedTypes are the names of the types that each package of the library declares,
// without aliases. Programs and kits for tests are not part of it.
func exportedTypes(t *testing.T, root string) map[string][]string {
	t.Helper()
	types := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), root+string(filepath.Separator)))
		switch {
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "cmd"),
			d.IsDir() && (strings.HasSuffix(d.Name(), "test") || path == filepath.Join(root, "rollout", "sim")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			group, isGroup := decl.(*ast.GenDecl)
			if !isGroup {
				continue
			}
			for _, s := range group.Specs {
				if spec, isType := s.(*ast.TypeSpec); isType && spec.Name.IsExported() && !spec.Assign.IsValid() {
					types[dir] = append(types[dir], spec.Name.Name)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range types {
		slices.Sort(names)
	}
	return types
}

// typeTable is the list of all types, by package.
func typeTable(types map[string][]string) string {
	b := strings.Builder{}
	b.WriteString("| package | types |\n|---|---|\n")
	for _, pkg := range slices.Sorted(maps.Keys(types)) {
		fmt.Fprintf(&b, "| [%s](%s) | `%s` |\n", pkg, pkg, strings.Join(types[pkg], "`, `"))
	}
	return b.String()
}

// firstColumn are the names in backticks that stand in the first column of a document's
// table, which begins below a comment with its name.
func firstColumn(text, table string) []string {
	_, text, _ = strings.Cut(text, "<!-- "+table+" -->\n")
	text, _, _ = strings.Cut(text, "\n\n")
	var out []string
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|").FindAllStringSubmatch(text, -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			out = append(out, strings.Trim(name, "`"))
		}
	}
	return out
}
