package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/trigger"
)

// triggerList shows the triggers that there are now, over the API.
type triggerList func() []*trigger.Trigger

// Triggers implements api.Triggers.
func (l triggerList) Triggers(context.Context) []api.Trigger {
	var out []api.Trigger
	for _, t := range l() {
		s := t.Status()
		one := api.Trigger{Name: s.Name, Kind: "nats", Stream: s.Stream, Subjects: s.Subjects, Durable: s.Durable,
			Refused: s.Refused}
		if s.Err != nil {
			one.Error = s.Err.Error()
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b api.Trigger) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Refused implements api.Triggers.
func (l triggerList) Refused(ctx context.Context, name, cursor string, limit int) ([]api.RefusedEvent, string, error) {
	for _, t := range l() {
		if t.Name() != name {
			continue
		}
		page, next, err := t.Refusals(ctx, cursor, limit)
		var out []api.RefusedEvent
		for _, r := range page {
			e := api.RefusedEvent{Stream: r.Stream, Sequence: r.Sequence, Subject: r.Subject, Source: r.Source, ID: r.ID,
				Reason:    r.Reason,
				Published: r.Published.UTC(), At: r.At.UTC(), Header: r.Header}
			if utf8.Valid(r.Body) {
				e.Body = string(r.Body)
			} else {
				e.Bytes = r.Body
			}
			out = append(out, e)
		}
		return out, next, err
	}
	return nil, "", fmt.Errorf("trigger %s: %w", name, rollout.ErrNotFound)
}

// The metrics of triggers; the set of names is the config's.
var (
	triggerUpDesc = prometheus.NewDesc("belay_trigger_consuming",
		"1 while the trigger consumes events, 0 while it cannot.", []string{"trigger"}, nil)
	triggerRefusedDesc = prometheus.NewDesc("belay_trigger_refused_total",
		"Events that could not become rollouts and are kept with the reason.", []string{"trigger"}, nil)
)

// Describe implements prometheus.Collector.
func (l triggerList) Describe(ch chan<- *prometheus.Desc) {
	ch <- triggerUpDesc
	ch <- triggerRefusedDesc
}

// Collect implements prometheus.Collector.
func (l triggerList) Collect(ch chan<- prometheus.Metric) {
	for _, t := range l() {
		s, up := t.Status(), 0.0
		if s.Err == nil {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(triggerUpDesc, prometheus.GaugeValue, up, s.Name)
		ch <- prometheus.MustNewConstMetric(triggerRefusedDesc, prometheus.CounterValue, float64(s.Refused), s.Name)
	}
}

var (
	_ api.Triggers         = triggerList(nil)
	_ prometheus.Collector = triggerList(nil)
)
