package pagerduty

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
)

// An alertEvent is the body of POST /v2/enqueue.
type alertEvent struct {
	RoutingKey  string   `json:"routing_key"`
	EventAction string   `json:"event_action"`
	DedupKey    string   `json:"dedup_key"`
	Payload     *payload `json:"payload,omitempty"`
	Links       []link   `json:"links,omitempty"`
	Client      string   `json:"client,omitempty"`
	ClientURL   string   `json:"client_url,omitempty"`
}

// A changeEvent is the body of POST /v2/change/enqueue.
type changeEvent struct {
	RoutingKey string        `json:"routing_key"`
	Payload    changePayload `json:"payload"`
	Links      []link        `json:"links,omitempty"`
}

type payload struct {
	Summary       string   `json:"summary"`
	Source        string   `json:"source"`
	Severity      string   `json:"severity"`
	Timestamp     string   `json:"timestamp,omitempty"`
	Component     string   `json:"component,omitempty"`
	Group         string   `json:"group,omitempty"`
	Class         string   `json:"class,omitempty"`
	CustomDetails *details `json:"custom_details,omitempty"`
}

type changePayload struct {
	Summary       string   `json:"summary"`
	Source        string   `json:"source"`
	Timestamp     string   `json:"timestamp,omitempty"`
	CustomDetails *details `json:"custom_details,omitempty"`
}

type link struct {
	Href string `json:"href"`
	Text string `json:"text"`
}

// details are what a responder reads, what to do first.
type details struct {
	Sentence       string            `json:"what_happened,omitempty"`
	BelayRollback  string            `json:"roll_back_with_belay,omitempty"`
	ManualRollback string            `json:"roll_back_by_hand,omitempty"`
	Runbook        string            `json:"runbook,omitempty"`
	Rollout        string            `json:"rollout,omitempty"`
	Phase          string            `json:"phase,omitempty"`
	Reason         string            `json:"reason,omitempty"`
	Step           string            `json:"step,omitempty"`
	WaitingFor     string            `json:"waiting_for,omitempty"`
	Weights        map[string]int    `json:"confirmed_weights,omitempty"`
	Guardrails     []string          `json:"guardrails,omitempty"`
	Endpoint       string            `json:"endpoint,omitempty"`
	Router         string            `json:"router,omitempty"`
	Stable         string            `json:"stable,omitempty"`
	Candidate      string            `json:"candidate,omitempty"`
	Version        string            `json:"version,omitempty"`
	Policy         string            `json:"policy,omitempty"`
	Owner          string            `json:"owner,omitempty"`
	Requester      string            `json:"requester,omitempty"`
	OnBehalfOf     string            `json:"on_behalf_of,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Key            string            `json:"belay_key,omitempty"`
}

// Bounds that keep an event far below its limit, whatever a rollout holds.
const (
	maxText   = 2000
	maxField  = 255
	maxListed = 50
)

func (c *Client) alert(n notifier.Notice) alertEvent {
	e := alertEvent{RoutingKey: c.key, EventAction: "trigger", DedupKey: dedupKey(n.Key)}
	switch {
	case n.Resolve:
		e.EventAction = "resolve"
		return e
	case n.Acknowledged != nil:
		e.EventAction = "acknowledge"
		return e
	}
	r := n.Rollout
	name, class := "page", r.Reason
	if n.Topic == notifier.TopicTest {
		name, class = "test", "test"
	}
	e.Payload = &payload{
		Summary: line(c.words.Text(name, n), r), Source: source(r), Severity: severity(n.Severity),
		Timestamp: timestamp(n.At),
		Component: notifier.Line(r.Candidate, maxField), Group: notifier.Line(r.Policy, maxField),
		Class:         notifier.Line(class, maxField),
		CustomDetails: detailsOf(n),
	}
	e.Links, e.Client = links(r), "Belay"
	if notifier.WebAddress(r.URL) {
		e.ClientURL = r.URL
	}
	return e
}

func (c *Client) change(n notifier.Notice) changeEvent {
	return changeEvent{
		RoutingKey: c.key,
		Payload: changePayload{
			Summary: line(c.words.Text("change", n), n.Rollout), Source: source(n.Rollout), Timestamp: timestamp(n.At),
			CustomDetails: detailsOf(n),
		},
		Links: links(n.Rollout),
	}
}

// encode keeps to the limit of an event: what does not fit is left out, the
// evidence first, what to do last.
func (e alertEvent) encode() ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil || len(body) <= maxEvent || e.Payload == nil {
		return body, err
	}
	p := *e.Payload
	p.CustomDetails = p.CustomDetails.essential()
	e.Payload = &p
	return json.Marshal(e)
}

func (e changeEvent) encode() ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil || len(body) <= maxEvent {
		return body, err
	}
	e.Payload.CustomDetails = e.Payload.CustomDetails.essential()
	return json.Marshal(e)
}

func (d *details) essential() *details {
	e := *d
	e.Guardrails, e.Labels, e.Weights = nil, nil, nil
	return &e
}

func detailsOf(n notifier.Notice) *details {
	r := n.Rollout
	d := &details{
		Sentence: notifier.Line(r.Sentence, maxText), BelayRollback: notifier.Lines(r.BelayRollback, maxText),
		ManualRollback: notifier.Lines(r.ManualRollback, maxText),
		Runbook:        notifier.Line(r.Runbook, maxText), Rollout: notifier.Line(r.ID, maxField),
		Phase: notifier.Line(r.Phase, maxField), Reason: notifier.Line(r.Reason, maxField),
		Step: notifier.Line(r.Step, maxField), WaitingFor: notifier.Line(r.WaitingFor, maxText),
		Endpoint: notifier.Line(r.Endpoint, maxField), Router: notifier.Line(r.Router, maxField),
		Stable: notifier.Line(r.Stable, maxField), Candidate: notifier.Line(r.Candidate, maxField),
		Version: notifier.Line(r.Version, maxText),
		Policy:  notifier.Line(r.Policy, maxField), Owner: notifier.Line(r.Owner, maxField),
		Requester: notifier.Line(r.Requester, maxField), OnBehalfOf: notifier.Line(r.OnBehalfOf, maxField),
		Key: notifier.Line(n.Key, maxText),
	}
	for _, g := range r.Guardrails[:min(len(r.Guardrails), maxListed)] {
		d.Guardrails = append(d.Guardrails, notifier.Line(g.Name+": "+g.Progress()+"; "+g.Sentence, maxText))
	}
	for _, k := range slices.Sorted(maps.Keys(r.Weights))[:min(len(r.Weights), maxListed)] {
		if d.Weights == nil {
			d.Weights = map[string]int{}
		}
		d.Weights[notifier.Line(k, maxField)] = r.Weights[k]
	}
	for _, k := range slices.Sorted(maps.Keys(r.Labels))[:min(len(r.Labels), maxListed)] {
		if d.Labels == nil {
			d.Labels = map[string]string{}
		}
		d.Labels[notifier.Line(k, maxField)] = notifier.Line(r.Labels[k], maxText)
	}
	return d
}

// links lead to the rollout and to its runbook, where these are addresses.
func links(r notifier.Rollout) []link {
	var ls []link
	if notifier.WebAddress(r.Runbook) {
		ls = append(ls, link{Href: r.Runbook, Text: "Runbook"})
	}
	if notifier.WebAddress(r.URL) {
		ls = append(ls, link{Href: r.URL, Text: "Rollout " + notifier.Line(r.ID, maxField)})
	}
	return ls
}

// line is the summary, which PagerDuty requires.
func line(summary string, r notifier.Rollout) string {
	if s := notifier.Line(summary, maxSummary); s != "" {
		return s
	}
	return notifier.Line("rollout "+r.ID+" of "+r.Endpoint+": "+r.Phase, maxSummary)
}

// source is what is affected, which PagerDuty requires.
func source(r notifier.Rollout) string {
	s := notifier.Line(strings.Trim(r.Router+"/"+r.Endpoint, "/"), maxField)
	if s == "" {
		return "belay"
	}
	return s
}

func severity(s notifier.Severity) string {
	switch s {
	case notifier.SeverityCritical, notifier.SeverityError, notifier.SeverityWarning, notifier.SeverityInfo:
		return string(s)
	}
	return string(notifier.SeverityError)
}

func timestamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}
