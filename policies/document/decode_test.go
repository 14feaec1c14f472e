package document

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type exampleConfig struct {
	Listen  string                   `yaml:"listen" default:"127.0.0.1:7070"`
	Sources map[string]exampleSource `yaml:"sources"`
	Retry   struct {
		Every time.Duration `yaml:"every" default:"5s"`
		Times int           `yaml:"times" default:"3"`
	} `yaml:"retry" default:"{}"`
}

type exampleSource struct {
	Prometheus *struct {
		URL  string `yaml:"url" required:"true"`
		HTTP Raw    `yaml:"http"`
	} `yaml:"prometheus" oneof:"kind"`
	Scrape *struct{} `yaml:"scrape" oneof:"kind"`
}

func (s exampleSource) Validate(report func(path, why string)) {
	if s.Prometheus != nil && !strings.HasPrefix(s.Prometheus.URL, "http") {
		report("prometheus.url", "must be an http address")
	}
}

// A daemon's config is read by the same decoder, with the same problems.
func TestDecode(t *testing.T) {
	var got exampleConfig
	ps := Decode("belayd.yaml", []byte(`
sources:
  prom: {prometheus: {url: "http://127.0.0.1:9090", http: {basic_auth: {username: me, password_file: /run/pw}, follow_redirects: false}}}
retry: {times: 5}
`), &got)
	if len(ps) > 0 {
		t.Fatalf("got problems:\n%s", ps.Text())
	}
	if got.Listen != "127.0.0.1:7070" || got.Retry.Every != 5*time.Second || got.Retry.Times != 5 {
		t.Errorf("got %+v, want the defaults and 5 times", got)
	}
	if kind := Chosen(got.Sources["prom"]); kind != "prometheus" {
		t.Errorf("got kind %q, want prometheus", kind)
	}
	want := Raw("basic_auth:\n  username: me\n  password_file: /run/pw\nfollow_redirects: false\n")
	if diff := cmp.Diff(want, got.Sources["prom"].Prometheus.HTTP); diff != "" {
		t.Errorf("raw part differs (-want +got):\n%s", diff)
	}
}

func TestDecodeProblems(t *testing.T) {
	var got exampleConfig
	ps := Decode("belayd.yaml", []byte(`
sources:
  a: {prometheus: {url: "ftp://x"}}
  b: {}
  c: {prometheus: {url: "http://x"}, scrape: {}}
lisen: x
retry: {times: many, every: 5}
`), &got)
	want := strings.TrimPrefix(`
belayd.yaml:3:25: sources.a.prometheus.url: must be an http address
belayd.yaml:4:6: sources.b: needs prometheus or scrape
belayd.yaml:5:38: sources.c: takes only one of prometheus, scrape
belayd.yaml:6:1: lisen: no such key; did you mean listen?
belayd.yaml:7:16: retry.times: must be a whole number
belayd.yaml:7:29: retry.every: a duration needs a unit (ms, s, m or h), for example 30m
`, "\n")
	var lines []string
	for _, p := range ps {
		lines = append(lines, p.String())
	}
	if diff := cmp.Diff(want, strings.Join(lines, "\n")+"\n"); diff != "" {
		t.Errorf("problems differ (-want +got):\n%s", diff)
	}
}

// A place in a document is found by the path that a problem names, as far as the
// path leads.
func TestLocate(t *testing.T) {
	text := []byte("a: 1\nb:\n  c-d: {e: 2}\n  list: [x, {f: 3}]\n")
	for path, want := range map[string][3]any{
		"a": {1, 1, true}, "b.c-d.e": {3, 9, true}, "b.c-d.nothing": {3, 3, true}, "b.list[1].f": {4, 14, true}, "b.list[1]": {4, 13, true},
		"b.list[7]": {4, 3, true}, "b.list[x]": {4, 3, true}, "a.b": {1, 1, true}, "z": {0, 0, false}, "": {0, 0, false},
	} {
		if line, col, ok := Locate(text, path); line != want[0] || col != want[1] || ok != want[2] {
			t.Errorf("Locate(%q): got %d:%d %v, want %v", path, line, col, ok, want)
		}
	}
	if _, _, ok := Locate([]byte("a: ["), "a"); ok {
		t.Error("a text that is not YAML: got a place")
	}
}

// Of more problems than are shown the errors come first, and that there is one is never
// lost.
func TestFirstProblems(t *testing.T) {
	var warnings Problems
	for range 2 * MaxProblems {
		warnings = append(warnings, Problem{Severity: SeverityWarning})
	}
	if got := warnings.first(); len(got) != MaxProblems || got.HasErrors() {
		t.Errorf("warnings alone: got %d, errors %v, want %d and none", len(got), got.HasErrors(), MaxProblems)
	}
	if got := append(warnings, Problem{Severity: SeverityError}).first(); len(got) != 1 || !got.HasErrors() {
		t.Errorf("an error after many warnings: got %d problems, errors %v, want it alone", len(got), got.HasErrors())
	}
}
