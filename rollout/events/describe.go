package events

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	cloudevent "github.com/cloudevents/sdk-go/v2/event"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/view"
)

// typePrefix begins the types that are Belay's own; the phase follows.
const typePrefix = "belay.rollout."

// Data is what an event says of its rollout: the data of Belay's own events, and
// the customData of CDEvents.
type Data struct {
	SchemaVersion int                 `json:"schemaVersion"`
	Rollout       string              `json:"rollout"`
	Policy        string              `json:"policy"`
	Owner         string              `json:"owner"`
	Endpoint      rollout.EndpointRef `json:"endpoint"`
	Stable        string              `json:"stable,omitempty"`
	Candidate     string              `json:"candidate"`
	Version       string              `json:"version"`
	Artifact      string              `json:"artifact,omitempty"`
	Environment   string              `json:"environment,omitempty"`
	Labels        map[string]string   `json:"labels,omitempty"`
	Requester     string              `json:"requester,omitempty"`
	OnBehalfOf    string              `json:"onBehalfOf,omitempty"`

	// Phase was entered from From at At. Both are the same where a step's weight
	// was read back and the rollout stays held.
	Phase    rollout.Phase   `json:"phase"`
	From     rollout.Phase   `json:"from,omitempty"`
	At       time.Time       `json:"at"`
	Reason   decision.Reason `json:"reason,omitempty"`
	Sentence string          `json:"sentence,omitempty"`
	// By is who ordered or answered, where somebody did.
	By string `json:"by,omitempty"`
	// Step is the step on the ladder; null before the first.
	Step *view.Step `json:"step"`
	// Weights are those last read back, in percent by deployment; null before.
	Weights map[string]int `json:"weights"`
	// Verdicts are what the change rests on; empty where it rests on none.
	Verdicts []Verdict `json:"verdicts,omitempty"`
}

// A Verdict is the picture's guardrail by the names that events have had from the
// first. Figures are in Unit; null when unknown.
type Verdict struct {
	Guardrail string   `json:"guardrail"`
	Outcome   string   `json:"outcome"`
	Candidate *float64 `json:"candidate"`
	Stable    *float64 `json:"stable"`
	Unit      string   `json:"unit,omitempty"`
	Limit     string   `json:"limit"`
	Sentence  string   `json:"sentence"`
}

// An outgoing is an event and the end of the subject that it goes to.
type outgoing struct {
	cloudevent.Event
	subject string
}

// describe makes the CloudEvents of one entry of a journal.
func describe(source string, p *rollout.Plan, entry *journal.Entry) ([]outgoing, error) {
	var out []outgoing
	seen := 0
	for n, change := range entry.Phases {
		upTo := min(max(change.Decisions, seen), len(entry.Decisions))
		data := dataOf(p, change, entry.Decisions[seen:upTo])
		seen = upTo
		id := p.ID + "/" + strconv.Itoa(entry.Seq) + "/" + strconv.Itoa(n)
		e := cloudevent.New()
		e.SetID(id)
		e.SetSource(source)
		e.SetSubject(p.Endpoint.Router + "/" + p.Endpoint.Name)
		e.SetTime(change.At)
		e.SetExtension("partitionkey", p.ID)
		e.SetType(typePrefix + string(change.To))
		var body any = data
		if predicate := predicateOf(p, change); predicate != "" {
			cd := cdEventOf(id, source, predicate, p, change.At, data)
			e.SetType(cd.Context.Type)
			body = cd
		}
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode event %s: %w", id, err)
		}
		if err := e.SetData(cloudevent.ApplicationJSON, b); err != nil {
			return nil, fmt.Errorf("encode event %s: %w", id, err)
		}
		if err := e.Validate(); err != nil {
			return nil, fmt.Errorf("encode event %s: %w", id, err)
		}
		out = append(out, outgoing{e, token(p.Endpoint.Name) + "." + token(string(change.To))})
	}
	return out, nil
}

// dataOf says what a change of phase is, with the decisions that led to it.
func dataOf(p *rollout.Plan, c journal.PhaseChange, ds []decision.Decision) Data {
	d := Data{
		SchemaVersion: 1, Rollout: p.ID, Policy: p.Policy.Name, Owner: p.Policy.Owner, Endpoint: p.Endpoint,
		Stable: c.Stable, Candidate: p.Release.Candidate, Version: p.Release.Version, Artifact: p.Release.Artifact,
		Environment: p.Release.Environment, Labels: p.Release.Labels, Requester: p.Release.Requester.ID,
		OnBehalfOf: p.Release.OnBehalfOf,
		Phase:      c.To, From: c.From, At: c.At.UTC(), Reason: c.Reason, Sentence: c.Sentence,
	}
	for _, s := range p.Steps {
		if c.Step != "" && s.Name == c.Step {
			d.Step = &view.Step{Name: s.Name, Share: s.Share}
		}
	}
	if c.Confirmed != nil {
		d.Weights = c.Confirmed.Weights
	}
	for _, decision := range ds {
		if decision.By != "" {
			d.By = decision.By
		}
		if len(decision.Verdicts) == 0 {
			continue
		}
		d.Verdicts = nil
		for _, v := range decision.Verdicts {
			g := view.Judged(v)
			d.Verdicts = append(d.Verdicts, Verdict{
				Guardrail: g.Name, Outcome: string(g.Verdict), Candidate: g.Candidate, Stable: g.Stable,
				Unit: g.Unit, Limit: g.Limit, Sentence: g.Sentence,
			})
		}
	}
	return d
}

// purl is what CDEvents want of an artifact: a package URL.
var purl = regexp.MustCompile(`^pkg:[A-Za-z][A-Za-z0-9.+-]*/[^\s]+$`)

// predicateOf is what CDEvents call the change; "" where they have no word for it,
// or the release does not say what they need.
func predicateOf(p *rollout.Plan, c journal.PhaseChange) string {
	if !purl.MatchString(p.Release.Artifact) || p.Release.Environment == "" {
		return ""
	}
	switch {
	case c.From == rollout.PhaseRollingBack && (c.To == rollout.PhaseRolledBack || c.To == rollout.PhaseStopped):
		return "rolledback"
	case c.To == rollout.PhasePromoted:
		return "upgraded"
	case !c.Reached || c.Confirmed == nil || c.Confirmed.Weights[p.Release.Candidate] <= 0:
		return ""
	}
	for _, s := range p.Steps {
		if s.Kind() == split.ShareLive {
			if s.Name == c.Step {
				return "deployed"
			}
			break
		}
	}
	return "upgraded"
}
