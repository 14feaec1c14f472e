package chat

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/belayd/belay/notifier"
)

// A message is what every service shows in its own form.
type message struct {
	subject string
	body    string
	link    string
	// urgent: somebody has to look now.
	urgent bool
}

// The limits of the services, in characters where nothing else is said.
const (
	maxCardBytes    = 27 << 10 // of about 28 KB that Teams takes
	maxDiscordTitle = 256
	maxDiscordBody  = 4000 // of 4,096, less the fence
	maxSNSSubject   = 99   // fewer than 100
	maxSNSBody      = 60000
)

// encode is the body of the request, and its type.
func (c *Client) encode(m message) (contentType, body string) {
	switch c.service {
	case Teams:
		lines := strings.Split(m.body, "\n")
		body = encodeJSON(card(m, lines))
		for len(body) > maxCardBytes && len(lines) > 1 {
			lines = append(lines[:(len(lines)-1)*3/4], "…")
			body = encodeJSON(card(m, lines))
		}
	case Discord:
		body = encodeJSON(embed(m))
	case SNS:
		return "application/x-www-form-urlencoded; charset=utf-8", c.publish(m)
	}
	return "application/json", body
}

func encodeJSON(doc any) string {
	text, err := json.Marshal(doc)
	if err != nil {
		panic("encode a message of texts: " + err.Error()) // unreachable: it holds texts and numbers alone
	}
	return string(text)
}

// A run is a piece of text that a card shows as it is: no markup in it is read.
type run struct {
	Type   string `json:"type"`
	Text   string `json:"text"`
	Weight string `json:"weight,omitempty"`
	Size   string `json:"size,omitempty"`
	Color  string `json:"color,omitempty"`
}

type block struct {
	Type    string `json:"type"`
	Inlines []run  `json:"inlines"`
	Spacing string `json:"spacing,omitempty"`
}

type action struct {
	Type  string `json:"type"`
	Title string `json:"title"`
	URL   string `json:"url"`
}

type adaptiveCard struct {
	Schema  string            `json:"$schema"`
	Type    string            `json:"type"`
	Version string            `json:"version"`
	Body    []block           `json:"body"`
	Actions []action          `json:"actions,omitempty"`
	MSTeams map[string]string `json:"msteams"`
}

type attachment struct {
	ContentType string       `json:"contentType"`
	Content     adaptiveCard `json:"content"`
}

type teamsMessage struct {
	Type        string       `json:"type"`
	Attachments []attachment `json:"attachments"`
}

// card is the message of Teams. Its lines are text runs and not text blocks, because
// blocks read Markdown and a label may hold a link.
func card(m message, lines []string) teamsMessage {
	title := run{Type: "TextRun", Text: m.subject, Weight: "Bolder", Size: "Medium"}
	if m.urgent {
		title.Color = "Attention"
	}
	blocks := []block{{Type: "RichTextBlock", Inlines: []run{title}}}
	for _, l := range lines {
		if strings.TrimSpace(l) == "" {
			continue
		}
		// Leading blanks would be eaten: a card that indents needs blanks that do not break.
		indent := len(l) - len(strings.TrimLeft(l, " "))
		l = strings.Repeat("\u00a0", indent) + l[indent:]
		blocks = append(blocks, block{Type: "RichTextBlock", Spacing: "None",
			Inlines: []run{{Type: "TextRun", Text: l}}})
	}

	a := adaptiveCard{
		Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.4",
		Body: blocks, MSTeams: map[string]string{"width": "Full"},
	}
	if notifier.WebAddress(m.link) {
		a.Actions = []action{{Type: "Action.OpenUrl", Title: "Open in Belay", URL: m.link}}
	}
	return teamsMessage{Type: "message", Attachments: []attachment{{"application/vnd.microsoft.card.adaptive", a}}}
}

type discordEmbed struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	URL         string `json:"url,omitempty"`
	Color       int    `json:"color"`
}

type discordMessage struct {
	Embeds          []discordEmbed      `json:"embeds"`
	AllowedMentions map[string][]string `json:"allowed_mentions"`
}

// The colours of an embed's edge.
const (
	colourUrgent = 0xC0392B
	colourCalm   = 0x2E86C1
)

// embed is the message of Discord: its text stands in a code block, where nothing is
// markup, and nobody is mentioned.
func embed(m message) discordMessage {
	text := strings.ReplaceAll(m.body, "```", "'''")
	e := discordEmbed{
		Title:       notifier.Truncate(discordEscape.Replace(m.subject), maxDiscordTitle),
		Description: "```\n" + notifier.Truncate(text, maxDiscordBody) + "\n```",
		Color:       colourCalm,
	}
	if m.urgent {
		e.Color = colourUrgent
	}
	if notifier.WebAddress(m.link) {
		e.URL = m.link
	}
	return discordMessage{Embeds: []discordEmbed{e}, AllowedMentions: map[string][]string{"parse": {}}}
}

// discordEscape makes Discord's marks plain.
var discordEscape = strings.NewReplacer(
	`\`, `\\`, "*", `\*`, "_", `\_`, "~", `\~`, "`", "\\`", "|", `\|`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`,
	"#", `\#`,
)

// publish is the form of SNS. Its subject is ASCII and begins with a letter, which is what
// mail takes; the body is what the subscriber gets.
func (c *Client) publish(m message) string {
	subject := strings.Map(func(r rune) rune {
		if r == '…' {
			return '~'
		}
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, m.subject)
	subject = strings.TrimLeft(subject, " ")
	if len(subject) > maxSNSSubject {
		subject = subject[:maxSNSSubject-1] + "~"
	}
	form := url.Values{
		"Action": {"Publish"}, "Version": {"2010-03-31"}, "TopicArn": {c.topic},
		"Message": {notifier.Truncate(m.body, maxSNSBody)},
	}
	if subject != "" {
		form.Set("Subject", subject)
	}
	return form.Encode()
}
