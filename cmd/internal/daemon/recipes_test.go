package daemon

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/httpjson"
	"github.com/belayd/belay/policies"
)

// windowed matches a window in a question: its length is that of the interval.
var windowed = regexp.MustCompile(`\[[0-9]+s\]`)

// A vendor answers as its published reference says, which the file of answers names
// in its first line: each answer to the question that its heading gives, * to all.
type vendor struct {
	t       *testing.T
	answers map[string]string
	asked   atomic.Int64 // a source asks several questions at once
}

func newVendor(t *testing.T, family string) *vendor {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "recipes", family+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	v := &vendor{t: t, answers: map[string]string{}}
	for part := range strings.SplitSeq(string(b), "\n-- ") {
		if heading, answer, ok := strings.Cut(part, " --\n"); ok {
			v.answers[heading] = answer
		}
	}
	return v
}

// RoundTrip finds the answer to what the request asks.
func (v *vendor) RoundTrip(r *http.Request) (*http.Response, error) {
	v.asked.Add(1)
	q := r.URL.Query()
	question := q.Get("query") + q.Get("q") + q.Get("target") + q.Get("metricSelector")
	if s := q.Get("entitySelector"); s != "" {
		question += " " + strings.TrimSuffix(s[strings.LastIndex(s, ":")+1:], ")")
	}
	question = windowed.ReplaceAllString(question, "[WINDOW]")
	answer, ok := v.answers[question]
	if !ok {
		answer, ok = v.answers["*"]
	}
	if text := r.URL.String(); strings.Contains(text, "${") || strings.Contains(text, url.QueryEscape("${")) {
		v.t.Errorf("a substitution is left over: %s", text)
	}
	if !ok {
		v.t.Errorf("nobody answers %q", question)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
}

// Every recipe for a vendor reads both deployments' figures out of what the vendor's
// reference says that it answers, with the source that the recipe declares.
func TestRecipes(t *testing.T) {
	families := policies.Recipes()
	if len(families) < 8 {
		t.Errorf("got %d recipes, want at least 8", len(families))
	}
	for family, declared := range families {
		t.Run(family, func(t *testing.T) {
			var c struct {
				Source SourceConfig `yaml:"source" required:"true"`
			}
			text := "source:\n  " + strings.ReplaceAll(strings.TrimRight(string(declared), "\n"), "\n", "\n  ") + "\n"
			if ps := policies.Decode(family+".yaml", []byte(text), &c); ps.HasErrors() {
				t.Fatalf("the declared source:\n%s%s", text, ps.Text())
			}
			h, v := c.Source.HTTPJSON, newVendor(t, family)
			s, err := httpjson.New(httpjson.Config{URL: h.URL, Body: h.Body, Query: h.Query, Client: &http.Client{Transport: v}, Lag: h.Lag, Step: h.Step})
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range policies.Builtins() {
				name, of := strings.CutPrefix(ref, family+"/")
				if !of {
					continue
				}
				b, _ := policies.FindBuiltin(ref)
				q := analysis.Query{Metric: b.Definition(name, "vendor"), From: time.Now().Add(-10 * time.Minute), To: time.Now(),
					Names: analysis.Names{Endpoint: "recs", Stable: "blue", Candidate: "green"}}
				v.asked.Store(0)
				rs, err := s.Read(t.Context(), []analysis.Query{q})
				if err != nil {
					t.Fatal(err)
				}
				r := rs[0]
				if r.Status != analysis.StatusOK || r.Stable.N != 1000 || r.Candidate.N != 50 {
					t.Errorf("%s: got %s %q, n %v and %v, want 1000 and 50", ref, r.Status, r.Reason, r.Stable.N, r.Candidate.N)
				}
				if name == "failures" && (r.Stable.K != 7 || r.Candidate.K != 0) {
					t.Errorf("%s: got k %v and %v, want 7 and 0", ref, r.Stable.K, r.Candidate.K)
				}
				if _, all := v.answers["*"]; all && v.asked.Load() != 1 {
					t.Errorf("%s: got %d requests, want one", ref, v.asked.Load())
				}
			}
		})
	}
}
