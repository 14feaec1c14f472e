package loganalytics

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
)

const (
	workspace = "01234567-89ab-cdef-0123-456789abcdef"
	token     = "s3cr3t-t0ken"
)

// credential gives a token without asking anybody.
type credential struct{}

// GetToken implements azcore.TokenCredential.
func (credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 || o.Scopes[0] != "https://api.loganalytics.io/.default" {
		return azcore.AccessToken{}, fmt.Errorf("scopes %q", o.Scopes)
	}
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// An emulator answers the queries that this package writes, out of the world's
// events. A row arrives 3 to 10 minutes after its event.
type emulator struct {
	w *analysistest.World

	mu      sync.Mutex
	partial bool
	texts   []string
}

var (
	param   = regexp.MustCompile(`(belay_\w+):(\w+) = (?:datetime\((.*?)\)|("(?:[^"\\]|\\.)*"))`)
	columns = regexp.MustCompile(`(?m)(c\d+) = (.*?),?$`)
)

func (s *emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+token || r.URL.Path != "/v1/workspaces/"+workspace+"/query" {
		http.Error(w, `{"error":{"code":"AuthorizationRequiredError"}}`, http.StatusUnauthorized)
		return
	}
	var ask struct{ Query, Timespan string }
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || ask.Timespan == "" {
		http.Error(w, `{"error":{"code":"BadArgumentError"}}`, http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = append(s.texts, ask.Query)
	names, rows := s.evaluate(ask.Query)
	cols := []map[string]string{}
	for _, n := range names {
		cols = append(cols, map[string]string{"name": n, "type": "dynamic"})
	}
	answer := map[string]any{"tables": []any{map[string]any{"name": "PrimaryResult", "columns": cols, "rows": rows}}}
	if s.partial {
		answer["error"] = map[string]any{"code": "PartialError", "message": "There were some errors when processing your query. " + token}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *emulator) evaluate(text string) (names []string, rows [][]any) {
	at := map[string]time.Time{}
	var endpoints []string
	for _, m := range param.FindAllStringSubmatch(text, -1) {
		if m[2] == "datetime" {
			at[m[1]], _ = time.Parse(time.RFC3339Nano, m[3])
			continue
		}
		list, _ := strconv.Unquote(m[4])
		_ = json.Unmarshal([]byte(list), &endpoints)
	}
	rows = [][]any{}
	if strings.Contains(text, "load") {
		for _, d := range []string{analysistest.Stable, analysistest.Candidate} {
			if strings.Contains(text, `"`+d+`"`) && !s.w.Silent(d) {
				rows = append(rows, []any{1})
			}
		}
		return []string{"load"}, rows
	}
	aggregates := columns.FindAllStringSubmatch(text, -1)
	sums := map[string][]any{}
	for i, e := range s.w.Events() {
		late := 3*time.Minute + time.Duration(i*37%420)*time.Second
		if !slices.Contains(endpoints, e.Endpoint) || time.Since(e.At) < late || !e.At.After(at["belay_begin"]) || e.At.After(at["belay_to"]) {
			continue
		}
		for _, row := range spread(e.Counts, strings.Contains(text, "AppEvents")) {
			le := ""
			if strings.Contains(text, "belay_le") {
				le = strconv.FormatFloat(math.Exp2(math.Ceil(math.Log2(row.ms)*8)/8), 'g', -1, 64)
			}
			// Azure writes names as they were deployed, not as they are asked for.
			key := strings.Join([]string{strings.ToUpper(e.Deployment), e.Endpoint, le}, " ")
			if sums[key] == nil {
				sums[key] = []any{strings.ToUpper(e.Deployment), e.Endpoint, json.Number(le)}
				for range aggregates {
					sums[key] = append(sums[key], 0.0)
				}
			}
			for j, a := range aggregates {
				if e.At.After(at["belay_from"]) {
					sums[key][3+j] = sums[key][3+j].(float64) + row.aggregate(a[2])
				}
			}
		}
	}
	names = []string{"belay_deployment", "belay_endpoint", "belay_le"}
	for _, a := range aggregates {
		names = append(names, a[1])
	}
	for _, k := range slices.Sorted(maps.Keys(sums)) {
		row := sums[k]
		for i, v := range row {
			if f, ok := v.(float64); ok {
				row[i] = cell(f)
			}
		}
		if row[2] == json.Number("") {
			row[2] = nil
		}
		rows = append(rows, row)
	}
	return names, rows
}

// cell is a number as the service writes it: what JSON has no number for is text.
func cell(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return strings.Replace(fmt.Sprint(f), "+Inf", "Infinity", 1)
	}
	return f
}

// logRow is n equal rows.
type logRow struct {
	n, ms, bad, sum, squares float64
}

// spread makes rows of what happened: requests by latency, or orders.
func spread(c analysistest.Counts, orders bool) []logRow {
	if orders {
		return []logRow{{n: c.Plays, ms: 1, sum: c.Sum, squares: c.SumSq}}
	}
	var out []logRow
	for i, n := range c.Slow {
		out = append(out, logRow{n: n, ms: analysistest.Latencies[i] * 1000})
	}
	out[0].bad = c.Bad
	if c.OK < 0 || math.IsNaN(c.OK) || math.IsInf(c.OK, 0) {
		out[0].n = c.OK * 1000
	}
	return out
}

var within = regexp.MustCompile(`<= ([\d.]+)\)$`)

func (r logRow) aggregate(expr string) float64 {
	m := within.FindStringSubmatch(expr)
	switch {
	case m != nil:
		if cut, _ := strconv.ParseFloat(m[1], 64); r.ms <= cut {
			return r.n
		}
		return 0
	case strings.Contains(expr, "isnull"):
		return 0
	case strings.Contains(expr, "ResponseCode"):
		return r.bad
	case strings.Contains(expr, "amount) * todouble"):
		return r.squares
	case strings.Contains(expr, "amount"):
		return r.sum
	}
	return r.n
}

func metrics() map[analysis.Kind]analysis.Metric {
	const traffic = `AmlOnlineEndpointTrafficLog | where EndpointName =~ "${endpoint}"`
	return map[analysis.Kind]analysis.Metric{
		analysis.KindCounts: {Name: "failures", Counts: &analysis.Counts{
			Total: traffic, Bad: traffic + " | where ResponseCode >= 500 or ResponseCode in (408, 424)", Deployment: "DeploymentName",
		}},
		analysis.KindHistogram: {Name: "latency", Histogram: &analysis.Histogram{Series: traffic + " | extend value = TotalDurationMs", Unit: "ms", Deployment: "DeploymentName"}},
		analysis.KindMean: {Name: "revenue", Mean: &analysis.Mean{
			Count: `AppEvents | where Name == "order" | where tostring(Properties.endpoint) == "${endpoint}"`,
			Sum:   "todouble(Measurements.amount)", SumOfSquares: "todouble(Measurements.amount) * todouble(Measurements.amount)",
			Deployment: "tostring(Properties.deployment)",
		}},
		analysis.KindValue: {Name: "load", Value: &analysis.Value{Query: `Perf | where TimeGenerated between (belay_from .. belay_to) and Computer == "${deployment}" | summarize load = max(CounterValue)`}},
	}
}

func newEmulated(t *testing.T, w *analysistest.World) (*Source, *emulator, *analysistest.Transport) {
	t.Helper()
	e := &emulator{w: w}
	tr := &analysistest.Transport{Handler: e}
	s, err := New(Config{Workspace: workspace, Credential: credential{}, Client: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	return s, e, tr
}

// The contract, with rows that come up to ten minutes late and names in
// another case.
func TestExercise(t *testing.T) {
	analysistest.Exercise(t, func(t *testing.T, w *analysistest.World) analysistest.Harness {
		s, e, tr := newEmulated(t, w)
		return analysistest.Harness{
			Source: s, Transport: tr, Metrics: metrics(), Secrets: []string{token}, Lag: 11 * time.Minute, NoGaps: true, Idle: true,
			Refused: analysis.Metric{Name: "refused", Counts: &analysis.Counts{Total: "T", Bad: "a == 1) or (true", Deployment: "d"}},
			Partial: func(on bool) { e.partial = on },
		}
	})
}
