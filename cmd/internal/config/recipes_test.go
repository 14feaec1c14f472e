package config

import (
	"encoding/json"
	"io"
	"maps"
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
	"github.com/belayd/belay/analysis/azuremonitor"
	"github.com/belayd/belay/analysis/httpjson"
	"github.com/belayd/belay/analysis/loganalytics"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
)

// windowed matches a window in a question: its length is that of the interval.
var windowed = regexp.MustCompile(`\[[0-9]+s\]`)

// A vendor answers as its published reference says, which the file of answers names
// in its first line: each answer to the question that its heading gives, * to all.
type vendor struct {
	t       *testing.T
	answers map[string]string
	asked   atomic.Int64 // a source asks several questions at once
	// partly is the heading of the answer that it gives when it cannot give all; "" while
	// it can.
	partly string
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
		question += " " + strings.TrimSuffix(s[strings.LastIndex(s, ":")+1:], `")`)
	}
	if at := q.Get("time"); at != "" { // Loki's, to which a whole number is of nanoseconds
		if _, err := time.Parse(time.RFC3339, at); err != nil {
			v.t.Errorf("got the time %q, want RFC 3339", at)
		}
	}
	if r.Header.Get("X-Amz-Target") != "" {
		question = v.cloudWatch(r)
	}
	question = windowed.ReplaceAllString(question, "[WINDOW]")
	answer, ok := v.answers[question]
	if !ok {
		answer, ok = v.answers["*"]
	}
	if v.partly != "" {
		answer, ok = v.answers[v.partly]
	}
	answer = strings.NewReplacer("FROM+1", q.Get("from")+"001", "FROM", q.Get("from")+"000", "TO", q.Get("to")+"000").Replace(answer)
	if text := r.URL.String(); strings.Contains(text, "${") || strings.Contains(text, url.QueryEscape("${")) {
		v.t.Errorf("a substitution is left over: %s", text)
	}
	if !ok {
		v.t.Errorf("nobody answers %q", question)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
}

// cloudWatch checks that the request is signed, and says what it asks.
func (v *vendor) cloudWatch(r *http.Request) string {
	const signed = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"
	if got := r.Header.Get("Authorization"); !strings.HasPrefix(got, signed) || !strings.Contains(got, "/eu-west-1/monitoring/aws4_request") {
		v.t.Errorf("got the authorization %q, want a signature for the region and the service", got)
	}
	var in struct {
		StartTime, EndTime int64
		MetricDataQueries  []struct {
			MetricStat struct {
				Metric struct {
					MetricName string
					Dimensions []struct{ Name, Value string }
				}
			}
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.EndTime <= in.StartTime || (in.EndTime-in.StartTime)%60 != 0 || len(in.MetricDataQueries) != 1 {
		v.t.Errorf("got the body %+v, %v, want a question about whole minutes", in, err)
		return ""
	}
	m := in.MetricDataQueries[0].MetricStat.Metric
	return m.MetricName + " " + m.Dimensions[len(m.Dimensions)-1].Value
}

// Every recipe for a vendor reads both deployments' figures out of what the vendor's
// reference says that it answers, with the source that the recipe declares; what the vendor
// calls a part is an error.
func TestRecipes(t *testing.T) {
	families := policies.Recipes()
	if len(families) < 9 {
		t.Errorf("got %d recipes, want at least 9", len(families))
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
	for family, declared := range families {
		t.Run(family, func(t *testing.T) {
			var c struct {
				Source SourceConfig `yaml:"source" required:"true"`
			}
			text := "source:\n  " + strings.ReplaceAll(strings.TrimRight(string(declared), "\n"), "\n", "\n  ") + "\n"
			if ps := document.Decode(family+".yaml", []byte(text), &c); ps.HasErrors() {
				t.Fatalf("the declared source:\n%s%s", text, ps.Text())
			}
			h, v := c.Source.HTTPJSON, newVendor(t, family)
			cl := &http.Client{Transport: v}
			if err := (&Builder{}).sign("source", cl, h.AWS); err != nil {
				t.Fatal(err)
			}
			s, err := httpjson.New(httpjson.Config{URL: h.URL, Body: h.Body, Query: h.Query, Client: cl, Lag: h.Lag, Step: h.Step, Partial: h.Partial})
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
				if _, says := v.answers["partial"]; !says && family != "graphite" { // which has no words for it
					t.Errorf("%s: how does it say that an answer is a part?", family)
				}
				for v.partly = range v.answers {
					if !strings.HasPrefix(v.partly, "partial") {
						continue
					}
					rs, err := s.Read(t.Context(), []analysis.Query{q})
					if err != nil || rs[0].Status != analysis.StatusError || !strings.Contains(rs[0].Reason, "may be partial") {
						t.Errorf("%s, %s: got %+v, %v, want an error", ref, v.partly, rs, err)
					}
				}
				v.partly = ""
			}
		})
	}
}

// What plans take kinds of sources to lag by is what the sources do.
func TestKindLags(t *testing.T) {
	want := map[string]time.Duration{"loganalytics": loganalytics.DefaultLag, "azuremonitor": azuremonitor.DefaultLag}
	if !maps.Equal(policies.KindLags, want) {
		t.Errorf("got %v, want %v", policies.KindLags, want)
	}
}
