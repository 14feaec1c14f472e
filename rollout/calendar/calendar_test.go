package calendar

import (
	"testing"
	"time"
)

// Clocks are put forward on 29 March and back on 25 October 2026 in Berlin. A schedule
// in the lost hour comes that night, not a week later; one in the hour that comes twice
// comes once.
func TestNextCronSummerTime(t *testing.T) {
	for _, c := range []struct{ name, cron, after, want string }{
		{"in the lost hour", "30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"},
		{"in the lost hour, once a week", "30 2 * * 0", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"},
		{"the day after the lost hour", "30 2 * * *", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"},
		{"before the lost hour", "30 1 * * *", "2026-03-28T12:00:00Z", "2026-03-29T00:30:00Z"},
		{"after the lost hour", "30 3 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"},
		{"in the hour that comes twice", "30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
		{"after the first of the two", "30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"an ordinary day", "30 2 * * *", "2026-06-01T12:00:00Z", "2026-06-02T00:30:00Z"},
		{"never", "0 0 31 2 *", "2026-06-01T12:00:00Z", "0001-01-01T00:00:00Z"},
	} {
		after, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := nextCron(c.cron, "Europe/Berlin", after).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s: %q after %s: got %s, want %s", c.name, c.cron, c.after, got, c.want)
		}
	}
}

// A window that would open in the lost hour is open that night, for as long as ever.
func TestWindowSummerTime(t *testing.T) {
	w := &Windows{Timezone: "Europe/Berlin", Open: []Window{{Cron: "30 2 * * *", For: time.Hour}}}
	for _, c := range []struct {
		at   string
		open bool
		next string
	}{
		{"2026-03-29T01:00:00Z", false, "2026-03-29T01:30:00Z"},
		{"2026-03-29T01:30:00Z", true, ""},
		{"2026-03-29T02:20:00Z", true, ""},
		{"2026-03-29T02:31:00Z", false, "2026-03-30T00:30:00Z"},
		{"2026-10-25T00:40:00Z", true, ""},
		{"2026-10-25T01:40:00Z", false, "2026-10-26T01:30:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		open, next := w.OpenAt(at)
		if open != c.open || !open && next.UTC().Format(time.RFC3339) != c.next {
			t.Errorf("at %s: got open %v, next %s; want %v, %s", c.at, open, next.UTC().Format(time.RFC3339), c.open, c.next)
		}
	}
}
