package document

import (
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

// text is the problem without its place.
func (p Problem) text() string {
	p.File, p.Line, p.Col, p.Severity = "", 0, 0, SeverityError
	return strings.TrimPrefix(p.String(), ":0:0: ")
}
