package slack

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/slack-go/slack"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/approval"
)

// The actions of the buttons of a request and of a page.
const (
	actionApprove = "belay_approve"
	actionReject  = "belay_reject"
	actionHold    = "belay_hold"
	actionAck     = "belay_ack"
)

// maxGuardrails is how many are shown; a message takes fifty blocks.
const maxGuardrails = 20

// message renders n.
func (c *Client) message(n notifier.Notice) (message, error) {
	m := message{text: cut(clean(orElse(n.Summary, "rollout "+n.Rollout.ID+" of "+n.Rollout.Endpoint)), maxSection)}
	var err error
	if m.channel, err = c.channel(n); err != nil {
		return m, err
	}
	switch n.Topic {
	case notifier.TopicStatus:
		m.blocks = c.status(n)
	case notifier.TopicThread:
		m.blocks = []slack.Block{section(c.words.Text("thread", n))}
		if channel, ts, ok := parseRef(n.ThreadRef); ok {
			m.channel, m.thread = channel, ts
		}
	case notifier.TopicAsk:
		if n.Question == nil {
			return m, fmt.Errorf("%w: an approval request without its question", notifier.ErrPermanent)
		}
		m.chart = n.Question.State == "open"
		m.blocks, err = c.ask(n)
	case notifier.TopicPage:
		m.chart = !n.Resolve
		m.blocks = c.page(n)
	case notifier.TopicTest:
		m.blocks = []slack.Block{section(c.called(n, "test"))}
	}
	if m.blocks == nil && err == nil {
		return m, fmt.Errorf("%w: unknown topic %q", notifier.ErrPermanent, n.Topic)
	}
	return m, err
}

func (c *Client) status(n notifier.Notice) []slack.Block {
	blocks := []slack.Block{
		header(n.Rollout.Endpoint + ": " + n.Rollout.Candidate + " " + n.Rollout.Version),
		section(c.words.Text("status", n)),
		fields(n.Rollout),
	}
	blocks = append(blocks, checks(n.Rollout.Checks)...)
	blocks = append(blocks, evidence("Guardrails", n.Rollout)...)
	if !n.Rollout.Over() {
		blocks = append(blocks, wayBack(n.Rollout)...)
	}
	return append(blocks, about(n))
}

func (c *Client) page(n notifier.Notice) []slack.Block {
	if n.Resolve {
		return []slack.Block{section(c.words.Text("resolved", n)), about(n)}
	}
	blocks := []slack.Block{section(c.called(n, "page"))}
	if b := charge(n); b != nil {
		blocks = append(blocks, b)
	}
	blocks = append(blocks, fields(n.Rollout))
	if notifier.WebAddress(n.Rollout.Runbook) {
		blocks = append(blocks, section("*Runbook:* "+link(clean(n.Rollout.Runbook), clean(n.Rollout.Runbook))))
	}
	blocks = append(blocks, wayBack(n.Rollout)...)
	blocks = append(blocks, evidence("Guardrails", n.Rollout)...)
	return append(blocks, about(n))
}

// called are the words of an open page or test, before whom it calls.
func (c *Client) called(n notifier.Notice, words string) string {
	text, m := c.words.Text(words, n), c.config.PageMention
	switch {
	case n.Resolve:
		return text
	case m == "here":
		return "<!here> " + text
	case isUser(m):
		return "<@" + m + "> " + text
	case isGroup(m):
		return "<!subteam^" + m + "> " + text
	}
	return text
}

// charge says who has taken charge of a page, or has the button for it; nil where
// the page is no rollout's.
func charge(n notifier.Notice) slack.Block {
	if a := n.Acknowledged; a != nil {
		text := fmt.Sprintf(":raised_hand: *Acknowledged* by %s, %s", mention(clean(a.Who)), date(a.When))
		if a.Reason != "" {
			text += ": " + clean(notifier.Line(a.Reason, maxValue))
		}
		return section(text)
	}
	encoded, err := json.Marshal(value{Rollout: n.Rollout.ID, Nonce: n.Key})
	if n.Rollout.BelayAck == "" || err != nil || len(encoded) > 2000 {
		return nil
	}
	return slack.NewActionBlock("belay_buttons",
		slack.NewButtonBlockElement(actionAck, string(encoded), plain("Acknowledge", 75)).WithStyle(slack.StylePrimary))
}

func (c *Client) ask(n notifier.Notice) ([]slack.Block, error) {
	q, r := n.Question, n.Rollout
	change := q.Before() + " → " + q.After()
	if q.State != approval.Open {
		ended := []approval.QuestionState{approval.Approved, approval.Rejected, approval.Expired, approval.Void}
		if !slices.Contains(ended, q.State) {
			return nil, fmt.Errorf("%w: unknown state %q of a question", notifier.ErrPermanent, q.State)
		}
		blocks := []slack.Block{header(fmt.Sprintf("%s: %s (%s)", r.Endpoint, change, q.State)),
			section(c.words.Text(string(q.State), n))}
		if len(q.Answers) > 0 {
			blocks = append(blocks, section(answers(q)))
		}
		blocks = append(blocks, evidence("Guardrails at this point", r)...)
		return append(blocks, about(n)), nil
	}
	blocks := []slack.Block{header(fmt.Sprintf("%s: %s?", r.Endpoint, change)), section(c.words.Text("ask", n))}
	blocks = append(blocks, checks(r.Checks)...)
	blocks = append(blocks, evidence("The evidence", r)...)
	blocks = append(blocks, section(outcomes(n)), section(who(q)))
	buttons, err := buttons(n)
	if err != nil {
		return nil, err
	}
	blocks = append(blocks, buttons)
	blocks = append(blocks, wayBack(r)...)
	return append(blocks, about(n)), nil
}

// outcomes says what each answer leads to.
func outcomes(n notifier.Notice) string {
	q, r := n.Question, n.Rollout
	return fmt.Sprintf("*What happens*\n*Approve:* step %s begins, %s gets %s.\n*Reject:* all traffic goes back to "+
		"%s and the rollout ends.\n*Hold:* nothing moves until somebody resumes.\n*No answer until %s:* %s.",
		clean(q.Step), clean(r.Candidate), q.After(), clean(orElse(r.Stable,
			"the stable deployment")), date(q.Expires), clean(orElse(string(q.OnExpiry), "hold")))
}

// who says who may answer, how many must, and who has.
func who(q *notifier.Question) string {
	var names []string
	for _, g := range q.Groups {
		if isGroup(g) {
			names = append(names, "<!subteam^"+g+">")
		} else {
			names = append(names, "the group "+clean(g))
		}
	}
	for _, u := range q.Users {
		names = append(names, mention(clean(u)))
	}
	if len(names) == 0 {
		names = []string{"nobody: the policy names no approver"}
	}
	need := "one yes"
	if q.Quorum > 1 {
		need = fmt.Sprintf("%d people's yes", q.Quorum)
	}
	text := fmt.Sprintf("*%s* needs %s. May answer: %s.", clean(q.Gate), need, strings.Join(names, ", "))
	if len(q.Answers) > 0 {
		text += "\n" + answers(q)
	}
	return text
}

// answers are the answers given: who, what, when, why.
func answers(q *notifier.Question) string {
	var lines []string
	for _, a := range q.Answers {
		verb := ":x: No"
		if a.Approve {
			verb = ":white_check_mark: Yes"
		}
		line := fmt.Sprintf("%s by %s, %s", verb, mention(clean(a.Who)), date(a.When))
		if a.Reason != "" {
			line += ": " + clean(notifier.Line(a.Reason, maxValue))
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// A button's value says which asking it answers; it is no state.
type value struct {
	Rollout string `json:"r"`
	Gate    string `json:"g"`
	Nonce   string `json:"n"`
}

func buttons(n notifier.Notice) (slack.Block, error) {
	encoded, err := json.Marshal(value{n.Rollout.ID, n.Question.Gate, n.Question.Nonce})
	if err != nil || len(encoded) > 2000 {
		return nil, fmt.Errorf("%w: the rollout's id, the gate and the nonce do not fit a button", notifier.ErrPermanent)
	}
	confirm := slack.NewConfirmationBlockObject(
		plain("Approve?", 100),
		plain(fmt.Sprintf("%s gets %s of %s (it has %s).", n.Rollout.Candidate, n.Question.After(), n.Rollout.Endpoint,
			n.Question.Before()), maxConfirm),
		plain("Approve", 30), plain("Not yet", 30),
	)
	return slack.NewActionBlock("belay_buttons",
		slack.NewButtonBlockElement(actionApprove, string(encoded),
			plain("Approve", 75)).WithStyle(slack.StylePrimary).WithConfirm(confirm),
		slack.NewButtonBlockElement(actionReject, string(encoded),
			plain("Reject and roll back", 75)).WithStyle(slack.StyleDanger),
		slack.NewButtonBlockElement(actionHold, string(encoded), plain("Hold", 75)),
	), nil
}

// evidence is a line or two for each guardrail, in as few sections as they fit.
func evidence(title string, r notifier.Rollout) []slack.Block {
	gs := r.Guardrails
	if len(gs) == 0 {
		return nil
	}
	var blocks []slack.Block
	text := "*" + title + "*"
	if !r.AsOf.IsZero() {
		text += " as of " + date(r.AsOf)
	}
	for i, g := range gs {
		line := guardrail(g)
		if i == maxGuardrails {
			line = fmt.Sprintf("… and %d more.", len(gs)-i)
		}
		if len([]rune(text))+1+len([]rune(line)) > maxSection {
			blocks = append(blocks, section(text))
			text = line
		} else {
			text += "\n" + line
		}
		if i == maxGuardrails {
			break
		}
	}
	return append(blocks, section(text))
}

// maxChecks bounds the checks that a message lists.
const maxChecks = 20

// checks lists what preflight found: what passed on one line, what failed with its
// remedy.
func checks(cs []notifier.Check) []slack.Block {
	var passed, lines []string
	for i, c := range cs {
		name := clean(notifier.Line(c.Name, 80))
		switch {
		case i == maxChecks:
			lines = append(lines, fmt.Sprintf("… and %d more.", len(cs)-i))
		case i > maxChecks:
		case c.OK:
			passed = append(passed, name)
		default:
			lines = append(lines, strings.TrimSpace(fmt.Sprintf(":x: *%s:* found %s, expected %s. %s", name,
				clean(notifier.Line(c.Found, 150)), clean(notifier.Line(c.Expected, 150)), clean(notifier.Line(c.Remedy, 200)))))
		}
	}
	if len(passed) > 0 {
		lines = append([]string{":white_check_mark: " + strings.Join(passed, ", ")}, lines...)
	}
	if len(lines) == 0 {
		return nil
	}
	return []slack.Block{section(cut("*Checks before any traffic moves*\n"+strings.Join(lines, "\n"), maxSection))}
}

func guardrail(g notifier.Guardrail) string {
	short := func(s string) string { return clean(notifier.Line(orElse(s, "–"), 80)) }
	return fmt.Sprintf("%s *%s* %s: %s, stable %s, interval %s, limit %s, n %s\n      %s",
		mark(g.Verdict), short(g.Name), short(g.Progress()), short(g.Candidate), short(g.Stable),
		short(g.Interval), code(short(g.Limit)), short(g.N),
		clean(notifier.Line(orElse(g.Sentence, "–"), maxValue)))
}

// mark is the picture of a verdict; the word stands beside it.
func mark(verdict analysis.Outcome) string {
	switch verdict {
	case analysis.OutcomePass:
		return ":white_check_mark:"
	case analysis.OutcomeBreach:
		return ":x:"
	case analysis.OutcomeUndecided:
		return ":hourglass_flowing_sand:"
	case analysis.OutcomeNoData:
		return ":grey_question:"
	case analysis.OutcomeResting:
		return ":zzz:"
	case analysis.OutcomeError:
	}
	return ":warning:"
}

func fields(r notifier.Rollout) slack.Block {
	var fs []*slack.TextBlockObject
	add := func(name, v string) {
		if v != "" {
			fs = append(fs, mrkdwn("*"+name+"*\n"+v, 2000))
		}
	}
	add("Traffic", clean(notifier.Weights(r.Weights)))
	add("Waiting for", clean(r.WaitingFor))
	add("Released by", mention(clean(r.Requester)))
	add("On behalf of", clean(r.OnBehalfOf))
	add("Stable", clean(r.Stable))
	add("Started", date(r.Started))
	return slack.NewSectionBlock(nil, fs, nil)
}

// wayBack are the commands that roll back, with Belay and without.
func wayBack(r notifier.Rollout) []slack.Block {
	var text string
	if r.BelayRollback != "" {
		text += "*Roll back:* " + code(clean(r.BelayRollback)) + "\n"
	}
	if r.ManualRollback != "" {
		text += "*Without Belay:*\n" + fenced(clean(r.ManualRollback))
	}
	if text == "" {
		return nil
	}
	return []slack.Block{section(strings.TrimSpace(text))}
}

func about(n notifier.Notice) slack.Block {
	r := n.Rollout
	text := fmt.Sprintf("Rollout %s · policy %s · owner %s · %s", code(clean(r.ID)), clean(r.Policy), clean(r.Owner),
		date(n.At))
	if notifier.WebAddress(r.URL) {
		text += " · " + link(clean(r.URL), "open in Belay")
	}
	return slack.NewContextBlock("", mrkdwn(text, maxContext))
}

func header(s string) slack.Block {
	return slack.NewHeaderBlock(plain(orElse(notifier.Line(s, maxHeader), "Belay"), maxHeader))
}

func section(s string) slack.Block {
	return slack.NewSectionBlock(mrkdwn(orElse(s, "–"), maxSection), nil, nil)
}

func orElse(s, t string) string {
	if s != "" {
		return s
	}
	return t
}
