package analysis

import (
	"maps"
	"time"
)

// Evidence is what the judge remembers between readings. It is small,
// serialisable and additive. The zero value is the evidence of a rollout that
// has read nothing. Judge never changes the evidence it is given; it returns
// its successor.
type Evidence struct {
	// Cursors hold, by metric, the end of the last interval that was consumed.
	// An interval that ends at or before its cursor is never counted again.
	Cursors map[string]time.Time `json:"cursors,omitempty"`
}

// Cursor is the end of the last interval of the metric that was consumed; the
// zero time when none was.
func (e Evidence) Cursor(metric string) time.Time { return e.Cursors[metric] }

// Skip moves the metric's cursor forward to t without consuming anything: what
// lies before is never read again. An earlier t changes nothing.
func (e Evidence) Skip(metric string, t time.Time) Evidence {
	if !t.After(e.Cursors[metric]) {
		return e
	}
	e.Cursors = maps.Clone(e.Cursors)
	if e.Cursors == nil {
		e.Cursors = map[string]time.Time{}
	}
	e.Cursors[metric] = t
	return e
}
