package prometheus

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/analysistest"
	"github.com/belayd/belay/analysis/internal/series"
	"github.com/belayd/belay/analysis/promql"
)

// A server answers the three forms of query that a source asks, out of the
// world's samples, as Prometheus 2.42 does: samples younger than late are not
// there yet, an instant query looks back five minutes.
type server struct {
	w       *analysistest.World
	late    time.Duration
	partial bool
	// outage, where it is set, is how late an instance's sample of an instant comes.
	outage func(instance string, at time.Time) time.Duration
}

// here says whether an instance's sample of the instant has come.
func (s *server) here(instance string, at time.Time) bool {
	late := s.late
	if s.outage != nil {
		late = max(late, s.outage(instance, at))
	}
	return time.Since(at) >= late
}

type wire struct {
	Metric map[string]string `json:"metric"`
	Values [][2]any          `json:"values,omitempty"`
	Value  *[2]any           `json:"value,omitempty"`
}

var (
	ranged  = regexp.MustCompile(`^(.*)\[(\d+)ms\]$`)
	grouped = regexp.MustCompile(`^(group|max) ?(?:by \((.*?)\) )?\((.*)\)$`)
)

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	secs, err := strconv.ParseFloat(r.FormValue("time"), 64)
	if err != nil {
		http.Error(w, `{"status":"error","errorType":"bad_data","error":"time"}`, http.StatusBadRequest)
		return
	}
	at := time.UnixMilli(int64(secs * 1000))
	expr := r.FormValue("query")
	kind, result := "matrix", []wire{}
	if m := ranged.FindStringSubmatch(expr); m != nil {
		ms, _ := strconv.Atoi(m[2])
		result, err = s.matrix(m[1], at.Add(-time.Duration(ms)*time.Millisecond), at)
	} else if m := grouped.FindStringSubmatch(expr); m != nil {
		kind = "vector"
		result, err = s.vector(m[3], strings.Split(m[2], ","), at)
	} else if !strings.Contains(expr, "[") {
		kind = "vector"
		result, err = s.live(expr, at)
	} else {
		err = fmt.Errorf("1:1: parse error: unexpected %q", expr)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "error", "errorType": "bad_data", "error": err.Error()})
		return
	}
	answer := map[string]any{"status": "success", "data": map[string]any{"resultType": kind, "result": result}}
	if s.partial {
		answer["warnings"] = []string{"1 of 2 stores did not answer https://user:hunter2@store"}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// matrix is the raw samples of a selector in [from, to].
func (s *server) matrix(text string, from, to time.Time) ([]wire, error) {
	sel, err := promql.ParseSelector(text)
	if err != nil {
		return nil, err
	}
	if sel, err = sel.Expand(nil); err != nil {
		return nil, err
	}
	found := map[string]*wire{}
	for _, x := range s.w.Samples() {
		if x.At.Before(from) || x.At.After(to) || !s.here(x.Instance, x.At) {
			continue
		}
		for _, l := range analysistest.Lines(x, false) {
			ls := series.Labels{{Name: series.NameLabel, Value: l.Name}}
			m := map[string]string{series.NameLabel: l.Name}
			for _, y := range l.Labels {
				ls = append(ls, series.Label{Name: y[0], Value: y[1]})
				m[y[0]] = y[1]
			}
			if ls.Get(series.NameLabel) != sel.Name || !sel.Matches(ls.Get) {
				continue
			}
			key := fmt.Sprint(ls)
			if found[key] == nil {
				found[key] = &wire{Metric: m}
			}
			found[key].Values = append(found[key].Values, [2]any{json.Number(fmt.Sprintf("%.3f", float64(x.At.UnixMilli())/1000)), analysistest.Number(l.Value)})
		}
	}
	out := []wire{}
	for _, k := range slices.Sorted(maps.Keys(found)) {
		out = append(out, *found[k])
	}
	return out, nil
}

// live is the newest samples of the series whose marker has not come: an instance
// is given one, as late as its samples are, at the first scrape that lacks it.
func (s *server) live(text string, at time.Time) ([]wire, error) {
	last, scrapes := map[string]time.Time{}, []time.Time{}
	for _, x := range s.w.Samples() {
		last[x.Instance] = x.At
		scrapes = append(scrapes, x.At)
	}
	all, err := s.matrix(text, at.Add(-5*time.Minute), at)
	var out []wire
	for _, x := range all {
		instance := x.Metric["instance"]
		i := slices.IndexFunc(scrapes, func(t time.Time) bool { return t.After(last[instance]) })
		if i >= 0 && s.here(instance, scrapes[i]) {
			continue
		}
		x.Value, x.Values = &x.Values[len(x.Values)-1], nil
		out = append(out, x)
	}
	return out, err
}

// vector groups the newest samples by labels; all values of the world that are
// asked for in this way are 1.
func (s *server) vector(text string, by []string, at time.Time) ([]wire, error) {
	all, err := s.matrix(text, at.Add(-5*time.Minute), at)
	if err != nil {
		return nil, err
	}
	found := map[string]wire{}
	for _, x := range all {
		m := map[string]string{}
		for _, l := range by {
			if v := x.Metric[l]; v != "" {
				m[l] = v
			}
		}
		found[fmt.Sprint(m)] = wire{Metric: m, Value: &[2]any{json.Number("1"), "1"}}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b wire) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) }), nil
}

func metrics() map[analysis.Kind]analysis.Metric {
	return map[analysis.Kind]analysis.Metric{
		analysis.KindCounts: {Name: "failures", Counts: &analysis.Counts{
			Total: `http_requests_total{endpoint="${endpoint}"}`, Bad: `http_requests_total{endpoint="${endpoint}",code=~"5..|424"}`,
			Deployment: "deployment", Instance: "instance",
		}},
		analysis.KindHistogram: {Name: "latency", Histogram: &analysis.Histogram{
			Series: `latency_seconds{endpoint="${endpoint}"}`, Unit: "s", Deployment: "deployment", Instance: "instance",
		}},
		analysis.KindMean: {Name: "revenue", Mean: &analysis.Mean{
			Count: `plays_total{endpoint="${endpoint}"}`, Sum: `revenue_sum{endpoint="${endpoint}"}`, SumOfSquares: `revenue_sum_of_squares{endpoint="${endpoint}"}`,
			Deployment: "deployment", Instance: "instance",
		}},
		analysis.KindValue: {Name: "load", Value: &analysis.Value{Query: `max(load{endpoint="${endpoint}",deployment="${deployment}"})`}},
	}
}

// The samples arrive three seconds late; the address holds a password, the
// parameters a token.
func TestExercise(t *testing.T) {
	analysistest.Exercise(t, func(t *testing.T, w *analysistest.World) analysistest.Harness {
		srv := &server{w: w, late: 3 * time.Second}
		tr := &analysistest.Transport{Handler: srv}
		s, err := New(Config{
			URL: "http://user:hunter2@prometheus.example/base", Client: &http.Client{Transport: tr},
			Params: map[string][]string{"token": {"s3cr3t"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return analysistest.Harness{
			Source: s, Transport: tr, Metrics: metrics(), Instances: true, Lag: 20 * time.Second,
			Secrets: []string{"hunter2", "s3cr3t"},
			Refused: analysis.Metric{Name: "refused", Counts: &analysis.Counts{Total: `rate(x[1m])`, Bad: `x`, Deployment: "deployment"}},
			Partial: func(on bool) { srv.partial = on },
		}
	})
}
