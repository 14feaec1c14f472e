package view_test

import (
	"testing"
	"time"

	"github.com/belayd/belay/rollout/view"
)

// Sentences of the core as somebody reads them who reaches the daemon at another
// address, by the clock on the wall.
func TestTold(t *testing.T) {
	clock := func(at time.Time) string { return at.In(time.FixedZone("", 3600)).Format("15:04") }
	for sentence, want := range map[string]string{
		"Version 7 is in its cooldown until 2026-11-30T11:59:05Z; wait, or clear it with `belay cooldown clear edge/recs --reason '…'`.": "Version 7 is in its cooldown until 12:59; wait, or clear it with `belay cooldown clear edge/recs --reason '…' --server https://b`.",
		"`belay approve r1 --gate g` or `belay reject r1`":               "`belay approve r1 --gate g --server https://b` or `belay reject r1 --server https://b`",
		"Step 2026-11-30T11:59:05Z of version 2026-11-30T11:59:05Z.":     "Step 2026-11-30T11:59:05Z of version 2026-11-30T11:59:05Z.",
		"Waits for the schedule: starts at 2026-11-30T11:59:05.5+02:00.": "Waits for the schedule: starts at 10:59.",
		"it takes no appends since 2026-99-30T11:59:05Z":                 "it takes no appends since 2026-99-30T11:59:05Z",
		"an unclosed `belay status":                                      "an unclosed `belay status --server https://b",
		"by hand: `curl -X PUT`":                                         "by hand: `curl -X PUT`",
		"":                                                               "",
	} {
		if got := view.Told(sentence, " --server https://b", clock); got != want {
			t.Errorf("Told(%q): got %q, want %q", sentence, got, want)
		}
	}
	if got := view.Told("`belay status r1`", "", clock); got != "`belay status r1`" {
		t.Errorf("without flags: got %q, want it as it was", got)
	}
}
