package view

import (
	"regexp"
	"time"
)

var (
	// toldInstant finds an instant of a sentence, after the word that makes it one: a
	// version may look like an instant, too.
	toldInstant = regexp.MustCompile(`\b(at|until|since) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))`)
	toldCommand = regexp.MustCompile("`belay [^`]+")
)

// Told is a sentence of the core as whoever reads it can use it. The core knows
// neither the reader's clock nor how the reader reaches the daemon: it writes
// instants in RFC 3339, and commands in backquotes without a server. at shows an
// instant; flags are what a command needs there, " --server URL" or "".
func Told(sentence, flags string, at func(time.Time) string) string {
	if flags != "" {
		sentence = toldCommand.ReplaceAllStringFunc(sentence, func(c string) string { return c + flags })
	}
	return toldInstant.ReplaceAllStringFunc(sentence, func(s string) string {
		m := toldInstant.FindStringSubmatch(s)
		t, err := time.Parse(time.RFC3339Nano, m[2])
		if err != nil {
			return s // it only looks like one
		}
		return m[1] + " " + at(t)
	})
}
