package notifier

// PlainTexts are the words of messengers that show plain text, by name: a subject and a
// body for each kind of message. A team overrides them by these names. Treat as constant.
var PlainTexts = map[string]string{
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
	"test": `This is a test message of Belay. Nothing is wrong and nothing needs to be done.` +
		"\n\n{{.Summary}}\n",
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

// PlainKind is the name of a notice's body in PlainTexts; its subject's is PlainKind-subject.
func PlainKind(n Notice) string {
	switch {
	case n.Topic == TopicTest:
		return "test"
	case n.Resolve:
		return "resolved"
	case n.Topic == TopicPage && n.Acknowledged != nil:
		return "acknowledged"
	case n.Topic == TopicPage:
		return "page"
	case n.Topic == TopicAsk && n.Question != nil:
		return "ask"
	}
	return "status"
}

// PlainOnce is for messengers whose messages cannot be updated. It is the reference that
// n's message leaves, and whether n has been said already: of a status the beginning and
// the end are said, and what happens in between by its thread's entries; of a test, which
// does not stay open, there is no end.
func PlainOnce(n Notice) (ref string, said bool) {
	switch {
	case n.Topic == TopicStatus && n.Rollout.Over():
		ref = "ended"
	case n.Topic == TopicStatus:
		ref = "begun"
	case n.Topic == TopicTest:
		return n.Key, n.Resolve
	default:
		return n.Key, false
	}
	return ref, n.Ref == ref
}
