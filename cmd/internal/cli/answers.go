package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// terminalName is the terminal of this process, whatever its standard input is.
const terminalName = "/dev/tty"

// answers opens the terminal for lines that a person types while s is shown on
// it. Without a terminal nothing prompts: it is a mistake to ask for it.
func (e *env) answers(s *screen) (io.ReadCloser, error) {
	in, ok := e.stdin.(*os.File)
	if !e.tty || !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, usageError("--approve ask: standard input and output must be a terminal; leave it out, and " +
			"nobody is asked")
	}
	// Opened anew, so that closing it ends a read that waits.
	tty, err := os.OpenFile(terminalName, os.O_RDONLY, 0)
	if err != nil {
		return nil, usageError("--approve ask: open the terminal: %w", err)
	}
	return &typed{tty, s}, nil
}

// typed is what a person types below a screen. The terminal shows it, and each
// Enter moves the cursor down a line.
type typed struct {
	*os.File
	screen *screen
}

// Read reads and tells the screen about the lines.
func (t *typed) Read(p []byte) (int, error) {
	n, err := t.File.Read(p)
	for _, b := range p[:n] {
		if b == '\n' {
			t.screen.entered()
		}
	}
	return n, err
}
