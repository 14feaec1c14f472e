package rollout

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/realtest/goldentest"
)

// everyKind are the kinds of events that are on the map, commands apart.
var everyKind = on(EventStarted, EventClaimed, EventQueued, EventRefused, EventReleased, EventPreflighted, EventTraffic, EventMeasured,
	EventDelivered, EventUndelivered, EventAnswered, EventSuperseded, EventSuspected, EventWoken)

// Each event in each phase is decided by exactly one line of the map: something is done,
// or it is said why nothing is. Of each phase it is known what time may do.
func TestEveryPairIsDecided(t *testing.T) {
	lines := map[Phase]map[trigger]int{}
	for i, tr := range transitions {
		if (tr.do == nil) == (tr.ignored == "") {
			t.Errorf("line %d: got both or neither of what is done and why nothing is", i+1)
		}
		for _, p := range tr.in {
			if lines[p] == nil {
				lines[p] = map[trigger]int{}
			}
			for _, on := range tr.on {
				lines[p][on]++
			}
		}
	}
	for _, p := range slices.Concat([]Phase{""}, Phases) {
		for _, on := range slices.Concat(everyKind, everyOrder) {
			if n := lines[p][on]; n != 1 {
				t.Errorf("%v in phase %q: got %d lines, want 1", on, p, n)
			}
		}
		if n, want := len(lines[p]), len(everyKind)+len(everyOrder); n != want {
			t.Errorf("phase %q: got %d events, want the %d that there are", p, n, want)
		}
		if _, known := inTime[p]; !known {
			t.Errorf("phase %q: it is not said where time leads", p)
		}
	}
}

// The map is printed into testdata/transitions.md, by phase: what each event does, and
// where it may lead.
func TestMap(t *testing.T) {
	var out strings.Builder
	out.WriteString("What each event does in each phase, and to which phases it may lead; - is nothing, and why.\n" +
		"Written by `go test ./rollout -run TestMap -update`.\n")
	for _, p := range slices.Concat([]Phase{""}, Phases) {
		fmt.Fprintf(&out, "\n## %s\n\n| event | does | leads to |\n|---|---|---|\n", orNone(string(p), "not begun"))
		for _, on := range slices.Concat(everyKind, everyOrder) {
			tr := charted[p][on]
			does := "- " + strings.ReplaceAll(tr.ignored, "{phase}", string(p))
			if tr.do != nil {
				name := runtime.FuncForPC(reflect.ValueOf(tr.do).Pointer()).Name()
				does = name[strings.LastIndex(name, ".")+1:]
			}
			fmt.Fprintf(&out, "| %s%s | %s | %s |\n", on.kind, prefixed(" ", string(on.command)), does, listed(tr.to))
		}
		fmt.Fprintf(&out, "| time | | %s |\n", listed(inTime[p]))
	}
	goldentest.Check(t, "testdata/transitions.md", out.String())
}

func orNone(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func listed(ps []Phase) string {
	var names []string
	for _, p := range ps {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}
