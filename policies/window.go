package policies

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/belayd/belay/policies/document"
)

// cronParser reads what rollout reads: five fields, nothing else.
var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// parseCron reads a five-field cron expression.
func parseCron(expr string) (cron.Schedule, error) {
	if strings.Contains(expr, "=") {
		return nil, errors.New("the time zone stands in windows.timezone, not in the expression")
	}
	if strings.HasPrefix(strings.TrimSpace(expr), "@") || len(strings.Fields(expr)) != 5 || len(expr) > 200 {
		return nil, errors.New("must have five fields: minute hour day month weekday")
	}
	s, err := cronParser.Parse(expr)
	if err != nil {
		why := "is not a cron expression: " + err.Error()
		if days := strings.Fields(expr)[4]; strings.Contains(days, "7") {
			why += "; Sunday is 0, or SUN"
		}
		return nil, errors.New(why)
	}
	return s, nil
}

// eitherDay reports whether a cron expression limits the day of the month and the
// weekday: it then means either, not both.
func eitherDay(expr string) bool {
	f := strings.Fields(expr)
	free := func(s string) bool { return s == "*" || s == "?" }
	return len(f) == 5 && !free(f[2]) && !free(f[4])
}

// fixedZone matches zones without summer time whose names say a place or an offset
// that people mistake for one with it.
var fixedZone = regexp.MustCompile(`^(EST|MST|HST|Etc/GMT[+-][0-9]{1,2}|GMT[+-]0)$`)

// anchor is a fixed instant from which it is asked whether a cron expression
// ever fires; the parser looks five years ahead, which covers a leap day.
var anchor = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

func neverFires(s cron.Schedule) bool { return s.Next(anchor).IsZero() }

// windows are the policy's windows with their time zone and instants resolved.
type windows struct {
	zone    *time.Location
	freezes []span
}

type span struct{ from, to time.Time }

// loadZone finds an IANA time zone.
func loadZone(name string) (*time.Location, error) {
	if name == "" || strings.EqualFold(name, "local") {
		return nil, errors.New("must be an IANA time zone, for example Europe/Berlin")
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, errors.New("no such time zone; write an IANA name like Europe/Berlin")
	}
	return zone, nil
}

var localLayouts = []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02"}

// parseLocal reads a local time in a zone, or an instant with its own offset.
// Of the two instants that an hour which is repeated has, latest chooses.
func parseLocal(text string, zone *time.Location, latest bool) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range localLayouts {
		t, err := time.ParseInLocation(layout, text, zone)
		if err != nil {
			continue
		}
		if t.Format(layout) != text {
			return time.Time{}, errors.New("this local time does not exist in " + zone.String() +
				" (the clocks jump over it)")
		}
		for _, d := range []time.Duration{-2 * time.Hour, -time.Hour, -30 * time.Minute, 30 * time.Minute, time.Hour,
			2 * time.Hour} {
			if u := t.Add(d); u.Format(layout) == text && u.After(t) == latest {
				t = u
			}
		}
		return t, nil
	}
	return time.Time{}, errors.New("must be a local time like 2026-12-18T00:00")
}

func (c *checker) windows() {
	s := c.policy.Document.Spec
	if s.Schedule != nil && s.Schedule.Cron != "" {
		c.cron("spec.schedule.cron", s.Schedule.Cron)
	}
	if s.Windows == nil {
		return
	}
	for i, w := range s.Windows.Open {
		at := fmt.Sprintf("spec.windows.open[%d]", i)
		if w.Cron != "" {
			c.cron(at+".cron", w.Cron)
		}
		if n := c.policy.at[at+".for"]; n != nil && w.For < time.Minute {
			c.reportGot(at+".for", document.CodeValue, "must be at least 1m")
		}
	}
	if s.Windows.Timezone == "" {
		return
	}
	zone, err := loadZone(s.Windows.Timezone)
	if err != nil {
		c.reportGot("spec.windows.timezone", document.CodeName, err.Error())
		return
	}
	if fixedZone.MatchString(s.Windows.Timezone) {
		c.warn("spec.windows.timezone", WarnFixedZone, s.Windows.Timezone,
			"write a place, for example America/New_York")
	}
	if n := c.policy.at["spec.windows.timezone"]; n != nil && n.Origin == document.OriginDefault {
		c.warn("spec.windows", WarnNoZone, "", "add timezone: Europe/Berlin, or timezone: UTC to say so")
	}
	c.policy.windows = &windows{zone: zone}
	var names []string
	for i, f := range s.Windows.Freezes {
		at := fmt.Sprintf("spec.windows.freezes[%d]", i)
		names = append(names, f.Name)
		from, okFrom := c.instant(at+".from", f.From, zone, false)
		to, okTo := c.instant(at+".to", f.To, zone, true)
		if now := c.now(); okTo && !now.IsZero() && to.Before(now) {
			c.warn(at+".to", WarnPastFreeze, f.To, "remove it, or give it the year to come")
		}
		if okFrom && okTo && !to.After(from) {
			c.reportGot(at+".to", document.CodeMeaning, "must be after from")
		}
		c.policy.windows.freezes = append(c.policy.windows.freezes, span{from, to})
	}
	c.uniqueNames("spec.windows.freezes", names)
}

func (c *checker) instant(at, text string, zone *time.Location, latest bool) (time.Time, bool) {
	if text == "" {
		return time.Time{}, false
	}
	t, err := parseLocal(text, zone, latest)
	if err != nil {
		c.reportGot(at, document.CodeValue, err.Error())
		return time.Time{}, false
	}
	return t, true
}

func (c *checker) cron(at, expr string) {
	s, err := parseCron(expr)
	switch {
	case err != nil:
		c.reportGot(at, document.CodeValue, err.Error())
	case neverFires(s):
		c.reportGot(at, document.CodeMeaning, "no such day ever comes")
	case eitherDay(expr):
		c.warn(at, WarnEitherDay, expr, "leave one of the two as *")
	}
}

// now is when the policy is checked; zero where nobody says.
func (c *checker) now() time.Time {
	if c.env == nil {
		return time.Time{}
	}
	return c.env.Now
}
