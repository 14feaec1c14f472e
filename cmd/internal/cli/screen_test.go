package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/view"
)

// terminal is an environment that looks like a terminal of a size.
func terminal(out *bytes.Buffer, width, height int) *env {
	return &env{stdout: out, stderr: out, now: func() time.Time { return now }, zone: time.UTC, tty: true, width: width, height: height}
}

// Whatever a rollout shows, the screen fits the terminal, and what matters most
// stays on it.
func TestScreenFits(t *testing.T) {
	crowded := rollingBack()
	for i := range 30 {
		g := crowded.Guardrails[i%3]
		g.Name = fmt.Sprintf("guardrail-%d-with-a-rather-long-name", i)
		crowded.Guardrails = append(crowded.Guardrails, g)
	}
	for name, r := range map[string]view.Rollout{"baking": baking(), "rolling-back": rollingBack(), "promoted": promoted(), "crowded": crowded, "empty": {}} {
		for _, size := range [][2]int{{80, 24}, {40, 10}, {200, 60}} {
			var notes []string
			for i := range 60 {
				notes = append(notes, fmt.Sprintf("10:00:%02d note", i))
			}
			s := newScreen(terminal(&bytes.Buffer{}, size[0], size[1]))
			rows := s.rows(r, notes)
			if got := height(rows, size[0]); got > size[1]-1 && got > height(s.commands(r), size[0]) {
				t.Errorf("%s at %v: got %d rows", name, size, got)
			}
			if last := rows[len(rows)-1].text; r.RollbackCommand != "" && !strings.HasSuffix(last, "belay rollback "+r.ID+" --reason '…'") {
				t.Errorf("%s at %v: the last line is %q, want the whole command that rolls back", name, size, last)
			}
			for _, l := range rows {
				if got := utf8.RuneCountInString(plain(fit(l.text, s.width))); !l.whole && got > size[0] {
					t.Errorf("%s at %v: a line of %d characters: %q", name, size, got, l.text)
				}
			}
		}
	}
}

// The command by hand of a rollout that is held at the smallest usual terminal, with
// everything on the screen that can be: it is whole, and so is what is waited for.
func TestByHandIsWhole(t *testing.T) {
	r := held()
	r.ManualRollback = "curl -X PUT http://127.0.0.1:41234/endpoints/recommendations -H 'If-Match: \"7\"' -H 'Content-Type: application/json' -d '{\"weights\":{\"blue\":100,\"green\":0}}'"
	r.Page = &view.Page{Since: now, Summary: strings.Repeat("a long summary of a page ", 20)}
	r.Sentence = strings.Repeat("a long sentence about it ", 20)
	for range 4 {
		r.Guardrails = append(r.Guardrails, r.Guardrails...)
	}
	for _, size := range [][2]int{{80, 24}, {60, 24}, {120, 30}} {
		s := newScreen(terminal(&bytes.Buffer{}, size[0], size[1]))
		rows := s.rows(r, []string{"a note"})
		var text strings.Builder
		for _, l := range rows {
			if l.whole {
				text.WriteString(l.text + "\n")
			} else {
				text.WriteString(fit(l.text, s.width) + "\n")
			}
		}
		for _, want := range []string{r.ManualRollback, "waits for  a person", "belay rollback " + r.ID + " --reason '…'", "belay ack " + r.ID} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("at %v: got\n%s\nwant %q in it", size, text.String(), want)
			}
		}
		if got := height(rows, size[0]); got > size[1]-1 {
			t.Errorf("at %v: got %d rows, want at most %d", size, got, size[1]-1)
		}
	}
}

func TestScreenGoldens(t *testing.T) {
	taken := rollingBack()
	taken.Page.Acknowledged = &view.Acknowledged{By: "ann", At: now.Add(-2 * time.Second), Reason: "looking into it"}
	for name, r := range map[string]view.Rollout{"baking": baking(), "rolling-back": rollingBack(), "acknowledged": taken, "promoted": promoted()} {
		s := newScreen(terminal(&bytes.Buffer{}, 80, 24))
		var b strings.Builder
		for _, l := range s.rows(r, []string{"10:00:18 confirm        The endpoint shows blue 75, green 25."}) {
			if !l.whole {
				l.text = fit(l.text, 80)
			}
			b.WriteString(l.text + "\n")
		}
		golden(t, "screen/"+name+".txt", b.String())
	}
}

// decided is a journal entry with one decision.
func decidedEntry(seq int, kind decision.Kind, sentence string) journal.Entry {
	return journal.Entry{Seq: seq, At: now, Decisions: []decision.Decision{{Kind: kind, Sentence: sentence}}}
}

// Off a terminal watch prints a line per change, first what was before, nothing
// twice, and ends with the rollout's code.
func TestWatchLines(t *testing.T) {
	back := rollingBack()
	end := back
	end.Phase, end.Unconfirmed, end.Closed, end.WaitingFor = rollout.PhaseRolledBack, false, true, ""
	d := newFakeDaemon(t, baking())
	d.set(func() {
		d.entries = []journal.Entry{decidedEntry(1, decision.Start, "It starts."), decidedEntry(2, decision.Step, "Step quarter.")}
		d.stream = []api.StreamEvent{
			{Rollout: new(baking())}, {Rollout: new(baking())},
			{Entry: &api.StreamEntry{Entry: decidedEntry(2, decision.Step, "Step quarter.")}},
			{Entry: &api.StreamEntry{Entry: decidedEntry(3, decision.Breach, "It broke\x1b[2J its limit.")}},
			{Rollout: &back}, {Rollout: &end},
		}
	})
	s := newShell(t)
	golden(t, "watch.txt", s.want(exitRolledBack, "watch", baking().ID, "--server", d.URL))
}

// vt is as much of a terminal as the screen needs: lines that go on below at its
// right edge, cursor up, erase.
func vt(t *testing.T, width int, text string) []string {
	t.Helper()
	var lines []string
	row := 0
	for text != "" {
		switch {
		case strings.HasPrefix(text, "\x1b["):
			end := strings.IndexAny(text, "AKJ")
			n := 0
			_, _ = fmt.Sscanf(text[2:end], "%d", &n)
			switch text[end] {
			case 'A':
				row -= n
			case 'J':
				lines = lines[:min(row, len(lines))]
			}
			if row < 0 {
				t.Fatalf("the cursor left the screen")
			}
			text = text[end+1:]
		case text[0] == '\r':
			text = text[1:]
		default:
			line, rest, ok := strings.Cut(text, "\n")
			if !ok {
				t.Fatalf("a line without an end: %q", text)
			}
			line, _, _ = strings.Cut(line, "\x1b[K")
			for shown := []rune(plain(line)); ; {
				for len(lines) <= row {
					lines = append(lines, "")
				}
				n := min(len(shown), width)
				lines[row], shown = string(shown[:n]), shown[n:]
				row++
				if len(shown) == 0 {
					break
				}
			}
			text = rest
		}
	}
	return lines
}

// On a terminal the screen is redrawn in place: whatever happened, the rollout
// stands there once, as it is now, with what others wrote below it as notes, and
// what is written after the end stands under it.
func TestRedrawInPlace(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(terminal(&out, 80, 24))
	fmt.Fprintln(s, "before")
	s.show(api.StreamEvent{Entry: &api.StreamEntry{Entry: decidedEntry(1, decision.Start, "It starts.")}})
	s.show(api.StreamEvent{Rollout: new(rollingBack())})
	fmt.Fprintf(s, "pager    ")
	fmt.Fprintf(s, "PAGE [critical] look\n")
	s.show(api.StreamEvent{Rollout: new(baking())})
	s.tick()
	s.show(api.StreamEvent{Rollout: new(promoted())})
	s.end()
	fmt.Fprintln(s, "after")
	lines := vt(t, 80, out.String())
	text := strings.Join(lines, "\n")
	if lines[0] != "before" || lines[len(lines)-1] != "after" {
		t.Errorf("first and last line: got %q and %q", lines[0], lines[len(lines)-1])
	}
	for want, n := range map[string]int{promoted().ID: 1, "promoted": 1, "rolling-back": 0, "PAGE [critical] look": 1, "It starts.": 1} {
		if got := strings.Count(text, want); got != n {
			t.Errorf("%q: got it %d times, want %d:\n%s", want, got, n, text)
		}
	}
}

// Text from outside cannot move the cursor or ring the bell.
func TestSafe(t *testing.T) {
	if got := safe("a\x1b[2J\x07b\u009bc\tdä"); got != "a [2J b c dä" {
		t.Errorf("safe: got %q", got)
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{weights(map[string]int{"green": 5, "blue": 95, "red": 0}, "blue"), "blue 95% green 5%"}, {weights(map[string]int{}, ""), "off"}, {weights(nil, ""), "unknown"},
		{strings.Join(wrap("one two three four", 9, 9), "|"), "one two|three|four"}, {strings.Join(wrap("one two three four", 9, 2), "|"), "one two|three…"},
		{fit("\x1b[31mabcdef\x1b[0m", 4), "\x1b[31mabc…\x1b[0m"}, {fit("abc", 3), "abc"},
		{strings.Join(fold([]string{"a", "b", "a", "a"}), ","), "a ×3,b"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// A live screen says how old its figures are: up to which instant all that is judged was
// read. What has ended has no such age.
func TestScreenSaysHowOld(t *testing.T) {
	show := func(r view.Rollout) string {
		for i := range r.Guardrails {
			r.Guardrails[i].AsOf = now.Add(-time.Duration(12+i) * time.Second)
		}
		return plain(strings.Join(newScreen(terminal(&bytes.Buffer{}, 100, 40)).guardrails(r), "\n"))
	}
	live := baking()
	want := fmt.Sprintf("as of %ds ago", 11+len(live.Guardrails))
	if got := show(live); !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant %q", got, want)
	}
	if got := show(promoted()); strings.Contains(got, "as of") {
		t.Errorf("promoted: got\n%s", got)
	}
}
