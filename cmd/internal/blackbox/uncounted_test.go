package blackbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout"
)

// Figures that cannot be told apart, or that are no counts, refuse a release before any
// traffic moves, and say which series it is and what helps.
func TestRefusesWhatCannotBeCounted(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /proxy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# TYPE requests_total counter\nrequests_total %d\n# TYPE failed_total counter\nfailed_total 0\n", requests())
	})
	mux.HandleFunc("GET /gauge/{deployment}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "# TYPE requests_now gauge\nrequests_now{deployment=%q} %d\n", r.PathValue("deployment"), 10+requests()%7)
	})
	pages := httptest.NewServer(mux)
	t.Cleanup(pages.Close)
	e := newEndpoints(t, "shared", "gauge")
	fresh := func(name, total string) string {
		p := policy(name, name, "", "[{weight: 50%, bake: 1s}, {weight: 100%, bake: 1s}]")
		p = strings.Replace(p, "{check: ready}", "{check: ready}, {check: fresh-metrics}", 1)
		return strings.ReplaceAll(p, "requests_total", total)
	}
	w := prepare(t, e, "", fresh("shared", "requests_total"), fresh("gauge", "requests_now"))
	config, err := os.ReadFile(filepath.Join(w.dir, "belayd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	moved := string(config)
	for _, d := range []string{"blue", "green"} {
		own := fmt.Sprintf("%s: [%q]", d, e.URL+"/metrics/"+d)
		for _, page := range []string{"/proxy", "/gauge/" + d} { // by the endpoints' names, whose order is a map's
			name := map[bool]string{true: "shared: {", false: "gauge: {"}[page == "/proxy"]
			head, tail, _ := strings.Cut(moved, name)
			moved = head + name + strings.Replace(tail, own, fmt.Sprintf("%s: [%q]", d, pages.URL+page), 1)
		}
	}
	w.write("belayd.yaml", moved)
	w.start()
	wants := map[string][]string{
		"shared": {"requests_total", "counts for both blue and green"},
		"gauge":  {"requests_now", "is a gauge", "give the raw counter"},
	}
	ids := map[string]string{}
	for name := range wants { // both at once: what could pass is tried five times
		ids[name] = strings.TrimSpace(w.want(0, "", "start", "--policy", name, "--candidate", "green", "--version", "1", "--output", "name"))
	}
	for name, id := range ids {
		out := w.want(9, "", "watch", id)
		for _, want := range append(wants[name], "fresh-metrics", string(rollout.PhaseRefused)) {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is missing in %s", name, want, out)
			}
		}
		if n := e.written(name); n != 0 {
			t.Errorf("%s: its traffic was moved %d times, want never", name, n)
		}
	}
}
