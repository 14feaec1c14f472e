package slack

import (
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"time"

	"github.com/slack-go/slack"

	"github.com/belayd/belay/notifier"
)

// defaults are the first section of each message, in Slack's mrkdwn. Templates in
// the configuration override them by these names; evidence, rules and buttons
// follow in any case.
var defaults = map[string]string{
	"status": `*{{.Rollout.Candidate}} {{.Rollout.Version}}* on {{code .Rollout.Endpoint}}: *{{.Rollout.Phase}}*{{with .Rollout.Step}}, step {{.}}{{end}}
{{.Rollout.Sentence}}`,
	"thread":   `{{icon .Severity}}{{.Summary}}`,
	"page":     `:rotating_light: *{{.Summary}}*` + "\n" + `{{.Rollout.Sentence}}`,
	"resolved": `:white_check_mark: *Over:* {{.Summary}}`,
	"test":     `*Test.* Nothing is wrong and nothing needs to be done.` + "\n" + `{{.Summary}}`,
	"ask": `*{{.Rollout.Candidate}} {{.Rollout.Version}}* has *{{.Question.Before}}* of {{code .Rollout.Endpoint}} and asks for *{{.Question.After}}* (step {{.Question.Step}}).
Released by {{mention .Rollout.Requester}}{{with .Rollout.OnBehalfOf}} on behalf of {{mention .}}{{end}}.{{with .Question.RequestsPerHour}} It would serve about *{{count .}} requests an hour*.{{end}}
{{.Rollout.Sentence}}`,
	"approved": `:white_check_mark: *Approved:* {{.Rollout.Candidate}} {{.Rollout.Version}} may go from {{.Question.Before}} to {{.Question.After}} of {{code .Rollout.Endpoint}}.`,
	"rejected": `:no_entry: *Rejected:* {{.Rollout.Candidate}} {{.Rollout.Version}} does not go from {{.Question.Before}} to {{.Question.After}} of {{code .Rollout.Endpoint}}; its traffic goes back to {{.Rollout.Stable}}.`,
	"expired":  `:hourglass: *Expired:* nobody decided by {{date .Question.Expires}} about {{.Question.Before}} to {{.Question.After}} of {{code .Rollout.Endpoint}}. What follows: *{{.Question.OnExpiry}}*.`,
	"void": `:warning: *Void:* the evidence changed after this was asked; answers to it do not count any more. It is asked again when the guardrails allow.
{{.Rollout.Sentence}}`,
}

// The lengths that Slack takes, in characters, and how much of one value is shown.
const (
	maxHeader  = 150
	maxSection = 3000
	maxContext = 2000
	maxConfirm = 300
	maxValue   = 400
)

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// clean is a value as a message may show it: bounded, and without anything that
// Slack would read as a mention, a link or an entity.
func clean(s string) string { return escaper.Replace(notifier.Lines(s, maxValue)) }

// functions are those of Slack's templates; what they are given is clean.
func functions() template.FuncMap {
	return template.FuncMap{"code": code, "mention": mention, "date": date, "icon": icon, "link": link}
}

// code shows a clean value in a fixed width, whatever marks it holds.
func code(s string) string {
	if s == "" {
		return "–"
	}
	return "`" + strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "`", "'") + "`"
}

// fenced shows clean lines in a fixed width.
func fenced(s string) string { return "```" + strings.ReplaceAll(s, "`", "'") + "```" }

var whoForm = regexp.MustCompile(`^slack:[A-Z0-9]+/([UW][A-Z0-9]+)$`)

// mention names a person: one of the workspace by a mention, others by what they
// are called.
func mention(who string) string {
	if m := whoForm.FindStringSubmatch(who); m != nil {
		return "<@" + m[1] + ">"
	}
	if isUser(who) {
		return "<@" + who + ">"
	}
	if who == "" {
		return "–"
	}
	return who
}

// date shows an instant in the reader's own time zone.
func date(at time.Time) string {
	if at.IsZero() {
		return "–"
	}
	return fmt.Sprintf("<!date^%d^{date_short_pretty} {time}|%s>", at.Unix(), at.UTC().Format("2006-01-02 15:04 UTC"))
}

// icon marks how bad an entry is.
func icon(s notifier.Severity) string {
	switch s {
	case notifier.SeverityCritical:
		return ":red_circle: "
	case notifier.SeverityError:
		return ":large_orange_circle: "
	case notifier.SeverityWarning:
		return ":large_yellow_circle: "
	case notifier.SeverityInfo:
		return ""
	}
	return ""
}

// link makes a link of a clean address, and plain text of anything else.
func link(address, text string) string {
	if !notifier.WebAddress(strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(address)) {
		return text
	}
	return "<" + address + "|" + strings.ReplaceAll(text, "|", "/") + ">"
}

var partial = regexp.MustCompile(`(&[a-z]{0,3}|<[^>]*)$`)

// cut shortens mrkdwn to n characters without leaving half an entity or half a
// link at its end.
func cut(s string, n int) string {
	if len([]rune(s)) <= n {
		return s
	}
	s = string([]rune(s)[:n-1])
	return partial.ReplaceAllString(s, "") + "…"
}

// mrkdwn is a text object that Slack shows as it is: verbatim, so that nothing in
// it becomes a mention or a link but what Belay has marked as one.
func mrkdwn(s string, n int) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.MarkdownType, cut(s, n), false, true)
}

// plain is a text object without any marks.
func plain(s string, n int) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.PlainTextType, notifier.Line(s, n), false, false)
}
