package sim

import (
	"strconv"
	"time"

	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/split"
)

// An Endpoint is what serves: its split, and every write it ever saw.
type Endpoint struct {
	Split split.Split
	// History are the splits with the instants since which they held.
	History []Held
	// Writes are all the writes that Belay sent and that reached the endpoint.
	Writes []Write
}

// Held is a split and since when it held.
type Held struct {
	Since time.Time
	Split split.Split
	// Foreign: it was not Belay that made it.
	Foreign bool
}

// A Write is one call of Shift.
type Write struct {
	At      time.Time
	Run     *Run
	Effect  string
	From    split.Split
	To      split.Split
	Applied bool
	// Sent is when it was sent; it may land later.
	Sent time.Time
	// Over is what held before the write.
	Over Held
}

func newEndpoint(s split.Split, at time.Time) Endpoint {
	s = s.Clone()
	s.Version = "1"
	return Endpoint{Split: s, History: []Held{{Since: at, Split: s}}}
}

// set makes the split what it is told, as anybody could.
func (e *Endpoint) set(at time.Time, s split.Split, foreign bool) {
	s = s.Clone()
	n, err := strconv.Atoi(e.Split.Version)
	if err != nil {
		n = 0
	}
	s.Version = strconv.Itoa(n + 1)
	foreign = foreign && !e.Split.Equal(s)
	e.Split = s
	e.History = append(e.History, Held{Since: at, Split: s, Foreign: foreign})
}

// shift is Router.Shift: idempotent, and refused where the split is not what it
// must replace. Unfenced writes land whatever the split is.
func (e *Endpoint) shift(at time.Time, w Write, fenced bool) *failure.Failure {
	w.At = at
	if e.Split.Equal(w.To) {
		return nil
	}
	if f := e.refuses(w); fenced && f != nil {
		return f
	}
	w.Applied = true
	w.Over = e.History[len(e.History)-1]
	e.Writes = append(e.Writes, w)
	e.set(at, w.To, false)
	return nil
}

// refuses says that the split is not what the write must replace; nil when it is.
func (e *Endpoint) refuses(w Write) *failure.Failure {
	if stale := w.From.Version != "" && w.From.Version != e.Split.Version; !stale && e.Split.Equal(w.From) {
		return nil
	}
	return &failure.Failure{Kind: failure.Foreign, Message: "the split is " + e.Split.String() + ", not " +
		w.From.String()}
}

// At is the split that held at an instant.
func (e *Endpoint) At(t time.Time) split.Split {
	for i := len(e.History) - 1; i > 0; i-- {
		if !e.History[i].Since.After(t) {
			return e.History[i].Split
		}
	}
	return e.History[0].Split
}

// Write changes the split from outside, as an operator would.
func (w *World) Write(s split.Split) { w.Endpoint.set(w.Now, s, true) }
