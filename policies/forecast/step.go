package forecast

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/calendar"
	"github.com/belayd/belay/rollout/split"
)

// Step is one step of a forecast.
type Step struct {
	Name string `json:"name"`
	split.Share
	Bake     document.Span `json:"bake"`
	Requires []string      `json:"requires,omitempty"`
	// Earliest and Latest are when the step starts; Window is how long it waits
	// for a window in the earliest case.
	Earliest time.Time     `json:"earliest"`
	Latest   time.Time     `json:"latest"`
	Window   document.Span `json:"window,omitempty"`
	// Capacity says whether the candidate can carry the step; empty when unknown.
	Capacity   string      `json:"capacity,omitempty"`
	Guardrails []Guardrail `json:"judges"`
}

// times walks the ladder twice: as fast and as slow as the plan allows.
func (o *Forecast) times(plan *rollout.Plan, start time.Time) {
	fast, slow := start, start
	if plan.Schedule != nil {
		fast = plan.Schedule.Next(start.Add(-time.Second))
		slow = fast
	}
	for _, s := range plan.Steps {
		var waited time.Duration
		fast, waited = afterWindow(plan.Windows, fast)
		for _, name := range s.Requires {
			i := slices.IndexFunc(plan.Approvals, func(a approval.Approval) bool { return a.Name == name })
			slow = slow.Add(plan.Approvals[i].Expires)
		}
		slow, _ = afterWindow(plan.Windows, slow)
		o.Steps = append(o.Steps, Step{Name: s.Name, Share: s.Share, Bake: document.Span(s.Bake),
			Requires: s.Requires, Earliest: fast, Latest: slow, Window: document.Span(waited)})
		fast, slow = fast.Add(s.Bake), slow.Add(s.Bake+plan.MaxExtend)
	}
	o.Shortest, o.Longest = document.Span(fast.Sub(start)), document.Span(slow.Sub(start))
}

// afterWindow is when a step may start that could start at t.
func afterWindow(w *calendar.Windows, t time.Time) (time.Time, time.Duration) {
	open, next := w.OpenAt(t)
	if open || next.IsZero() {
		return t, 0
	}
	return next, next.Sub(t)
}

// capacity compares what the step sends with what the candidate can take.
func (o *Forecast) capacity(facts Inputs, base map[string]analysis.Baseline, i int) {
	if facts.Instances == 0 || facts.Concurrency == 0 || facts.PerSecond == 0 {
		return // nobody told what the candidate can take
	}
	latency := 0.0
	for _, b := range base {
		if b.Sample.N > 0 && len(b.Sample.Buckets) > 0 {
			latency = max(latency, meanLatency(b.Sample))
		}
	}
	if latency == 0 {
		return
	}
	s := &o.Steps[i]
	need := facts.PerSecond * float64(s.Percent()) / 100 * latency
	have := float64(facts.Instances * facts.Concurrency)
	s.Capacity = fmt.Sprintf("needs %s of %s concurrent requests", document.FormatNumber(math.Ceil(need*10)/10),
		document.FormatNumber(have))
	if need > have {
		s.Capacity += ": too few instances"
		o.Advice = append(o.Advice, fmt.Sprintf("Step %s %s; the candidate would turn requests away.", s.Name,
			s.Capacity))
	}
}

// meanLatency estimates the mean from a histogram.
func meanLatency(s analysis.Sample) float64 {
	sum, lower := 0.0, 0.0
	for _, b := range s.Buckets {
		sum += b.Count * (lower + b.Upper) / 2
		lower = b.Upper
	}
	return sum / s.N
}
