package policytest

import (
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/realtest/goldentest"
)

func runTests(t *testing.T, name string, wanted func(string) bool) *Report {
	t.Helper()
	r, ps := Run(os.DirFS("testdata"), name, nil, wanted)
	if r == nil {
		t.Fatalf("got problems:\n%s", ps.Text())
	}
	return r
}

var moments = regexp.MustCompile(`\b(at|since) [0-9hms.]+`)

var sentences = regexp.MustCompile(`(it ended [a-z-]+, since \S+: ).*`)

// A failing case says what is not met and shows the timeline with the first
// wrong decision; actions that did nothing are noted.
func TestFailingCases(t *testing.T) {
	r := runTests(t, "failing.test.yaml", nil)
	if r.Passed() {
		t.Error("got passed, want failures")
	}
	// The judge's sentences and the very minute of its decisions are its own; here
	// only where they stand matters.
	for i := range r.Cases {
		for j, f := range r.Cases[i].Failures {
			r.Cases[i].Failures[j] = moments.ReplaceAllString(sentences.ReplaceAllString(f, "$1…"), "$1 …")
		}
		for j, d := range r.Cases[i].Timeline {
			r.Cases[i].Timeline[j].Sentence, r.Cases[i].Timeline[j].At = "…", document.Span(time.Duration(d.At).Round(10*time.Minute))
		}
	}
	var text, junit, coverage strings.Builder
	for _, err := range []error{r.Text(&text), JUnit(&junit, []*Report{r}), r.Coverage(&coverage)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	goldentest.Check(t, "testdata/failing.txt", text.String())
	goldentest.Check(t, "testdata/failing.junit.xml", junit.String())
	goldentest.Check(t, "testdata/failing.coverage.txt", coverage.String())
}

// Only what is asked for is run.
func TestWanted(t *testing.T) {
	r := runTests(t, "failing.test.yaml", func(name string) bool { return strings.Contains(name, "passes") })
	if len(r.Cases) != 1 || len(r.Properties) != 0 || !r.Passed() {
		t.Errorf("got %d cases and %d properties, passed %v, want one case that passes", len(r.Cases), len(r.Properties), r.Passed())
	}
}

// A test file is read as strictly as a policy.
func TestBadTests(t *testing.T) {
	for _, name := range []string{"bad", "names"} {
		r, ps := Run(os.DirFS("testdata"), name+".test.yaml", nil, nil)
		if r != nil {
			t.Errorf("%s: got a report, want problems", name)
		}
		goldentest.Check(t, "testdata/"+name+".txt", ps.Text())
	}
}

// What a file is decides how it is checked.
func TestCheckFile(t *testing.T) {
	for name, want := range map[string]string{"failing.test.yaml": "", "names.test.yaml": "the policy has no such step", "policy.yaml": "W100"} {
		ps := Check(os.DirFS("testdata"), name, nil)
		if got := ps.Text(); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got:\n%swant %q", name, got, want)
		}
	}
	_, ps := policies.Parse(os.DirFS("testdata"), "failing.test.yaml", nil)
	if len(ps) != 1 || !strings.Contains(ps[0].String(), "run it with belay policy test") {
		t.Errorf("got %v, want that it is a test", ps)
	}
}

func TestSeries(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		in   string
		want Series
		out  string
	}{
		{"1x2", Series{1, 1, 1}, "1x2"},
		{"1+2x3", Series{1, 3, 5, 7}, "1 3 5 7"},
		{"5-1x2 _ 2", Series{5, 4, 3, nan, 2}, "5 4 3 _ 2"},
		{"_x3 1.5", Series{nan, nan, nan, 1.5}, "_x3 1.5"},
		{"-2 1e2x1", Series{-2, 100, 100}, "-2 100x1"},
	} {
		var got Series
		if err := got.UnmarshalText([]byte(tt.in)); err != nil || !cmp.Equal(tt.want, got, cmpopts.EquateNaNs()) {
			t.Errorf("%q: got %v, error %v, want %v", tt.in, got, err, tt.want)
		}
		if got.String() != tt.out {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.out)
		}
	}
	for _, in := range []string{"", "x", "1x", "1+2", "1y2", "__", "1x999999", "1x20000 1x20000", "1e300", "0+1e9x1000"} {
		var got Series
		if err := got.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q: got %v, want an error", in, got)
		}
	}
}

func TestWhen(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want When
	}{
		{"40m", When{Offset: 40 * time.Minute}},
		{"canary", When{Step: "canary"}},
		{"canary+5m", When{Step: "canary", Offset: 5 * time.Minute}},
		{"mirror-10%-90s", When{Step: "mirror-10%", Offset: -90 * time.Second}},
		{"asked:product-owner+1m", When{Gate: "product-owner", Offset: time.Minute}},
	} {
		var got When
		tt.want.Text = tt.in
		if err := got.UnmarshalText([]byte(tt.in)); err != nil || got != tt.want {
			t.Errorf("%q: got %+v, error %v, want %+v", tt.in, got, err, tt.want)
		}
	}
}

// What is read in pieces adds up to what the series hold, whatever the pieces.
func TestSeriesSourceAddsUp(t *testing.T) {
	var s Series
	if err := s.UnmarshalText([]byte("17x59 3 0x9 101x9")); err != nil {
		t.Fatal(err)
	}
	b := &seriesSource{start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), interval: time.Minute}
	sums := cumulate(s, func(i int) float64 { return s[i] })
	total, at := 0.0, b.start
	for i := range 400 {
		next := at.Add(time.Duration(7+i%11) * time.Second)
		d := b.at(sums, next) - b.at(sums, at)
		if d < 0 || d != math.Floor(d) {
			t.Fatalf("got an increment of %v at %s, want a whole number", d, at)
		}
		total, at = total+d, next
	}
	if want := b.at(sums, at); total != want {
		t.Errorf("got %v in sum, want %v", total, want)
	}
}

// BenchmarkPolicyTest measures one case of five simulated hours at an interval
// of 15 s, with three guardrails.
func BenchmarkPolicyTest(b *testing.B) {
	f, p, ps := loadTest(os.DirFS("../examples"), "smallest.test.yaml", nil)
	if f == nil {
		b.Fatal(ps.Text())
	}
	c := Case{Name: "five hours", Series: map[string]Series{}, Expect: []Expectation{{Finally: "promoted"}}}
	for name, s := range f.Series {
		long := make(Series, 400)
		for i := range long {
			long[i] = s[0]
		}
		c.Series[name] = long
	}
	for i := range p.Document.Spec.Steps {
		p.Document.Spec.Steps[i].Bake = 75 * time.Minute
	}
	r := &Report{coverage: newCoverage(p)}
	for b.Loop() {
		if res := runCase(f, c, p, r); len(res.Failures) > 0 {
			b.Fatal(res.Failures)
		}
	}
}
