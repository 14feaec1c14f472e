package alertmanager

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
)

// An alert is one entry of POST /api/v2/alerts.
type alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     string            `json:"startsAt"`
	EndsAt       string            `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// Bounds of a label's and an annotation's value, in characters, and of how many
// labels of a release are shown.
const (
	maxLabel      = 255
	maxAnnotation = 2000
	maxLabels     = 20
)

// defaults are the summaries by the alert's name.
var defaults = map[string]string{
	"page":     `{{.Summary}}`,
	"rollout":  `{{.Summary}}`,
	"approval": `{{.Summary}}`,
	"test":     `[TEST] {{.Summary}}`,
}

// alertname is the alert of a topic; "" where it has none.
func alertname(t notifier.Topic) string {
	switch t {
	case notifier.TopicPage, notifier.TopicTest:
		return "BelayPage"
	case notifier.TopicStatus:
		return "BelayRollout"
	case notifier.TopicAsk:
		return "BelayApproval"
	case notifier.TopicThread:
		return ""
	}
	return ""
}

// severityOf is the severity label of a topic's alert.
func severityOf(t notifier.Topic) notifier.Severity {
	if alertname(t) == "BelayPage" {
		return notifier.SeverityCritical
	}
	return notifier.SeverityInfo
}

// text is the name of the template of a topic's summary.
func text(t notifier.Topic) string {
	if t == notifier.TopicTest {
		return "test"
	}
	return strings.ToLower(strings.TrimPrefix(alertname(t), "Belay"))
}

// alert is what a call posts for n. A page that was opened some time ago starts then:
// an Alertmanager that has restarted tells of it at once.
func (c *Client) alert(n notifier.Notice, now time.Time) alert {
	end := now.Add(c.lasts)
	switch {
	case over(n):
		end = now
	case n.Topic == notifier.TopicTest:
		end = now.Add(notifier.TestLasts)
	}
	start := n.At
	if !n.Since.IsZero() {
		start = n.Since
	}
	if start.IsZero() || start.After(now) {
		start = now
	}
	a := alert{
		Labels: labels(n), Annotations: c.annotations(n),
		StartsAt: start.UTC().Format(time.RFC3339Nano), EndsAt: end.UTC().Format(time.RFC3339Nano),
	}
	if notifier.WebAddress(n.Rollout.URL) {
		a.GeneratorURL = n.Rollout.URL
	}
	return a
}

func labels(n notifier.Notice) map[string]string {
	r := n.Rollout
	ls := map[string]string{
		"alertname": alertname(n.Topic), "severity": string(severityOf(n.Topic)), "belay_key": key(n.Key),
		"rollout": r.ID, "endpoint": r.Endpoint, "router": r.Router, "policy": r.Policy, "owner": r.Owner,
		"candidate": r.Candidate,
	}
	if n.Topic == notifier.TopicTest {
		ls["test"] = "true"
	}
	for k, v := range ls {
		ls[k] = notifier.Line(v, maxLabel)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Labels))[:min(len(r.Labels), maxLabels)] {
		name := labelName(k)
		if _, taken := ls[name]; taken {
			name = labelName("release_" + k)
		}
		if _, taken := ls[name]; !taken {
			ls[name] = notifier.Line(r.Labels[k], maxLabel)
		}
	}
	maps.DeleteFunc(ls, func(_, v string) bool { return v == "" })
	return ls
}

func (c *Client) annotations(n notifier.Notice) map[string]string {
	r := n.Rollout
	as := map[string]string{
		"summary":     notifier.Line(c.words.Text(text(n.Topic), n), maxAnnotation),
		"description": notifier.Line(r.Sentence, maxAnnotation),
		"severity":    notifier.Line(string(n.Severity), maxAnnotation),
		"runbook_url": "", "url": "", "rollback": notifier.Lines(r.BelayRollback, maxAnnotation),
		"manual_rollback": notifier.Lines(r.ManualRollback, maxAnnotation),
		"version":         notifier.Line(r.Version, maxAnnotation), "stable": notifier.Line(r.Stable, maxAnnotation),
		"requester":    notifier.Line(r.Requester, maxAnnotation),
		"on_behalf_of": notifier.Line(r.OnBehalfOf, maxAnnotation), "phase": notifier.Line(r.Phase, maxAnnotation),
		"reason": notifier.Line(r.Reason, maxAnnotation),
		"step":   notifier.Line(r.Step, maxAnnotation), "waiting_for": notifier.Line(r.WaitingFor, maxAnnotation),
		"weights": notifier.Line(notifier.Weights(r.Weights), maxAnnotation), "guardrails": guardrails(r.Guardrails),
	}
	if a := n.Acknowledged; a != nil {
		as["acknowledged_by"] = notifier.Line(strings.TrimSuffix(fmt.Sprintf("%s at %s: %s", a.Who,
			a.When.UTC().Format("2006-01-02 15:04 UTC"), a.Reason), ": "), maxAnnotation)
	} else {
		as["acknowledge"] = notifier.Line(r.BelayAck, maxAnnotation)
	}
	if notifier.WebAddress(r.Runbook) {
		as["runbook_url"] = r.Runbook
	}
	if notifier.WebAddress(r.URL) {
		as["url"] = r.URL
	}
	maps.DeleteFunc(as, func(_, v string) bool { return v == "" })
	return as
}

func guardrails(gs []notifier.Guardrail) string {
	var b strings.Builder
	for _, g := range gs {
		fmt.Fprintf(&b, "%s: %s; %s\n", notifier.Line(g.Name, maxLabel), notifier.Line(g.Progress(), maxLabel),
			notifier.Line(g.Sentence, maxAnnotation))
	}
	return notifier.Truncate(strings.TrimSpace(b.String()), maxAnnotation)
}

// labelName makes a name that Prometheus takes: letters, digits and underscores,
// no digit first, and not one of the reserved names with two underscores.
func labelName(s string) string {
	name := strings.TrimLeft(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s), "_")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "release_" + name
	}
	return name[:min(len(name), maxLabel)]
}

// key is the notice's key, or a digest of one that is too long or that a label
// would alter.
func key(k string) string {
	if s := notifier.Line(k, maxLabel); s == k && s != "" {
		return s
	}
	sum := sha256.Sum256([]byte(k))
	return hex.EncodeToString(sum[:])
}
