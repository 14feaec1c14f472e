package pagerduty

import (
	"encoding/json"
	"maps"
	"net/url"
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
	if n.Resolve {
		e.EventAction = "resolve"
		return e
	}
	r := n.Rollout
	summary, class := n.Summary, r.Reason
	if n.Topic == notifier.TopicTest {
		summary, class = "[TEST] "+summary, "test"
	}
	e.Payload = &payload{
		Summary: line(summary, r), Source: source(r), Severity: severity(n.Severity), Timestamp: timestamp(n.At),
		Component: text(r.Candidate, maxField), Group: text(r.Policy, maxField), Class: text(class, maxField),
		CustomDetails: detailsOf(n),
	}
	e.Links, e.Client = links(r), "Belay"
	if webAddress(r.URL) {
		e.ClientURL = r.URL
	}
	return e
}

func (c *Client) change(n notifier.Notice) changeEvent {
	return changeEvent{
		RoutingKey: c.key,
		Payload: changePayload{
			Summary: line(n.Summary, n.Rollout), Source: source(n.Rollout), Timestamp: timestamp(n.At), CustomDetails: detailsOf(n),
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
		Sentence: text(r.Sentence, maxText), BelayRollback: block(r.BelayRollback), ManualRollback: block(r.ManualRollback),
		Runbook: text(r.Runbook, maxText), Rollout: text(r.ID, maxField), Phase: text(r.Phase, maxField), Reason: text(r.Reason, maxField),
		Step: text(r.Step, maxField), WaitingFor: text(r.WaitingFor, maxText), Endpoint: text(r.Endpoint, maxField), Router: text(r.Router, maxField),
		Stable: text(r.Stable, maxField), Candidate: text(r.Candidate, maxField), Version: text(r.Version, maxText),
		Policy: text(r.Policy, maxField), Owner: text(r.Owner, maxField), Requester: text(r.Requester, maxField), OnBehalfOf: text(r.OnBehalfOf, maxField),
		Key: text(n.Key, maxText),
	}
	for _, g := range r.Guardrails[:min(len(r.Guardrails), maxListed)] {
		d.Guardrails = append(d.Guardrails, text(g.Name+": "+g.Verdict+"; "+g.Sentence, maxText))
	}
	for _, k := range slices.Sorted(maps.Keys(r.Weights))[:min(len(r.Weights), maxListed)] {
		if d.Weights == nil {
			d.Weights = map[string]int{}
		}
		d.Weights[text(k, maxField)] = r.Weights[k]
	}
	for _, k := range slices.Sorted(maps.Keys(r.Labels))[:min(len(r.Labels), maxListed)] {
		if d.Labels == nil {
			d.Labels = map[string]string{}
		}
		d.Labels[text(k, maxField)] = text(r.Labels[k], maxText)
	}
	return d
}

// links lead to the rollout and to its runbook, where these are addresses.
func links(r notifier.Rollout) []link {
	var ls []link
	if webAddress(r.Runbook) {
		ls = append(ls, link{Href: r.Runbook, Text: "Runbook"})
	}
	if webAddress(r.URL) {
		ls = append(ls, link{Href: r.URL, Text: "Rollout " + text(r.ID, maxField)})
	}
	return ls
}

func webAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && len(s) <= maxText
}

// line is the summary, which PagerDuty requires.
func line(summary string, r notifier.Rollout) string {
	if s := text(summary, maxSummary); s != "" {
		return s
	}
	return text("rollout "+r.ID+" of "+r.Endpoint+": "+r.Phase, maxSummary)
}

// source is what is affected, which PagerDuty requires.
func source(r notifier.Rollout) string {
	s := text(strings.Trim(r.Router+"/"+r.Endpoint, "/"), maxField)
	if s == "" {
		return "belay"
	}
	return s
}

func severity(s notifier.Severity) string {
	switch s {
	case notifier.SeverityCritical, notifier.SeverityError, notifier.SeverityWarning, notifier.SeverityInfo:
		return string(s)
	default:
		return string(notifier.SeverityError)
	}
}

func timestamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// text is s on one line, valid and at most n characters long.
func text(s string, n int) string {
	return notifier.Truncate(strings.Join(strings.Fields(strings.Map(printable, strings.ToValidUTF8(s, "?"))), " "), n)
}

// block is s with its lines, as a command needs them; it is bounded.
func block(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return printable(r)
	}, strings.ToValidUTF8(s, "?"))
	return notifier.Truncate(strings.TrimSpace(s), maxText)
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
