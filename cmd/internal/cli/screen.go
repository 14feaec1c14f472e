package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/view"
)

// A screen shows one rollout. On a terminal it is redrawn in place; elsewhere
// each change is a line. It is safe for concurrent use.
//
// It is also an io.Writer: what others write while it is shown (the demo's
// pager) becomes a note on it instead of tearing it up.
type screen struct {
	env *env
	out io.Writer
	// width and height bound what is drawn; height 0 is as high as it gets.
	width, height int
	// terminal is how wide the terminal is, where a line that is longer goes on below.
	terminal int
	// live: redraw in place.
	live bool

	mu    sync.Mutex
	drawn int // lines that stand on the terminal and will be overwritten
	shown bool
	now   view.Rollout
	notes []string
	part  string // of a line that was written and has no end yet
	phase rollout.Phase
}

// notesMax is how many notes are kept; fewer are shown where there is no room.
const notesMax = 50

// newScreen returns a screen on standard output.
func newScreen(e *env) *screen {
	return &screen{env: e, out: e.stdout, width: min(e.width, 120), height: min(e.height, 40),
		terminal: max(e.width, 1), live: e.tty && e.width >= 40 && e.height >= 10}
}

// show takes an event of the rollout's stream.
func (s *screen) show(ev api.StreamEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ev.Entry != nil {
		for _, l := range decisionLines(s.env, ev.Entry.Entry) {
			s.note(l)
		}
	}
	if ev.Rollout != nil {
		s.now, s.shown = *ev.Rollout, true
		if !s.live && s.phase != s.now.Phase {
			s.phase = s.now.Phase
			s.note(fmt.Sprintf("%s %-14s %s", s.env.clock(s.now.Since), s.now.Phase, s.phaseNote()))
		}
	}
	s.draw()
}

// phaseNote says what a phase is about, on one line.
func (s *screen) phaseNote() string {
	var parts []string
	if s.now.Step != nil {
		parts = append(parts, stepText(s.now.Step))
	}
	if s.now.Weights.Confirmed != nil {
		parts = append(parts, "confirmed "+weights(s.now.Weights.Confirmed, s.now.Stable))
	}
	if s.now.WaitingFor != "" {
		parts = append(parts, "waits for "+s.env.told(s.now.WaitingFor))
	}
	if len(parts) == 0 {
		return s.env.told(s.now.Sentence)
	}
	return strings.Join(parts, ", ")
}

// note keeps a line below the rollout; off a terminal it is printed at once.
func (s *screen) note(line string) {
	if !s.live {
		fmt.Fprintln(s.out, line)
		return
	}
	s.notes = append(s.notes, line)
	if len(s.notes) > notesMax {
		s.notes = s.notes[len(s.notes)-notesMax:]
	}
}

// Write takes what others print.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live || !s.shown {
		return s.out.Write(p)
	}
	text := s.part + string(p)
	for {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			break
		}
		s.note(line)
		text = rest
	}
	s.part = text
	s.draw()
	return len(p), nil
}

// tick redraws what moves with the time alone.
func (s *screen) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draw()
}

// entered notes that a person pressed Enter below the screen.
func (s *screen) entered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn > 0 {
		s.drawn++
	}
}

// end leaves what was drawn where it is: what is written next stands below it.
func (s *screen) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live, s.drawn = false, 0
}

// A row is a line of the screen. A whole one is a command: it is never cut, and takes
// as many rows of the terminal as it needs, so that it can be copied and pasted.
type row struct {
	text  string
	whole bool
	// spare rows make way where there is no room, the most spare ones first.
	spare int
}

// How spare a row is: what separates, the other steps, the guardrails.
const (
	spareGuardrail = iota + 1
	spareStep
	spareBlank
)

// height is how many rows of the terminal it takes.
func (r row) height(width int) int {
	if !r.whole || width <= 0 {
		return 1
	}
	return max((utf8.RuneCountInString(plain(r.text))+width-1)/width, 1)
}

func height(rows []row, width int) (n int) {
	for _, r := range rows {
		n += r.height(width)
	}
	return n
}

// draw overwrites what was drawn before. With the lock held.
func (s *screen) draw() {
	if !s.live || !s.shown {
		return
	}
	s.redraw(s.rows(s.now, s.notes))
}

// redraw puts rows in the place of what was drawn before. With the lock held.
func (s *screen) redraw(rows []row) {
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", s.drawn)
	}
	for _, r := range rows {
		text := visible(r.text)
		if !r.whole {
			text = fit(text, s.width)
		}
		b.WriteString(text)
		if n := utf8.RuneCountInString(plain(text)); n == 0 || n%s.terminal != 0 {
			b.WriteString("\x1b[K") // at the right edge it would erase the last character
		}
		b.WriteString("\n")
	}
	b.WriteString("\x1b[J")
	s.drawn = height(rows, s.terminal)
	_, _ = io.WriteString(unfiltered(s.out), b.String()) // the terminal has gone; the rollout goes on
}

// lines is the screen as text.
func (s *screen) lines(r view.Rollout, notes []string) []string {
	rows := s.rows(r, notes)
	out := make([]string, len(rows))
	for i, l := range rows {
		out[i] = l.text
	}
	return out
}

// rows is the whole screen: at most height-1 rows of the terminal, so that the
// cursor's own line fits as well.
func (s *screen) rows(r view.Rollout, notes []string) []row {
	e := s.env
	var head []row
	add := func(spare int, lines ...string) {
		for _, l := range lines {
			head = append(head, row{text: l, spare: spare})
		}
	}
	add(0, fmt.Sprintf("%s  %s → %s  %s  %s", e.paint(bold, r.ID), safe(r.Policy),
		safe(r.Endpoint.Router+"/"+r.Endpoint.Name), e.phase(r.Phase), "since "+e.clock(r.Since)),
		fmt.Sprintf("%s %s over %s, asked for by %s%s", safe(r.Candidate), safe(r.Version), orDash(safe(r.Stable)),
			safe(r.Requester), onBehalf(r)))
	add(spareBlank, "")
	for i, l := range s.ladder(r) {
		spare := spareStep
		if r.Steps[i].State == view.StepCurrent {
			spare = 0
		}
		add(spare, l)
	}
	add(spareBlank, "")
	add(0, s.weights(r)...)
	if len(r.Guardrails) > 0 {
		add(spareBlank, "")
		add(spareGuardrail, s.guardrails(r)...)
		if f := r.FalseRollback; f != nil {
			add(spareBlank, e.paint(faint, fmt.Sprintf("%.2g%% of falseRollback (%.2g%%) is spent", 100*f.Spent, 100*f.Limit)))
		}
	}
	add(spareBlank, "")
	add(0, s.state(r)...)
	foot := s.commands(r)
	if s.height <= 0 {
		return append(append(head, rowsOf(notes)...), foot...)
	}
	room := s.height - 1 - height(foot, s.terminal)
	head = trimmed(head, room)
	if room -= len(head) + 1; room > 0 && len(notes) > 0 {
		head = append(head, row{})
		head = append(head, rowsOf(notes[max(len(notes)-room, 0):])...)
	}
	return append(head, foot...)
}

func rowsOf(lines []string) []row {
	var out []row
	for _, l := range lines {
		out = append(out, row{text: l})
	}
	return out
}

// trimmed leaves out what is most spare, from below, until the rows fit.
func trimmed(rows []row, room int) []row {
	for spare := spareBlank; spare > 0; spare-- {
		for i := len(rows) - 1; i >= 0 && len(rows) > room; i-- {
			if rows[i].spare == spare {
				rows = append(rows[:i:i], rows[i+1:]...)
			}
		}
	}
	return rows[:min(len(rows), max(room, 0))]
}

// commands are what somebody may have to paste: the way back without Belay, and what
// takes charge and rolls back with it.
func (s *screen) commands(r view.Rollout) []row {
	e := s.env
	var out []row
	command := func(label, text string) {
		for i, l := range strings.Split(text, "\n") {
			if l = safe(l); i == 0 {
				l = label + l
			}
			out = append(out, row{text: strings.TrimRight(l, " "), whole: true})
		}
	}
	if byHand(r.Phase) && r.ManualRollback != "" {
		command(e.paint(faint, "by hand    "), r.ManualRollback)
	}
	if r.Page != nil && r.Page.Acknowledged == nil {
		command(e.paint(faint, "ack        "), e.belay("ack", r.ID))
	}
	if r.RollbackCommand != "" {
		command(e.paint(faint, "roll back  "), e.belay("rollback", r.ID, "--reason '…'"))
	}
	return out
}

// byHand reports whether somebody may have to put the traffic back without Belay.
func byHand(p rollout.Phase) bool {
	return p == rollout.PhaseHeld || p == rollout.PhaseRollingBack || p == rollout.PhaseSuspect
}

// wentBack reports whether the traffic goes or went back to stable.
func wentBack(p rollout.Phase) bool {
	return p == rollout.PhaseRollingBack || p == rollout.PhaseRolledBack || p == rollout.PhaseStopped
}

func onBehalf(r view.Rollout) string {
	if r.OnBehalfOf == "" {
		return ""
	}
	return " for " + safe(r.OnBehalfOf)
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// ladder shows the steps; the current one with its bake.
func (s *screen) ladder(r view.Rollout) []string {
	e := s.env
	t := &table{}
	for _, st := range r.Steps {
		mark, note := " ", ""
		switch st.State {
		case view.StepDone:
			mark, note = e.paint(green, "✓"), e.paint(faint, "done")
		case view.StepCurrent:
			mark, note = e.paint(bold, "▸"), s.bake(r, st)
			if wentBack(r.Phase) {
				mark, note = e.paint(red, "✗"), e.paint(red, "went back from here")
			}
		case view.StepAhead:
			if len(st.Requires) > 0 {
				note = e.paint(faint, "needs "+safe(strings.Join(st.Requires, ", ")))
			}
		}
		t.add(mark, safe(st.Name), st.Words(), st.Bake, note)
	}
	return t.lines(2, 3)
}

// bake shows how far the current step's bake has come.
func (s *screen) bake(r view.Rollout, st view.LadderStep) string {
	if r.Phase.Terminal() || r.Step == nil {
		return ""
	}
	if r.Step.Since.IsZero() {
		return "not confirmed yet"
	}
	total, err := time.ParseDuration(st.Bake)
	left, leftErr := time.ParseDuration(r.Step.BakeLeft)
	if err != nil || leftErr != nil || total <= 0 {
		return ""
	}
	const cells = 20
	full := min(max(int(float64(cells)*float64(total-left)/float64(total)), 0), cells)
	bar := strings.Repeat("█", full) + strings.Repeat("░", cells-full)
	if left <= 0 {
		return bar + " baked"
	}
	return bar + " " + view.Span(left) + " left"
}

// weights shows what was asked for, what was read back, and what stands there
// instead.
func (s *screen) weights(r view.Rollout) []string {
	e := s.env
	w := r.Weights
	line := e.paint(faint, "weights    ") + "asked " + weights(w.Asked, r.Stable) + " · confirmed " +
		weights(w.Confirmed, r.Stable)
	if w.Observed == nil {
		return []string{line}
	}
	shows := e.paint(yellow, "shows "+weights(w.Observed, r.Stable))
	if both := line + " · " + shows; utf8.RuneCountInString(plain(both)) <= s.width {
		return []string{both}
	}
	return []string{line, strings.Repeat(" ", 11) + shows}
}

// guardrails is the table of guardrails.
func (s *screen) guardrails(r view.Rollout) []string {
	e := s.env
	t := &table{}
	cells := []string{"guardrail", "candidate", "stable", "interval", "limit", "n", "verdict"}
	if at := view.ReadTo(r.Guardrails); !at.IsZero() && !r.Phase.Terminal() {
		cells[6] = "as of " + e.ago(at)
	}
	for i := range cells {
		cells[i] = e.paint(faint, cells[i])
	}
	t.add(cells...)
	for _, g := range r.Guardrails {
		t.add(safe(g.Name), view.Figure(g.Candidate, g.Unit), view.Figure(g.Stable, g.Unit),
			view.Between(g.Interval, g.Unit), safe(g.Limit), g.Size(), e.progress(g))
	}
	return t.within(s.width, 1, 2, 3, 5)
}

// state says why the rollout is where it is and what it waits for.
func (s *screen) state(r view.Rollout) []string {
	e := s.env
	var out []string
	labelled := func(label, text string, n int) {
		for i, l := range wrap(e.told(text), s.width-11, n) {
			if i > 0 {
				label = strings.Repeat(" ", 11)
			}
			out = append(out, label+l)
		}
	}
	if r.Page != nil {
		labelled(e.paint(red, "paged      "), e.ago(r.Page.Since)+": "+r.Page.Summary, 2)
		if a := r.Page.Acknowledged; a != nil {
			labelled(e.paint(faint, "taken by   "), strings.TrimSuffix(a.By+", "+e.ago(a.At)+": "+a.Reason, ": "), 1)
		}
	}
	if r.Unconfirmed {
		out = append(out, e.paint(red, "late       the rollback is not confirmed; Belay keeps trying"))
	}
	failed := slices.DeleteFunc(slices.Clone(r.Checks), func(c check.Result) bool { return c.OK })
	switch {
	case len(failed) > 1 && r.Reason == decision.ReasonPreflight: // each has a line below
		labelled(e.paint(faint, "because    "), fmt.Sprintf("%d of %d checks failed.", len(failed), len(r.Checks)), 1)
	case r.Sentence != "":
		labelled(e.paint(faint, "because    "), r.Sentence, 3)
	}
	if r.WaitingFor != "" {
		labelled(e.paint(faint, "waits for  "), r.WaitingFor, 2)
	}
	for _, c := range failed {
		labelled(e.paint(red, "check      "), fmt.Sprintf("%s: found %s, want %s. %s", c.Check, c.Found, c.Expected,
			c.Remedy), 3)
	}
	return out
}

// decisionLines are a journal entry's decisions, a line each.
func decisionLines(e *env, entry journal.Entry) []string {
	var out []string
	for _, d := range entry.Decisions {
		out = append(out, fmt.Sprintf("%s %-14s %s%s", e.clock(entry.At), d.Kind, e.told(d.Sentence), byText(d)))
	}
	return out
}
