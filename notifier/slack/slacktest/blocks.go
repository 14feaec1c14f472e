package slacktest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// CheckBlocks holds blocks against the documented limits of Block Kit and against
// Belay's own rule: mrkdwn is verbatim, and what it marks is what Belay may
// mark. It returns what is wrong, or "".
func CheckBlocks(data json.RawMessage) string {
	var blocks []map[string]any
	if err := json.Unmarshal(data, &blocks); err != nil {
		return err.Error()
	}
	if len(blocks) == 0 || len(blocks) > 50 {
		return fmt.Sprintf("%d blocks", len(blocks))
	}
	for i, b := range blocks {
		if p := checkBlock(b); p != "" {
			return fmt.Sprintf("block %d (%v): %s", i, b["type"], p)
		}
	}
	return ""
}

func checkBlock(b map[string]any) string {
	switch b["type"] {
	case "header":
		return checkText(b["text"], "plain_text", 150)
	case "section":
		if b["text"] == nil && b["fields"] == nil {
			return "neither text nor fields"
		}
		if b["text"] != nil {
			if p := checkText(b["text"], "", 3000); p != "" {
				return p
			}
		}
		fields, _ := b["fields"].([]any)
		if len(fields) > 10 {
			return "more than ten fields"
		}
		for _, f := range fields {
			if p := checkText(f, "", 2000); p != "" {
				return p
			}
		}
		return ""
	case "context":
		elements, _ := b["elements"].([]any)
		for _, e := range elements {
			if p := checkText(e, "", 3000); p != "" {
				return p
			}
		}
		return ""
	case "actions":
		elements, _ := b["elements"].([]any)
		for _, e := range elements {
			if p := checkButton(e); p != "" {
				return p
			}
		}
		return ""
	case "input":
		return checkText(b["label"], "plain_text", 2000)
	}
	return "unknown type"
}

func checkButton(e any) string {
	m, _ := e.(map[string]any)
	value, _ := m["value"].(string)
	if m["type"] != "button" || len(value) > 2000 {
		return "no button, or its value is too long"
	}
	if confirm, ok := m["confirm"].(map[string]any); ok {
		for field, n := range map[string]int{"title": 100, "text": 300, "confirm": 30, "deny": 30} {
			if p := checkText(confirm[field], "plain_text", n); p != "" {
				return "confirm " + field + ": " + p
			}
		}
	}
	return checkText(m["text"], "plain_text", 75)
}

// marks are what stands between < and > in Slack's mrkdwn; allowed are those that
// Belay makes.
var (
	marks   = regexp.MustCompile(`<[^>]*>?`)
	allowed = regexp.MustCompile(
		`^(<!date\^\d+\^\{date_short_pretty\} \{time\}\|[-0-9: UTC]+>|<@[UW][A-Z0-9]+>|<!subteam\^S[A-Z0-9]+>|<!here>|<https://[^ |>]+\|[^|>]+>)$`)
	entity = regexp.MustCompile(`&(amp|lt|gt);`)
)

func checkText(v any, kind string, atMost int) string {
	m, ok := v.(map[string]any)
	if !ok {
		return "no text object"
	}
	text, _ := m["text"].(string)
	if n := utf8.RuneCountInString(text); n == 0 || n > atMost {
		return fmt.Sprintf("%d characters, want 1 to %d", n, atMost)
	}
	if kind != "" && m["type"] != kind {
		return fmt.Sprintf("type %v, want %s", m["type"], kind)
	}
	if m["type"] != "mrkdwn" {
		return ""
	}
	if m["verbatim"] != true {
		return "mrkdwn that is not verbatim"
	}
	return checkMarks(text)
}

func checkMarks(text string) string {
	for _, mark := range marks.FindAllString(text, -1) {
		if !allowed.MatchString(mark) {
			return fmt.Sprintf("mark %q, which Belay does not make", mark)
		}
	}
	rest := entity.ReplaceAllString(marks.ReplaceAllString(text, ""), "")
	if strings.ContainsAny(rest, "<>&") {
		return fmt.Sprintf("text %q with a character that is not escaped", rest)
	}
	return ""
}
