package document

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// quoted is what the YAML parser quotes of a text, but for single signs.
var quoted = regexp.MustCompile("'[^'\\s]{4,}'|\"[^\"\\s]{4,}\"|`[^`\\s]{4,}`")

// discreet takes out whatever may be a secret, written in the wrong place: the line
// itself, values, and keys that resemble none that is known. Where it stands and
// what would be right is left.
func (ps Problems) discreet() Problems {
	for i := range ps {
		p := &ps[i]
		p.excerpt, p.Got = "", ""
		switch p.Code {
		case CodeSyntax:
			p.Why = quoted.ReplaceAllString(p.Why, "…")
		case CodeRefused:
			p.Hint = ""
		case CodeValue:
			p.Hint, _, _ = strings.Cut(p.Hint, ": ")
		case CodeUnknown:
			if !strings.HasPrefix(p.Hint, "did you mean ") {
				p.Path = p.Path[:max(strings.LastIndexAny(p.Path, ".["), 0)]
			}
		}
	}
	return ps
}

// Write writes the problems in a format: text shows each with its line and a
// caret, github makes workflow annotations. describe says what a code means, for
// the formats that list them.
func (ps Problems) Write(w io.Writer, f Format, describe func(code string) string) error {
	text, err := "", fmt.Errorf("no format %q", string(f))
	switch f {
	case FormatText:
		text, err = ps.Text(), nil
	case FormatJSON:
		text, err = ps.json()
	case FormatSARIF:
		text, err = ps.sarif(describe)
	case FormatGitHub:
		text, err = ps.github(), nil
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
		fmt.Fprintf(&b, "::%s file=%s,line=%d,col=%d,title=%s::%s\n", p.Severity, property.Replace(p.File),
			p.Line, p.Col,
			property.Replace(p.Code), message.Replace(p.text()))
	}
	return b.String()
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
		"runs": []object{{"tool": object{"driver": object{"name": "belay policy check", "rules": rules}},
			"results": results}},
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	return string(b) + "\n", err
}

// Problems are what is wrong with a policy, a test or a config: the first
// MaxProblems of it. Of errors the last says when there are more.
type Problems []Problem

// MaxProblems bounds the problems of one policy, test or config.
const MaxProblems = 100

// HasErrors reports whether any problem is an error.
func (ps Problems) HasErrors() bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return p.Severity == SeverityError })
}

// Errors are the problems that are errors.
func (ps Problems) Errors() Problems { return ps.with(SeverityError) }

// Warnings are the problems that are warnings.
func (ps Problems) Warnings() Problems { return ps.with(SeverityWarning) }

func (ps Problems) with(s Level) Problems {
	var out Problems
	for _, p := range ps {
		if p.Severity == s {
			out = append(out, p)
		}
	}
	return out
}

// Err is nil when there are no errors, and otherwise one error with every
// problem that is an error, a line each.
func (ps Problems) Err() error {
	var lines []string
	for _, p := range ps.Errors() {
		lines = append(lines, p.String())
	}
	if len(lines) == 0 {
		return nil
	}
	return errors.New(strings.Join(lines, "\n"))
}

// Sorted orders the problems by file, line, column and code. Of several errors
// about one value it keeps the first found: the others follow from it. The
// order of files is that of their first problem.
func (ps Problems) Sorted() Problems {
	type value struct {
		file, path string
		line, col  int
	}
	told := map[value]bool{}
	ps = slices.DeleteFunc(ps, func(p Problem) bool {
		v := value{p.File, p.Path, p.Line, p.Col}
		again := p.Severity == SeverityError && told[v]
		told[v] = told[v] || p.Severity == SeverityError
		return again
	})
	rank := map[string]int{}
	for _, p := range ps {
		if _, ok := rank[p.File]; !ok {
			rank[p.File] = len(rank)
		}
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(rank[a.File], rank[b.File]), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Col, b.Col), cmp.Compare(a.Code, b.Code))
	})
	return slices.Compact(ps).first()
}

// first are at most MaxProblems of them. Errors go before warnings: that there is
// one is never lost.
func (ps Problems) first() Problems {
	if len(ps) <= MaxProblems {
		return ps
	}
	errs := ps.Errors()
	switch {
	case len(errs) == 0:
		return ps[:MaxProblems]
	case len(errs) <= MaxProblems:
		return errs
	}
	more := errs[MaxProblems-1]
	more.Path, more.Code, more.Got, more.Hint = "", CodeBounds, "", ""
	more.Why = fmt.Sprintf("more than this is wrong; correct the first %d problems and check again", MaxProblems-1)
	return append(errs[:MaxProblems-1], more)
}
