package template

import (
	"fmt"
	"strings"
)

// A QueryError says what is wrong with an expression of a metric, where, and
// what would be right.
type QueryError struct {
	// Text is what was read; Start is the byte of it at which the mistake is.
	Text  string
	Start int
	Why   string
	// Hint is what to write instead; it may be empty.
	Hint string
	// Syntax: the text is nothing that the language knows.
	Syntax bool
}

// Error is the mistake with its place, "1:7: …", and the hint.
func (e *QueryError) Error() string {
	line, col := e.Place()
	text := fmt.Sprintf("%d:%d: %s", line, col, e.Why)
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Place is the line and the column, in characters, of the mistake within the
// text, from 1.
func (e *QueryError) Place() (line, col int) {
	before := e.Text[:min(max(e.Start, 0), len(e.Text))]
	last := before[strings.LastIndexByte(before, '\n')+1:]
	return strings.Count(before, "\n") + 1, len([]rune(last)) + 1
}
