package policies

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a problem stops a policy.
type Severity string

// The severities.
const (
	// SeverityError: the policy is refused.
	SeverityError Severity = "error"
	// SeverityWarning: legal and probably unwise; the policy runs.
	SeverityWarning Severity = "warning"
)

// The codes of errors. Warnings have W codes; see Warnings.
const (
	CodeSyntax    = "E100" // not YAML, or not one document
	CodeBounds    = "E101" // too large or too deep
	CodeRefused   = "E102" // a YAML feature that policies do not have
	CodeUnknown   = "E103" // a key that does not exist
	CodeDuplicate = "E104" // a key or a name that is given twice
	CodeMissing   = "E105" // a key that is required
	CodeValue     = "E106" // a value that cannot be read
	CodeName      = "E107" // a name that nothing defines
	CodeMeaning   = "E108" // values that contradict each other
	CodeFile      = "E109" // a file that cannot be read
	CodeLocked    = "E110" // a locked value that was loosened
)

// A Problem is one thing that is wrong with a file, where it stands and what
// would be right.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Col      int      `json:"col"`
	Path     string   `json:"path,omitempty"`
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`
	// Why says what is wrong, Got what was found there, Hint what would be right.
	Why  string `json:"why"`
	Got  string `json:"got,omitempty"`
	Hint string `json:"hint,omitempty"`

	// excerpt is the line of the file.
	excerpt string
}

// String is the problem on one line: file:line:col: path: why (got X).
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Col)
	if p.Severity == SeverityWarning {
		b.WriteString("warning " + p.Code + ": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Why)
	if p.Got != "" {
		b.WriteString(" (got " + p.Got + ")")
	}
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String()
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

func (ps Problems) with(s Severity) Problems {
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

// sorted orders the problems by file, line, column and code. Of several errors
// about one value it keeps the first found: the others follow from it. The
// order of files is that of their first problem.
func (ps Problems) sorted() Problems {
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

// problemAt describes a problem at a node.
func problemAt(n *node, path, code, why string) Problem {
	p := Problem{Path: path, Severity: SeverityError, Code: code, Why: why}
	if strings.HasPrefix(code, "W") {
		p.Severity = SeverityWarning
	}
	if n == nil {
		return p
	}
	p.Line, p.Col = n.line, n.col
	if n.src != nil {
		p.File, p.excerpt = n.src.name, n.src.line(n.line)
	}
	return p
}

// got adds what was found.
func (p Problem) got(text string) Problem {
	p.Got = shorten(text)
	return p
}

// hint adds what would be right.
func (p Problem) hint(text string) Problem {
	p.Hint = text
	return p
}

// within moves the problem to a mistake inside the value of n: to a column of the
// value's own line, whose text is want. The value's place stays where the file writes
// it otherwise, with escapes or folded.
func (p *Problem) within(n *node, want string, line, col int) {
	if p.Line, p.Col = n.line, n.col; n.src == nil {
		return
	}
	p.excerpt = n.src.line(n.line)
	if strings.TrimSpace(want) == "" {
		return
	}
	for l := n.line + line - 1; l <= min(n.line+line, len(n.src.lines)); l++ {
		text, from := n.src.line(l), 0
		if l == n.line {
			from = len(string([]rune(text)[:min(n.col-1, len([]rune(text)))]))
		}
		if i := strings.Index(text[from:], want); i >= 0 {
			p.Line, p.Col, p.excerpt = l, len([]rune(text[:from+i]))+col, text
			return
		}
	}
}

// shorten keeps a quotation from a file readable.
func shorten(s string) string {
	const most = 60
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	if s == "" {
		return `""`
	}
	return s
}
