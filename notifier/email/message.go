package email

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
)

// defaults are the texts by name: a subject and a body for each kind of mail.
// Templates in the configuration override them by these names.
var defaults = map[string]string{
	"page-subject":         `[Belay PAGE] {{.Summary}}`,
	"acknowledged-subject": `[Belay ACKNOWLEDGED] {{.Summary}}`,
	"resolved-subject":     `[Belay RESOLVED] {{.Summary}}`,
	"status-subject":       `[Belay] {{.Rollout.Endpoint}}: {{.Rollout.Candidate}} {{.Rollout.Version}}`,
	"ask-subject":          `[Belay] {{.Rollout.Endpoint}}: approval {{.Question.Gate}}, {{.Question.Before}} to {{.Question.After}}`,
	"test-subject":         `[Belay TEST] {{.Summary}}`,

	"page": `{{.Summary}}` + "\n" + whatToDo + evidence + about,
	"acknowledged": `{{.Summary}}` + "\n" + `
{{with .Acknowledged}}Acknowledged by {{.Who}} at {{time .When}}{{with .Reason}}: {{.}}{{end}}
{{end}}` + whatToDo + evidence + about,
	"resolved": `{{.Summary}}` + "\n\nThis ends the page; nothing needs to be done.\n" + evidence + about,
	"status":   `{{.Summary}}` + "\n" + sentence + evidence + about,
	"ask":      `{{.Summary}}` + "\n" + question + evidence + about,
	"test":     `This is a test of Belay's mail. Nothing is wrong and nothing needs to be done.` + "\n\n{{.Summary}}\n",
}

// The parts that several bodies are made of.
const (
	sentence = `{{with .Rollout.Sentence}}
{{.}}
{{end}}`
	whatToDo = sentence + `
What to do
{{with .Rollout.Runbook}}  runbook: {{.}}
{{end}}{{with .Rollout.URL}}  look:    {{.}}
{{end}}{{if not .Acknowledged}}{{with .Rollout.BelayAck}}  acknowledge, so that others know that somebody has it:
    {{.}}
{{end}}{{end}}{{with .Rollout.BelayRollback}}  roll back with Belay:
    {{.}}
{{end}}{{with .Rollout.ManualRollback}}  roll back without Belay:
    {{.}}
{{end}}`
	question = `
{{if eq .Question.State "open"}}Should {{.Rollout.Candidate}} {{.Rollout.Version}} go from {{.Question.Before}} to {{.Question.After}}?
{{with .Question.RequestsPerHour}}It would serve about {{count .}} requests an hour.
{{end}}
  approve:
    belay approve {{.Rollout.ID}} --gate {{.Question.Gate}}{{with .Rollout.Server}} --server {{.}}{{end}}
  reject, which rolls back:
    belay reject {{.Rollout.ID}} --gate {{.Question.Gate}} --reason '…'{{with .Rollout.Server}} --server {{.}}{{end}}

Answers needed: {{.Question.Quorum}}{{with .Question.Groups}}, from {{join ", " .}}{{end}}{{with .Question.Users}}, from {{join ", " .}}{{end}}.
Without an answer until {{time .Question.Expires}}: {{.Question.OnExpiry}}.
{{else}}The request is {{.Question.State}}.
{{end}}{{range .Question.Answers}}  {{if .Approve}}yes{{else}}no{{end}} by {{.Who}} at {{time .When}}{{with .Reason}}: {{.}}{{end}}
{{end}}`
	evidence = `{{if .Rollout.Guardrails}}
Guardrails
{{range .Rollout.Guardrails}}  {{.Name}}: {{.Verdict}} (candidate {{.Candidate}}, stable {{.Stable}}, interval {{.Interval}}, limit {{.Limit}}, n {{.N}})
    {{.Sentence}}
{{end}}{{end}}`
	about = `
Rollout
  {{.Rollout.ID}} of policy {{.Rollout.Policy}}, owner {{.Rollout.Owner}}
  {{.Rollout.Router}}/{{.Rollout.Endpoint}}: {{.Rollout.Stable}} to {{.Rollout.Candidate}} {{.Rollout.Version}}
  phase {{.Rollout.Phase}}{{with .Rollout.Step}}, step {{.}}{{end}}{{with .Rollout.Weights}}, confirmed {{weights .}}{{end}}
  asked for by {{.Rollout.Requester}}{{with .Rollout.OnBehalfOf}} on behalf of {{.}}{{end}}
{{with .Rollout.WaitingFor}}  waiting for {{.}}
{{end}}{{with .Rollout.URL}}  {{.}}
{{end}}`
)

// maxText bounds each value in a mail, in characters.
const maxText = 2000

// clean keeps the lines of commands and lets nothing through that a mail program
// would act on; a mail is plain text.
func clean(s string) string { return notifier.Lines(s, maxText) }

// kind is the name of a notice's texts.
func kind(n notifier.Notice) string {
	switch {
	case n.Topic == notifier.TopicTest:
		return "test"
	case n.Resolve:
		return "resolved"
	case n.Topic == notifier.TopicPage && n.Acknowledged != nil:
		return "acknowledged"
	case n.Topic == notifier.TopicPage:
		return "page"
	case n.Topic == notifier.TopicAsk && n.Question != nil:
		return "ask"
	}
	return "status"
}

// message is the mail as it goes over the wire: headers in ASCII, the body in
// quoted-printable UTF-8.
func (c *Client) message(n notifier.Notice) []byte {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	at := n.At
	if at.IsZero() {
		at = time.Now()
	}
	subjectKind := kind(n) + "-subject"
	header("Date", at.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	header("From", c.from.String())
	header("To", addresses(c.to))
	header("Subject", subject(c.words.Text(subjectKind, n)))
	header("Message-ID", c.id("message", n.Key, n.Delivery))
	root := c.id("key", n.Key)
	header("In-Reply-To", root)
	header("References", c.id("rollout", n.Rollout.ID)+"\r\n "+root)
	header("Auto-Submitted", "auto-generated")
	header("X-Belay-Rollout", headerValue(n.Rollout.ID))
	if k := kind(n); k == "page" || k == "test" {
		header("Importance", "high")
		header("X-Priority", "1")
	}
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	q := quotedprintable.NewWriter(&b)
	_, _ = q.Write([]byte(strings.ReplaceAll(c.words.Text(kind(n), n), "\n", "\r\n") + "\r\n"))
	_ = q.Close()
	return b.Bytes()
}

// id makes a message id that is the same for the same parts.
func (c *Client) id(parts ...string) string {
	sum := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(sum, "%d:%s", len(p), p)
	}
	_, domain, _ := strings.Cut(c.from.Address, "@")
	return "<" + hex.EncodeToString(sum.Sum(nil)[:16]) + ".belay@" + domain + ">"
}

// subject folds a subject into encoded words, one header line each.
func subject(s string) string {
	s = notifier.Line(s, 250)
	if s == "" {
		s = "[Belay]"
	}
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", s), "?= =?", "?=\r\n =?")
}

func headerValue(s string) string {
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", notifier.Line(s, 100)), "?= =?", "?=\r\n =?")
}

func addresses(as []*mail.Address) string {
	parts := make([]string, 0, len(as))
	for _, a := range as {
		parts = append(parts, a.String())
	}
	return strings.Join(parts, ",\r\n ")
}
