package document

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Span is a duration that JSON and people write alike: "1h30m". The forecasts'
// -1 is "never".
type Span time.Duration

// MarshalText writes "1h30m" or "never".
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String writes "1h30m" or "never", to the second.
func (s Span) String() string {
	if s == -1 {
		return "never"
	}
	return FormatDuration(time.Duration(s).Round(time.Second))
}

var durationText = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(h|ms|m|s))+$`)

const MaxDuration = 366 * 24 * time.Hour

// ParseDuration reads "30m", "1h30m", "450ms"; the unit is needed.
func ParseDuration(s string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil && s != "" {
		return 0, errors.New("a duration needs a unit (ms, s, m or h), for example 30m")
	}
	if strings.HasSuffix(s, "d") || strings.HasSuffix(s, "w") {
		return 0, errors.New("days and weeks differ in length; write hours, for example 48h")
	}
	if len(s) > 40 || !durationText.MatchString(s) {
		return 0, errors.New("must be a duration with units (ms, s, m or h), for example 30m")
	}
	d, err := time.ParseDuration(s)
	if err != nil || d > MaxDuration {
		return 0, errors.New("must be a duration of at most a year")
	}
	return d, nil
}

// FormatDuration writes a duration as people write it: 30m, 1h30m.
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
