package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoFreePort: no test asks for a free port, gives it back and lets a program listen
// on it later. Between the two it is another's as likely as not: realtest.Address is
// held until the test ends.
func TestNoFreePort(t *testing.T) {
	for _, p := range list(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range freePorts(t, file, string(text)) {
				t.Errorf("%s: a port that is given back is another's: use realtest.Address", at)
			}
		}
	}
}

// freePorts are the places at which a function listens, asks for the address and
// closes, without ever serving.
func freePorts(t *testing.T, file, text string) []string {
	t.Helper()
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, d := range tree.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		for name, at := range listeners(f) {
			called, used := map[string]bool{}, 0
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == name {
						called[n.Sel.Name] = true
						used--
					}
				case *ast.Ident:
					if n.Name == name {
						used++
					}
				}
				return true
			})
			// Beside its own declaration it is only asked and closed.
			if used == 1 && len(called) == 2 && called["Addr"] && called["Close"] {
				found = append(found, fset.Position(at).String())
			}
		}
	}
	return found
}

// listeners are the names of what a function listens on, and where.
func listeners(f *ast.FuncDecl) map[string]token.Pos {
	out := map[string]token.Pos{}
	ast.Inspect(f, func(n ast.Node) bool {
		set, ok := n.(*ast.AssignStmt)
		if !ok || len(set.Rhs) != 1 {
			return true
		}
		call, ok := set.Rhs[0].(*ast.CallExpr)
		if !ok {
			return true
		}
		if s, ok := call.Fun.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "Listen") {
			if x, ok := set.Lhs[0].(*ast.Ident); ok {
				out[x.Name] = set.Pos()
			}
		}
		return true
	})
	return out
}

// TestNoFreePortBites: the way that is forbidden is found, a server is not.
func TestNoFreePortBites(t *testing.T) {
	const head = "package x\n\nimport \"net\"\n\n"
	const port = "func port() string {\n\tl, _ := net.Listen(\"tcp\", \":0\")\n\tdefer l.Close()\n\treturn l.Addr().String()\n}\n"
	const serve = "func serve() string {\n\tl, _ := net.Listen(\"tcp\", \":0\")\n\tgo accept(l)\n\tdefer l.Close()\n\treturn l.Addr().String()\n}\n"
	if got := freePorts(t, "x.go", head+port); len(got) != 1 {
		t.Errorf("a port given back: got %v, want one place", got)
	}
	if got := freePorts(t, "x.go", head+serve); len(got) != 0 {
		t.Errorf("a server: got %v, want none", got)
	}
}
