package document

import (
	"fmt"
	"strings"
)

// Level says whether a problem stops a policy.
type Level string

// The severities.
const (
	// SeverityError: the policy is refused.
	SeverityError Level = "error"
	// SeverityWarning: legal and probably unwise; the policy runs.
	SeverityWarning Level = "warning"
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
	File     string `json:"file"`
	Line     int    `json:"line"`
	Col      int    `json:"col"`
	Path     string `json:"path,omitempty"`
	Severity Level  `json:"severity"`
	Code     string `json:"code"`
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

// ProblemAt describes a problem at a node.
func ProblemAt(n *Node, path, code, why string) Problem {
	p := Problem{Path: path, Severity: SeverityError, Code: code, Why: why}
	if strings.HasPrefix(code, "W") {
		p.Severity = SeverityWarning
	}
	if n == nil {
		return p
	}
	p.Line, p.Col = n.Line, n.Col
	if n.src != nil {
		p.File, p.excerpt = n.src.name, n.src.line(n.Line)
	}
	return p
}

// WithGot adds what was found.
func (p Problem) WithGot(text string) Problem {
	p.Got = Shorten(text)
	return p
}

// WithHint adds what would be right.
func (p Problem) WithHint(text string) Problem {
	p.Hint = text
	return p
}

// Within moves the problem to a mistake inside the value of n: to a column of the
// value's own line, whose text is want. The value's place stays where the file writes
// it otherwise, with escapes or folded.
func (p *Problem) Within(n *Node, want string, line, col int) {
	if p.Line, p.Col = n.Line, n.Col; n.src == nil {
		return
	}
	p.excerpt = n.src.line(n.Line)
	if strings.TrimSpace(want) == "" {
		return
	}
	for l := n.Line + line - 1; l <= min(n.Line+line, len(n.src.lines)); l++ {
		text, from := n.src.line(l), 0
		if l == n.Line {
			from = len(string([]rune(text)[:min(n.Col-1, len([]rune(text)))]))
		}
		if i := strings.Index(text[from:], want); i >= 0 {
			p.Line, p.Col, p.excerpt = l, len([]rune(text[:from+i]))+col, text
			return
		}
	}
}

// Shorten keeps a quotation from a file readable.
func Shorten(s string) string {
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
