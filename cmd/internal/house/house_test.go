// Package house holds the tests of the house itself: who may import whom, which
// packages are pure, and what stands at the top level. It has no code of its
// own.
package house

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/belayd/belay"

// A pkg is what `go list` says of one package.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

// list runs go list over the whole module, with the production files of every
// package.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// The libraries by what they are for.
var (
	cronLib   = []string{"github.com/robfig/cron/v3"}
	yamlLib   = []string{"go.yaml.in/yaml/"}
	schemaLib = []string{"github.com/santhosh-tekuri/jsonschema/"}
	natsLib   = []string{"github.com/nats-io/nats.go"}
	cloudLib  = []string{"github.com/cloudevents/", "github.com/cdevents/"}
	metricLib = []string{"github.com/prometheus/client_golang/"}
	promLib   = []string{"github.com/prometheus/prometheus/promql/parser", "github.com/prometheus/prometheus/model/labels", "github.com/prometheus/common/model"}
	authLib   = []string{"github.com/coreos/go-oidc/", "github.com/golang-jwt/", "github.com/go-jose/", "golang.org/x/oauth2", "golang.org/x/time/", "github.com/getkin/", "github.com/pb33f/", "go.yaml.in/yaml/"}
)

// core is what is pure beside the machine: whoever may know rollouts may know it.
var core = []string{
	"rollout/access", "rollout/approval", "rollout/backoff", "rollout/calendar", "rollout/check", "rollout/claim", "rollout/decision",
	"rollout/deployment", "rollout/failure", "rollout/journal", "rollout/mailbox",
	"rollout/paging", "rollout/person", "rollout/shift", "rollout/sight", "rollout/split", "rollout/undo",
}

// allowed is the table of who may import whom: packages of the house by their
// path, libraries by a prefix ending in "/" or their whole path. The standard
// library is always allowed.
var allowed = map[string][]string{
	"analysis":            {"analysis/sequential"},
	"analysis/sequential": {},
	"analysis/template":   {}, // how a name is put into an expression has nothing to do with what numbers mean
	// The grammar of queries is Prometheus' own, and policies are checked by it before
	// any source is asked: what reads it is a package of its own, without I/O.
	"analysis/promql":   join([]string{"analysis", "analysis/template"}, promLib),
	"analysis/jsonpath": {"analysis/template", "github.com/theory/jsonpath"},
	"analysis/unique":   {},                                      // what others send is read by one rule, measurements too, and analysis imports nothing of rollout
	"analysis/batch":    {"analysis"},                            // questions are merged for whoever asks, not for rollouts alone
	"notifier":          {"rollout", "rollout/view", "analysis"}, // a message shows the one picture, with its verdicts and phases
	"notifier/inboxes":  {"notifier"},                            // how people are heard has nothing to do with what they say
	"store":             {},
	"rollout": {"rollout/approval", "rollout/backoff", "rollout/calendar", "rollout/check", "rollout/decision", "rollout/deployment", "rollout/failure", "rollout/mailbox", "rollout/paging", "rollout/person", "rollout/shift",
		"rollout/sight", "rollout/split",
		"analysis"},
	// What the machine's values are made of knows no rollout.
	"rollout/check":      {},
	"rollout/decision":   {"rollout/split", "analysis"}, // a decision rests on verdicts, and may move traffic
	"rollout/deployment": {},
	"rollout/person":     {},
	"rollout/split":      {},
	"rollout/failure":    {"rollout/mailbox", "rollout/paging"}, // a page keeps why it was not taken
	"rollout/sight":      {"analysis"},
	"rollout/shift":      {"rollout/split"},
	"rollout/approval":   {"rollout/person", "rollout/split", "analysis"},           // a question is bound to the verdicts that were shown
	"rollout/mailbox":    {"rollout/approval", "rollout/backoff", "rollout/paging"}, // a notice may ask, and what closes is tried as a page's end is
	"rollout/backoff":    {},
	"rollout/calendar":   cronLib,
	"rollout/paging":     {"rollout/backoff", "rollout/decision", "rollout/person"}, // a rollout has a page, and so has the store
	"rollout/access":     {"rollout"},                                               // one rule of who may do what, whichever way people speak
	"rollout/claim":      {"rollout"},                                               // who has an endpoint is decided beside the machine, and never by it
	"rollout/journal":    {"rollout"},                                               // what is kept of a rollout, and how it chains
	"rollout/undo":       {"rollout", "analysis"},                                   // plans made of plans
	"rollout/sim":        {"rollout", "analysis"},
	"policies":           join([]string{"policies/document", "rollout", "analysis", "analysis/promql", "analysis/jsonpath", "analysis/template"}, schemaLib, cronLib),
	// Strict YAML with its places serves the config as well: it knows nothing of policies.
	"policies/document": yamlLib,
	// What plays policies and what looks ahead stand on the language, which knows neither.
	"policies/policytest":   {"policies", "policies/document", "rollout", "rollout/sim", "analysis"},
	"policies/forecast":     {"policies", "policies/document", "rollout", "rollout/sim", "analysis"},
	"policies/policiestest": {"policies", "policies/document"},
	"rollout/traffic":       {"rollout"},
	"rollout/preflight":     join([]string{"rollout", "rollout/traffic", "analysis"}, schemaLib),
	"rollout/engine": join([]string{"rollout", "rollout/traffic", "rollout/preflight", "rollout/record", "rollout/retention", "rollout/notice", "rollout/clock", "rollout/outage", "rollout/admission",
		"analysis", "analysis/batch", "notifier", "notifier/inboxes", "store"}, metricLib),
	"rollout/clock":      {"analysis"},         // which clock a source goes by shows in its readings
	"rollout/record":     {"rollout", "store"}, // what stands in the store is decided once, for who carries rollouts and who deletes them
	"rollout/retention":  {"rollout/record", "rollout/audit", "store"},
	"rollout/admission":  {"rollout", "rollout/record", "store"},                               // who may move an endpoint is written by one, whoever carries what
	"rollout/outage":     {"rollout", "rollout/notice", "rollout/record", "notifier", "store"}, // the one page that no rollout's state can owe
	"rollout/notice":     {"rollout", "rollout/view", "notifier"},                              // what people are told is decided without the shell, and tested so
	"rollout/audit":      {"store"},                                                            // what a head covers is decided once, for who deletes and who verifies
	"rollout/trigger":    join([]string{"policies", "rollout", "analysis/unique", "store"}, natsLib, cloudLib, cronLib, metricLib),
	"rollout/events":     join([]string{"rollout", "rollout/view", "store"}, natsLib, cloudLib, metricLib),
	"rollout/view":       {"rollout", "analysis"},                 // what is shown of a rollout is made once, whoever shows it
	"rollout/report":     {"rollout", "rollout/view", "analysis"}, // what a rollout was is told once, for the command line and the page
	"rollout/view/chart": {"rollout/view", "analysis"},            // a picture and a page show one scene
	"rollout/turn":       {},                                      // how a processor is shared has nothing to do with who asks
	"rollout/api":        join([]string{"rollout/turn", "rollout", "rollout/view", "analysis/unique", "analysis", "policies", "policies/document"}, authLib, metricLib),
	// What runs real programs beside tests serves the tests of every package.
	"rollout/realtest":            {},
	"rollout/realtest/goldentest": {"github.com/google/go-cmp/"},
	"rollout/realtest/natstest":   join([]string{"rollout/realtest", "github.com/nats-io/nats-server/"}, natsLib),
	"rollout/web":                 join([]string{"rollout", "rollout/view", "rollout/view/chart", "analysis", "policies", "rollout/api"}, authLib, metricLib),
}

// adapters are the parents whose children are adapters, and what those may
// import of the house: their parent and their own internals, and what the
// parent's contract is written in.
var adapters = map[string][]string{
	"analysis":        {"analysis", "analysis/internal/", "analysis/promql", "analysis/jsonpath", "analysis/template", "analysis/unique"},
	"rollout/traffic": {"rollout/traffic", "rollout", "analysis/unique"}, // what others send is read by one rule
	"notifier":        {"notifier", "rollout/view", "rollout/view/chart", "rollout/approval", "analysis", "analysis/unique"},
	"store":           {"store"},
}

func join(lists ...[]string) []string { return slices.Concat(lists...) }

// TestImports holds every package against the table; what the table does not
// name is forbidden.
func TestImports(t *testing.T) {
	for _, p := range list(t) {
		rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, imp := range p.Imports {
			if why := forbidden(rel, imp); why != "" {
				t.Errorf("%s imports %s: %s", rel, imp, why)
			}
		}
	}
}

// forbidden says why the package may not import the path; "" when it may.
func forbidden(rel, imp string) string {
	inHouse := imp == module || strings.HasPrefix(imp, module+"/")
	first, _, _ := strings.Cut(imp, "/")
	if !inHouse && !strings.Contains(first, ".") {
		return "" // the standard library
	}
	target := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/")
	if strings.HasPrefix(rel, "cmd/") {
		return ""
	}
	if strings.HasPrefix(rel, "deploy") {
		return "deploy holds no code"
	}
	if rules, listed := allowed[rel]; listed {
		if matches(rules, target) || matches(rules, imp) || slices.Contains(core, target) && matches(rules, "rollout") {
			return ""
		}
		return "not in the table of imports"
	}
	parent := adapterOf(rel)
	switch {
	case parent == "":
		return "the package is not in the table of imports"
	case !inHouse:
		return "" // the library that it exists for
	case matches(adapters[parent], target), strings.HasPrefix(target, rel+"/"), sameTree(rel, target, parent):
		return ""
	}
	return "an adapter imports its parent and its own internals, never a sibling"
}

// adapterOf is the parent of an adapter, "" when it is none.
func adapterOf(rel string) string {
	for _, parent := range []string{"rollout/traffic", "analysis", "notifier", "store"} {
		if strings.HasPrefix(rel, parent+"/") {
			return parent
		}
	}
	return ""
}

// sameTree reports whether both packages belong to the same adapter.
func sameTree(rel, target, parent string) bool {
	a, _, _ := strings.Cut(strings.TrimPrefix(rel, parent+"/"), "/")
	b, _, _ := strings.Cut(strings.TrimPrefix(target, parent+"/"), "/")
	return strings.HasPrefix(target, parent+"/") && a == b
}

func matches(rules []string, name string) bool {
	return slices.ContainsFunc(rules, func(r string) bool {
		return r == name || strings.HasSuffix(r, "/") && strings.HasPrefix(name, r) || strings.HasPrefix(name, r+"/") && strings.Contains(r, ".")
	})
}

// pure are the packages without clock, I/O, goroutine and randomness.
var pure = []string{"analysis", "analysis/sequential", "analysis/template", "analysis/promql", "analysis/jsonpath", "rollout",
	"rollout/access", "rollout/approval", "rollout/backoff", "rollout/calendar", "rollout/check", "rollout/claim", "rollout/decision", "rollout/deployment", "rollout/failure",
	"rollout/check", "rollout/deployment", "rollout/failure", "rollout/journal", "rollout/mailbox", "rollout/paging",
	"rollout/person", "rollout/shift", "rollout/sight", "rollout/split", "rollout/undo", "rollout/sim", "rollout/notice", "rollout/view", "rollout/report",
	"policies", "policies/document", "policies/policytest", "policies/forecast"}

// impure are the imports and calls that no pure package has.
var (
	impureImports = []string{"os", "net", "net/http", "log", "log/slog", "sync", "sync/atomic", "math/rand", "math/rand/v2", "os/exec", "syscall", "unsafe", "crypto/rand"}
	impureTime    = []string{"Now", "Since", "Until", "Sleep", "NewTimer", "NewTicker", "After", "AfterFunc", "Tick"}
)

// TestPurity reads the sources of the pure packages.
func TestPurity(t *testing.T) {
	for _, p := range list(t) {
		rel := strings.TrimPrefix(p.ImportPath, module+"/")
		if !slices.Contains(pure, rel) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(impureImports, imp) {
				t.Errorf("%s imports %s and is to be pure", rel, imp)
			}
		}
		for _, f := range p.GoFiles {
			for _, what := range impurities(t, filepath.Join(p.Dir, f)) {
				t.Errorf("%s/%s: %s and is to be pure", rel, f, what)
			}
		}
	}
}

// impurities are the go statements and clock calls of a file.
func impurities(t *testing.T, file string) []string {
	t.Helper()
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, fset.Position(n.Pos()).String()+" starts a goroutine")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(impureTime, n.Sel.Name) {
				out = append(out, fset.Position(n.Pos()).String()+" asks the clock (time."+n.Sel.Name+")")
			}
		}
		return true
	})
	return out
}

// TestTopLevel: the top level is fixed.
func TestTopLevel(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	fixed := []string{"analysis", "rollout", "notifier", "store", "policies", "cmd", "deploy", "go.mod", "go.sum", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "Makefile"}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(fixed, e.Name()) {
			t.Errorf("%s stands at the top level, which is fixed", e.Name())
		}
	}
}

// TestNames: a folder's name is a noun of the domain.
func TestNames(t *testing.T) {
	for _, p := range list(t) {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "helper", "types", "pkg", "misc", "shared"}, path.Base(p.ImportPath)) {
			t.Errorf("%s: the folder's name says nothing", p.ImportPath)
		}
	}
}

// TestTheTestsBite: the rules refuse what they are there to refuse.
func TestTheTestsBite(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"analysis", module + "/rollout"},
		{"rollout", module + "/store"},
		{"rollout/engine", module + "/store/bolt"},
		{"rollout/engine", "github.com/slack-go/slack"},
		{"notifier/slack", module + "/notifier/email"},
		{"analysis/scrape", module + "/analysis/prometheus"},
		{"store/bolt", module + "/rollout"},
		{"rollout/api", module + "/rollout/engine"},
		{"policies", "github.com/prometheus/client_golang/prometheus"},
		{"elsewhere", module + "/rollout"},
	} {
		if forbidden(c.from, c.to) == "" {
			t.Errorf("%s may import %s, want it forbidden", c.from, c.to)
		}
	}
	file := filepath.Join(t.TempDir(), "impure.go")
	src := "package x\n\nimport \"time\"\n\nfunc f() { go f(); _ = time.Now() }\n"
	if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := impurities(t, file); len(got) != 2 {
		t.Errorf("impurities of %q: got %v, want two", src, got)
	}
}
