package azuremonitor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/series"
)

// An ask is one request: one metric of up to 50 endpoints or deployments, by its
// dimensions.
type ask struct {
	metric, namespace string
	dimensions        []string
	from, to          time.Time
	// resources are the ids of what is asked about.
	resources []string

	// found are the series by the resource's id, in lower case.
	found map[string][]timeseries
	err   error
}

// A timeseries is one combination of dimensions, a figure a minute.
type timeseries struct {
	// labels are the dimensions, their names in lower case, as the service writes
	// them.
	labels series.Labels
	values []float64
}

type response struct {
	Values []struct {
		ResourceID string
		Value      []struct {
			Name       struct{ Value string }
			ErrorCode  string
			Timeseries []struct {
				MetadataValues []struct {
					Name  struct{ Value string }
					Value string
				}
				Data []struct {
					TimeStamp time.Time
					Average   *float64
				}
			}
		}
	}
}

// resource is the id of the endpoint, or of its deployment where the metric is one
// of deployments.
func (s *Source) resource(t *term, endpoint, deployment string) string {
	id := s.endpoint(endpoint)
	if t.namespace == ofDeployments {
		id += "/deployments/" + deployment
	}
	return id
}

// endpoint is an endpoint's id.
func (s *Source) endpoint(endpoint string) string {
	return "/subscriptions/" + s.cfg.Subscription + "/resourceGroups/" + s.cfg.ResourceGroup +
		"/providers/Microsoft.MachineLearningServices/workspaces/" + s.cfg.Workspace + "/onlineEndpoints/" + endpoint
}

// get makes the request of an ask.
func (s *Source) get(ctx context.Context, a *ask) (map[string][]timeseries, error) {
	const format = "2006-01-02T15:04:05Z"
	q := url.Values{
		"api-version":     {version},
		"metricnamespace": {a.namespace},
		"metricnames":     {a.metric},
		"aggregation":     {"Average"},
		"interval":        {"PT1M"},
		"starttime":       {a.from.UTC().Format(format)},
		"endtime":         {a.to.UTC().Format(format)},
		"top":             {strconv.Itoa(top)},
	}
	if len(a.dimensions) > 0 {
		q.Set("filter", strings.Join(a.dimensions, " eq '*' and ")+" eq '*'")
	}
	u := s.base.JoinPath("subscriptions", s.cfg.Subscription, "metrics:getBatch")
	u.RawQuery = q.Encode()
	var out response
	if err := s.client.Post(ctx, u.String(), http.Header{}, map[string][]string{"resourceids": a.resources},
		&out); err != nil {
		return nil, err
	}
	return a.decode(&out)
}

// decode sorts the answer by resource.
func (a *ask) decode(r *response) (map[string][]timeseries, error) {
	out := map[string][]timeseries{}
	for _, v := range r.Values {
		id := strings.ToLower(v.ResourceID)
		for _, m := range v.Value {
			if !strings.EqualFold(m.Name.Value, a.metric) {
				continue
			}
			if m.ErrorCode != "" && m.ErrorCode != "Success" {
				return nil, errors.New("the service gave no figures for a metric")
			}
			if len(m.Timeseries) >= top {
				return nil, fmt.Errorf("the answer has %d series, as many as were asked for: it was cut off",
					len(m.Timeseries))
			}
			for _, t := range m.Timeseries {
				x := timeseries{labels: series.Labels{}}
				for _, d := range t.MetadataValues {
					x.labels = append(x.labels, series.Label{Name: strings.ToLower(d.Name.Value), Value: d.Value})
				}
				for _, p := range t.Data {
					// The figure of a minute bears the minute's beginning.
					if p.Average != nil && !p.TimeStamp.Before(a.from) && p.TimeStamp.Before(a.to) {
						x.values = append(x.values, *p.Average)
					}
				}
				out[id] = append(out[id], x)
			}
			if out[id] == nil {
				out[id] = []timeseries{}
			}
		}
	}
	for _, id := range a.resources {
		if _, told := out[strings.ToLower(id)]; !told {
			return nil, fmt.Errorf("the answer says nothing about %s", path.Base(id))
		}
	}
	return out, nil
}

// dimension reads a dimension's value, whatever the case of its name.
func dimension(l series.Labels) func(string) string {
	return func(name string) string { return l.Get(strings.ToLower(name)) }
}

// answer makes the reading of a question.
func (s *Source) answer(x *question) analysis.Reading {
	if x.err != nil {
		return analysis.FailedReading(x.Query, x.err)
	}
	r := analysis.Reading{Metric: x.Metric.Name, From: x.from, To: x.to, Status: analysis.StatusOK}
	if !x.to.After(x.from) {
		return r
	}
	for i, d := range []string{x.Names.Stable, x.Names.Candidate} {
		v, err := s.sample(x, d)
		if err != nil {
			return analysis.FailedReading(x.Query, err)
		}
		if i == 0 {
			r.Stable = v
		} else {
			r.Candidate = v
		}
		if !v.Fresh && r.Reason == "" {
			r.Reason = fmt.Sprintf("there is no figure of %s for %s", x.terms[0].selector.Name, d)
		}
	}
	return r
}

// sample is what the figures of one deployment come to.
func (s *Source) sample(x *question, deployment string) (analysis.Sample, error) {
	var sums [2]float64
	for i, t := range x.terms {
		id := s.resource(&t, x.Names.Endpoint, deployment)
		if err := t.asks[id].err; err != nil {
			return analysis.Sample{}, err
		}
		sel, err := t.selector.Expand(x.Vars(deployment))
		if err != nil {
			return analysis.Sample{}, err
		}
		var values []float64
		matched := 0
		var means []float64
		for _, y := range t.asks[id].found[strings.ToLower(id)] {
			own := x.label == "" || strings.EqualFold(y.labels.Get(strings.ToLower(x.label)), deployment)
			if own && sel.Matches(dimension(y.labels)) && len(y.values) > 0 {
				matched++
				means = append(means, mean(y.values))
				values = append(values, y.values...)
			}
		}
		if i == 0 && matched == 0 {
			return analysis.Sample{}, nil
		}
		for _, v := range values {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				return analysis.Sample{}, fmt.Errorf("%s of %s is %v", t.selector.Name, deployment, v)
			}
			sums[i] += v
		}
		if x.Metric.Value != nil {
			v, ok := folded(t.fold, means)
			if !ok {
				return analysis.Sample{}, fmt.Errorf("%d series of %s for %s, one is wanted: wrap it in max(), "+
					"min(), avg() or sum()", matched, t.selector.Name, deployment)
			}
			return analysis.Sample{Fresh: true, Value: v}, nil
		}
	}
	return series.Events([]series.InstanceCounts{{N: sums[0], K: sums[1]}}, series.Extraction{})
}

func mean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / float64(len(xs))
}

// folded makes one number of the means of several series; not ok where several are
// not to be one.
func folded(fold string, means []float64) (float64, bool) {
	switch fold {
	case "max":
		return slices.Max(means), true
	case "min":
		return slices.Min(means), true
	case "avg":
		return mean(means), true
	case "sum":
		return mean(means) * float64(len(means)), true
	}
	return means[0], len(means) == 1
}
