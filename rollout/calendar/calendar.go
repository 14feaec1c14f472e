// Package calendar says when steps and releases may start: in windows, outside of freezes,
// at a schedule's instants, by the clocks of a time zone and through summer time.
package calendar

import (
	"time"

	"github.com/robfig/cron/v3"
)

// Windows are when forward steps may start.
type Windows struct {
	// Timezone is an IANA name.
	Timezone string   `json:"timezone"`
	Open     []Window `json:"open,omitempty"`
	Freezes  []Freeze `json:"freezes,omitempty"`
}

// A Window opens at each instant of a five-field cron expression, for a while.
type Window struct {
	Cron string        `json:"cron"`
	For  time.Duration `json:"for"`
}

// A Freeze is a span in which no step starts: [From, To).
type Freeze struct {
	Name string    `json:"name"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Schedule starts the newest waiting release at each instant of a cron
// expression, in the time zone of the policy's windows or UTC.
type Schedule struct {
	Cron     string `json:"cron"`
	Timezone string `json:"timezone,omitempty"`
}

// OpenAt reports whether a step may start at the instant, and otherwise when the
// next one may (the zero time: not within five years). No windows are always
// open; without `open` only the freezes close.
func (w *Windows) OpenAt(at time.Time) (open bool, next time.Time) {
	if w == nil {
		return true, time.Time{}
	}
	loc := location(w.Timezone)
	limit := at.AddDate(5, 0, 0)
	t := at
	for range 1000 {
		if f, frozen := w.frozen(t); frozen {
			t = f.To
			continue
		}
		if w.within(t.In(loc)) {
			return t.Equal(at), t
		}
		t = w.opens(t.In(loc))
		if t.IsZero() || t.After(limit) {
			return false, time.Time{}
		}
	}
	return false, time.Time{}
}

// frozen is the freeze that holds at t.
func (w *Windows) frozen(t time.Time) (Freeze, bool) {
	for _, f := range w.Freezes {
		if !t.Before(f.From) && t.Before(f.To) {
			return f, true
		}
	}
	return Freeze{}, false
}

// within reports whether one of the windows is open at t.
func (w *Windows) within(t time.Time) bool {
	if len(w.Open) == 0 {
		return true
	}
	for _, o := range w.Open {
		s, err := cron.ParseStandard(o.Cron)
		if err != nil {
			continue
		}
		if began := nextWall(s, t.Add(-o.For)); !began.IsZero() && !began.After(t) {
			return true
		}
	}
	return false
}

// opens is when the next window opens after t.
func (w *Windows) opens(t time.Time) time.Time {
	var first time.Time
	for _, o := range w.Open {
		s, err := cron.ParseStandard(o.Cron)
		if err != nil {
			continue
		}
		if n := nextWall(s, t); !n.IsZero() && (first.IsZero() || n.Before(first)) {
			first = n
		}
	}
	return first
}

// Next is the first instant of the schedule after t; zero when it never comes.
func (s Schedule) Next(t time.Time) time.Time { return nextCron(s.Cron, s.Timezone, t) }

// nextCron is the first instant of the expression after t, in the zone; zero
// when it does not parse or never comes.
func nextCron(expr, zone string, t time.Time) time.Time {
	s, err := cron.ParseStandard(expr)
	if err != nil {
		return time.Time{}
	}
	return nextWall(s, t.In(location(zone)))
}

// nextWall is the first instant of the schedule after t, by the clocks of t's zone. An
// instant in the hour that summer time leaves out comes as much later as the clocks
// are put forward (02:30 at 03:30); of an hour that comes twice the first counts.
func nextWall(s cron.Schedule, t time.Time) time.Time {
	_, before := t.Add(-24 * time.Hour).Zone()
	_, now := t.Zone()
	wall := t.UTC().Add(time.Duration(min(before, now)) * time.Second) // from before the lost hour, where there is one
	for range 200 {
		if wall = s.Next(wall); wall.IsZero() {
			return wall
		}
		if at := atWall(wall, t.Location()); at.After(t) {
			return at
		}
	}
	return time.Time{}
}

// atWall is the first instant at which the zone's clocks show what wall shows in UTC, or,
// where they leave it out, the one at which they would have without being put forward.
func atWall(wall time.Time, loc *time.Location) time.Time {
	_, before := wall.Add(-24 * time.Hour).In(loc).Zone()
	_, after := wall.Add(24 * time.Hour).In(loc).Zone()
	early := wall.Add(-time.Duration(before) * time.Second).In(loc)
	late := wall.Add(-time.Duration(after) * time.Second).In(loc)
	if early.Hour() == wall.Hour() && early.Minute() == wall.Minute() || late.Hour() != wall.Hour() ||
		late.Minute() != wall.Minute() {
		return early
	}
	return late
}

// location is the named zone, or UTC when there is none of that name: the policy
// parser refuses such names, so that is unreachable unless the zone data differ.
func location(name string) *time.Location {
	if name == "" {
		return time.UTC
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC
	}
	return loc
}
