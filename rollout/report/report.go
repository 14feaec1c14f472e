// Package report is what one rollout was, told afterwards: what happened and who did it,
// since when a fault could be seen, what it cost, and who was told and answered when.
//
// The rules of the package:
//   - It is pure, and made of the plan and the journal alone: a store's copy tells the
//     same as the daemon did.
//   - A figure that the journal does not hold is left out. Nothing is guessed.
package report

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/view"
)

// SchemaVersion is that of a Report as JSON. A field is added without a new one.
const SchemaVersion = 1

// A Report is the account of one rollout. Times are in UTC.
type Report struct {
	SchemaVersion int `json:"schemaVersion"`
	// Rollout is the rollout as the journal leaves it.
	Rollout view.Rollout `json:"rollout"`
	// Entries is how many journal entries it was made of, Head the hash of the last.
	Entries int    `json:"entries"`
	Head    string `json:"head"`
	// Timeline is what was decided and what people did, in order.
	Timeline []Moment `json:"timeline"`
	// Splits are what the endpoint served, each from when it was read back.
	Splits []Served `json:"splits"`
	// Fault is what ended or held the rollout by a guardrail; nil where none did.
	Fault *Fault `json:"fault,omitempty"`
	// Costs are the events that counting guardrails saw, by step.
	Costs []Cost `json:"costs"`
	// Told is what people were told, in the order in which it was wanted.
	Told []Told `json:"told"`
}

// A Moment is a decision, or an act of a person.
type Moment struct {
	At   time.Time     `json:"at"`
	What decision.Kind `json:"what"`
	Step string        `json:"step,omitempty"`
	By   string        `json:"by,omitempty"`
	// Sentence says it; Rule is the policy's that applied.
	Sentence string `json:"sentence"`
	Rule     string `json:"rule,omitempty"`
}

// Served is a split and since when it served.
type Served struct {
	At      time.Time      `json:"at"`
	Step    string         `json:"step,omitempty"`
	Weights map[string]int `json:"weights"`
}

// A Fault is a broken guardrail and how fast it was answered. Instants that never came are
// zero.
type Fault struct {
	Guardrail string `json:"guardrail"`
	Step      string `json:"step"`
	Sentence  string `json:"sentence"`
	// Since is the end of the last reading before the evidence began to rise: what broke
	// the limit was served after it.
	Since time.Time `json:"since"`
	// Decided is when the breach was; Asked when the traffic call that put stable back was
	// wanted, and Back when the endpoint showed it.
	Decided time.Time `json:"decided"`
	Asked   time.Time `json:"asked,omitzero"`
	Back    time.Time `json:"back,omitzero"`
	// Paged is when a human was first reached, Acknowledged when one took charge.
	Paged        time.Time `json:"paged,omitzero"`
	Acknowledged time.Time `json:"acknowledged,omitzero"`
	// Excess is how many events of the broken guardrail's kind the candidate had in the
	// step since then beyond what stable's share would have been; Next what the same time
	// at the next step's weight would have cost. Nil where the guardrail does not count, or
	// there is no next step.
	Excess *float64 `json:"excess,omitempty"`
	Next   *float64 `json:"next,omitempty"`
}

// A Cost is what one counting metric counted in one step: events, and the bad ones among
// them.
type Cost struct {
	Metric       string  `json:"metric"`
	Step         string  `json:"step"`
	Candidate    float64 `json:"candidate"`
	CandidateBad float64 `json:"candidateBad"`
	Stable       float64 `json:"stable"`
	StableBad    float64 `json:"stableBad"`
}

// Excess is how many bad events the candidate had beyond stable's share of them; false
// where stable served nothing to compare with.
func (c Cost) Excess() (float64, bool) {
	if c.Stable <= 0 {
		return 0, false
	}
	return max(c.CandidateBad-c.Candidate*c.StableBad/c.Stable, 0), true
}

// Told is one message to one place.
type Told struct {
	Topic    mailbox.Topic `json:"topic"`
	Notifier string        `json:"notifier"`
	Summary  string        `json:"summary"`
	// Wanted is when it was to be sent, Delivered when the notifier took it; zero where it
	// never did.
	Wanted    time.Time `json:"wanted"`
	Delivered time.Time `json:"delivered,omitzero"`
}

// Of makes the report of a plan and its rollout's journal, which is read once.
func Of(p *rollout.Plan, entries iter.Seq2[journal.Entry, error]) (Report, error) {
	w := writer{plan: p, told: map[string]int{}, least: map[string]low{}, step: -1}
	w.out = Report{SchemaVersion: SchemaVersion, Timeline: []Moment{}, Splits: []Served{}, Costs: []Cost{}, Told: []Told{}}
	for entry, err := range entries {
		if err != nil {
			return Report{}, fmt.Errorf("report on %s: %w", p.ID, err)
		}
		for _, ev := range entry.Events {
			w.event(ev)
		}
		if w.out.Head, err = entry.Hash(); err != nil {
			return Report{}, fmt.Errorf("report on %s: entry %d: %w", p.ID, entry.Seq, err)
		}
		w.out.Entries++
	}
	if w.out.Entries == 0 {
		return Report{}, fmt.Errorf("report on %s: %w: its journal is empty", p.ID, rollout.ErrNotFound)
	}
	w.out.Rollout = view.Of(p, w.state)
	w.price()
	return w.out, nil
}

// A writer folds the journal and notes what a report tells.
type writer struct {
	plan  *rollout.Plan
	state rollout.State
	begun bool
	out   Report
	// told is where in out.Told a message stands, by its effect's ID.
	told map[string]int
	// least is, for each guardrail, where in the current step the evidence was least.
	least map[string]low
	// read are the counts of the current step, each reading by itself.
	read []reading
	step int // of read and least
}

// low is the least that the evidence was, and up to when its metric was read then.
type low struct {
	logE float64
	at   time.Time
}

// reading is what one reading counted.
type reading struct {
	at time.Time
	Cost
}

// event folds one event in.
func (w *writer) event(ev rollout.Event) {
	if !w.begun {
		w.state, w.begun = rollout.Start(w.plan, ev.At), true
	}
	before := w.state
	w.state = rollout.Next(w.plan, before, ev)
	if c := w.state.Confirmed; c != nil && (before.Confirmed == nil || !c.Equal(*before.Confirmed)) {
		w.out.Splits = append(w.out.Splits, Served{At: w.state.ConfirmedAt.UTC(), Step: w.stepName(), Weights: c.Weights})
	}
	if ev.Kind == rollout.EventMeasured {
		w.measured(&before, ev)
	}
	if i, ok := w.told[ev.Effect]; ok && ev.Kind == rollout.EventDelivered && w.out.Told[i].Delivered.IsZero() {
		w.out.Told[i].Delivered = ev.At.UTC()
	}
	for _, d := range w.state.Last.Decisions {
		w.decided(ev.At, d)
	}
	w.messages()
	w.answered(&before, ev)
}

// messages notes the messages that are wanted by now.
func (w *writer) messages() {
	for _, e := range w.state.Outbox {
		w.message(e.ID, e.Notifiers, e.Notice)
	}
	for _, m := range w.state.Messages {
		w.message(m.ID, m.Notifiers, m.Notice)
	}
}

func (w *writer) message(id string, to []string, n *mailbox.Notice) {
	if _, noted := w.told[id]; noted || n == nil || len(to) == 0 {
		return
	}
	w.told[id] = len(w.out.Told)
	w.out.Told = append(w.out.Told, Told{Topic: n.Topic, Notifier: to[0], Summary: n.Summary, Wanted: w.state.At.UTC()})
}

// measured notes what readings counted, and how the evidence stands after them.
func (w *writer) measured(before *rollout.State, ev rollout.Event) {
	if before.Reached < 0 {
		return
	}
	if w.step != before.Reached { // evidence begins anew with a step
		w.step, w.read, w.least = before.Reached, nil, map[string]low{}
		for _, g := range w.plan.Panel.Guardrails {
			w.least[g.Name] = low{at: before.StepSince.UTC()}
		}
	}
	for _, r := range ev.Readings {
		i := slices.IndexFunc(w.plan.Panel.Metrics, func(m analysis.Metric) bool { return m.Name == r.Metric })
		if i < 0 || r.Status != analysis.StatusOK || !r.To.After(r.From) {
			continue
		}
		m := &w.plan.Panel.Metrics[i]
		if m.Kind() != analysis.KindCounts || m.Rate() {
			continue
		}
		c := Cost{Metric: m.Name, Step: w.plan.Steps[w.step].Name,
			Candidate: r.Candidate.N, CandidateBad: bad(m, &r.Candidate), Stable: r.Stable.N, StableBad: bad(m, &r.Stable)}
		w.read = append(w.read, reading{at: r.To, Cost: c})
		w.add(c)
	}
	for _, v := range w.state.Verdicts {
		at := w.state.Evidence.Cursors[w.metric(v.Guardrail)].UTC()
		if v.LogE <= w.least[v.Guardrail].logE {
			w.least[v.Guardrail] = low{v.LogE, at}
		}
	}
}

// bad is how many events of a sample were bad.
func bad(m *analysis.Metric, s *analysis.Sample) float64 {
	if m.Counts.Good != "" {
		return s.N - s.K
	}
	return s.K
}

// add adds to the cost of a metric in a step.
func (w *writer) add(c Cost) {
	i := slices.IndexFunc(w.out.Costs, func(x Cost) bool { return x.Metric == c.Metric && x.Step == c.Step })
	if i < 0 {
		w.out.Costs = append(w.out.Costs, c)
		return
	}
	x := &w.out.Costs[i]
	x.Candidate += c.Candidate
	x.CandidateBad += c.CandidateBad
	x.Stable += c.Stable
	x.StableBad += c.StableBad
}

// decided notes a decision, and the fault that it tells of.
func (w *writer) decided(at time.Time, d decision.Decision) {
	w.out.Timeline = append(w.out.Timeline, Moment{At: at.UTC(), What: d.Kind, Step: d.Step, By: d.By,
		Sentence: d.Sentence,
		Rule:     d.Rule})
	if d.Kind != decision.Breach || d.Guardrail == "" || w.out.Fault != nil && !w.out.Fault.Asked.IsZero() {
		return
	}
	w.out.Fault = &Fault{Guardrail: d.Guardrail, Step: d.Step, Sentence: d.Sentence, Since: w.least[d.Guardrail].at,
		Decided: at.UTC()}
	if w.out.Fault.Step == "" && w.step < len(w.plan.Steps) {
		w.out.Fault.Step = w.plan.Steps[w.step].Name
	}
}

// answered notes how the fault was answered.
func (w *writer) answered(before *rollout.State, ev rollout.Event) {
	f := w.out.Fault
	if f == nil {
		return
	}
	at := ev.At.UTC()
	if f.Asked.IsZero() && w.state.Ending != "" && before.Ending == "" {
		f.Asked = at
	}
	if f.Back.IsZero() && w.state.Phase == rollout.PhaseRolledBack && before.Phase != rollout.PhaseRolledBack {
		f.Back = at
	}
	if f.Acknowledged.IsZero() && w.state.Acknowledged() != nil && before.Acknowledged() == nil {
		f.Acknowledged = at
	}
}

// price fills in what can only be said at the end.
func (w *writer) price() {
	f := w.out.Fault
	if f == nil {
		return
	}
	for _, t := range w.out.Told {
		if t.Topic == mailbox.TopicPage && !t.Delivered.IsZero() && (f.Paged.IsZero() || t.Delivered.Before(f.Paged)) {
			f.Paged = t.Delivered
		}
	}
	var c Cost
	for _, r := range w.read {
		if r.Metric == w.metric(f.Guardrail) && r.at.After(f.Since) {
			c.Candidate += r.Candidate
			c.CandidateBad += r.CandidateBad
			c.Stable += r.Stable
			c.StableBad += r.StableBad
		}
	}
	excess, ok := c.Excess()
	if !ok || c.Candidate <= 0 {
		return
	}
	f.Excess = &excess
	i := slices.IndexFunc(w.plan.Steps, func(s rollout.Step) bool { return s.Name == f.Step })
	if i < 0 || i+1 == len(w.plan.Steps) || w.plan.Steps[i].Weight <= 0 {
		return
	}
	next := excess * float64(w.plan.Steps[i+1].Weight) / float64(w.plan.Steps[i].Weight)
	f.Next = &next
}

// metric is the metric of a guardrail.
func (w *writer) metric(guardrail string) string { return w.plan.Panel.MetricOf(guardrail) }

// stepName is the current step's name, "" before the first.
func (w *writer) stepName() string {
	if w.state.Step < 0 || w.state.Step >= len(w.plan.Steps) {
		return ""
	}
	return w.plan.Steps[w.state.Step].Name
}
