package notifier_test

import (
	"strings"
	"testing"

	"github.com/belayd/belay/notifier"
)

func TestTruncate(t *testing.T) {
	for _, test := range []struct {
		in   string
		n    int
		want string
	}{
		{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöü", 3, "äöü"}, {"äöüß", 3, "äö…"}, {"ab", 1, "…"}, {"日本語", 2, "日…"},
	} {
		if got := notifier.Truncate(test.in, test.n); got != test.want {
			t.Errorf("Truncate(%q, %d): got %q, want %q", test.in, test.n, got, test.want)
		}
	}
}

// TestLine cleans what a label or a metric system may hold.
func TestLine(t *testing.T) {
	for _, test := range []struct{ in, line, lines string }{
		{"", "", ""},
		{" plain  text ", "plain text", "plain  text"},
		{"two\r\nlines\n", "two lines", "two\nlines"},
		{"az ml \\\n\t--name recs", "az ml \\ --name recs", "az ml \\\n\t--name recs"},
		{"\x1b[31mred\x07", "[31mred", "[31mred"},
		{"a\u202eb\u2028c", "a b c", "a b c"},
		{"\xff\xfe", "?", "?"},
	} {
		if got := notifier.Line(test.in, 100); got != test.line {
			t.Errorf("Line(%q): got %q, want %q", test.in, got, test.line)
		}
		if got := notifier.Lines(test.in, 100); got != test.lines {
			t.Errorf("Lines(%q): got %q, want %q", test.in, got, test.lines)
		}
	}
	for in, want := range map[string]string{
		"abcdef": "ab…", strings.Repeat("long ", 10_000): "lo…", "a" + strings.Repeat(" ", 10_000) + "b": "a…", strings.Repeat("\xff", 10_000): "?…",
	} {
		if got := notifier.Line(in, 3); got != want {
			t.Errorf("Line(%.10q, 3): got %q, want %q", in, got, want)
		}
		if got := []rune(notifier.Lines(in, 3)); len(got) > 3 {
			t.Errorf("Lines(%.10q, 3): got %q, want at most 3 characters", in, string(got))
		}
	}
}

func TestWebAddress(t *testing.T) {
	for in, want := range map[string]bool{
		"https://belay.example/r?x=1#y": true, "http://127.0.0.1:7070/": true,
		"": false, "belay.example": false, "/r": false, "javascript:alert(1)": false, "ftp://x/y": false, "https://": false,
		"https://x/a b": false, "https://x/>|<": false, "https://x/\n": false, "https://x/" + strings.Repeat("y", 2000): false,
	} {
		if got := notifier.WebAddress(in); got != want {
			t.Errorf("WebAddress(%q): got %t, want %t", in, got, want)
		}
	}
}

func TestOver(t *testing.T) {
	for phase, want := range map[string]bool{
		"queued": false, "scheduled": false, "preflight": false, "shifting": false, "baking": false, "waiting": false, "held": false,
		"paused": false, "rolling-back": false, "suspect": false, "": false,
		"promoted": true, "rolled-back": true, "stopped": true, "refused": true,
	} {
		if got := (notifier.Rollout{Phase: phase}).Over(); got != want {
			t.Errorf("Over(phase %q): got %t, want %t", phase, got, want)
		}
	}
}
