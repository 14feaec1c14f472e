package policies

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Format is a way to write problems.
type Format string

// The formats.
const (
	FormatText   Format = "text"
	FormatJSON   Format = "json"
	FormatSARIF  Format = "sarif"
	FormatGitHub Format = "github"
)

// Formats lists the formats.
var Formats = []Format{FormatText, FormatJSON, FormatSARIF, FormatGitHub}

// Write writes the problems in a format: text shows each with its line and a
// caret, github makes workflow annotations. describe says what a code means, for
// the formats that list them.
func (ps Problems) Write(w io.Writer, f Format, describe func(code string) string) error {
	var text string
	var err error
	switch f {
	case FormatText:
		text = ps.Text()
	case FormatJSON:
		text, err = ps.json()
	case FormatSARIF:
		text, err = ps.sarif(describe)
	case FormatGitHub:
		text = ps.github()
	default:
		return fmt.Errorf("write problems: no format %q", string(f))
	}
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err != nil {
		return fmt.Errorf("write problems: %w", err)
	}
	return nil
}

// Text shows each problem with its line and a caret below what is wrong.
func (ps Problems) Text() string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString(p.String() + "\n")
		if p.excerpt == "" {
			continue
		}
		before := min(p.Col-1, len([]rune(p.excerpt)))
		lead := strings.Map(func(r rune) rune {
			if r == '\t' {
				return r
			}
			return ' '
		}, string([]rune(p.excerpt)[:before]))
		fmt.Fprintf(&b, "%5d | %s\n      | %s^\n", p.Line, p.excerpt, lead)
	}
	return b.String()
}

func (ps Problems) json() (string, error) {
	out := struct {
		SchemaVersion int      `json:"schemaVersion"`
		Errors        int      `json:"errors"`
		Warnings      int      `json:"warnings"`
		Problems      Problems `json:"problems"`
	}{1, len(ps.Errors()), len(ps.Warnings()), ps}
	if out.Problems == nil {
		out.Problems = Problems{}
	}
	b, err := json.MarshalIndent(out, "", "  ")
	return string(b) + "\n", err
}

// github writes workflow commands, which GitHub shows beside the line.
func (ps Problems) github() string {
	message := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, "::%s file=%s,line=%d,col=%d,title=%s::%s\n", p.Severity, property.Replace(p.File), p.Line, p.Col,
			property.Replace(p.Code), message.Replace(p.text()))
	}
	return b.String()
}

// text is the problem without its place.
func (p Problem) text() string {
	p.File, p.Line, p.Col, p.Severity = "", 0, 0, SeverityError
	return strings.TrimPrefix(p.String(), ":0:0: ")
}

// sarif writes SARIF 2.1.0, which code hosts and editors read.
func (ps Problems) sarif(describe func(code string) string) (string, error) {
	type object = map[string]any
	results := []object{}
	rules, seen := []object{}, map[string]bool{}
	for _, p := range ps {
		if !seen[p.Code] {
			seen[p.Code] = true
			rules = append(rules, object{"id": p.Code, "shortDescription": object{"text": describe(p.Code)}})
		}
		results = append(results, object{
			"ruleId": p.Code, "level": string(p.Severity), "message": object{"text": p.text()},
			"locations": []object{{"physicalLocation": object{
				"artifactLocation": object{"uri": p.File},
				"region":           object{"startLine": max(p.Line, 1), "startColumn": max(p.Col, 1)},
			}}},
		})
	}
	doc := object{
		"version": "2.1.0", "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
		"runs": []object{{"tool": object{"driver": object{"name": "belay policy check", "rules": rules}}, "results": results}},
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	return string(b) + "\n", err
}
