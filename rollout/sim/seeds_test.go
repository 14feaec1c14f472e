package sim_test

import (
	"flag"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/sim"
)

var (
	seeds = flag.Int("seeds", 1000, "worlds to simulate")
	seed  = flag.Uint64("seed", 0, "simulate only the world of this seed, and print it")
)

// TestSeeds simulates worlds with random policies, releases, faults, people and
// foreign writers, and holds every invariant at every event. The seed of a world
// that breaks one is printed: -seed N tells its story again.
func TestSeeds(t *testing.T) {
	if *seed != 0 {
		w := newChaos(*seed, nil)
		w.world.Watch = narrate(t, w.world.Watch)
		w.run()
		t.Logf("seed %d: %v, violations %v", *seed, w.phases(), w.inv.Violations)
		return
	}
	injected, ends := map[string]int{}, map[rollout.Phase]int{}
	bad, longest, beyond, events := 0, time.Duration(0), 0.0, 0
	for s, w := range worlds(*seeds) {
		for k, n := range w.injected {
			injected[k] += n
		}
		for _, r := range w.world.Runs {
			ends[r.State.Phase]++
		}
		events = max(events, len(w.world.Journal))
		longest, beyond = max(longest, w.inv.Longest), max(beyond, w.inv.Beyond)
		if vs := w.inv.Violations; len(vs) > 0 {
			bad++
			t.Errorf("seed %d: %s", s, told(vs))
			if bad >= 5 {
				t.Fatal("stopped after five worlds with violations")
			}
		}
	}
	t.Logf("%d seeds, %d worlds with violations; faults injected: %s; rollouts ended: %s",
		*seeds, bad, counts(injected), counts(ends))
	t.Logf("events of the busiest world: %d, of %d that it may have", events, eventsMost)
	t.Logf("the longest from the last usable reading until it was held, or people were called: %s; "+
		"beyond the rule's `after` at most %.0f%% of what is allowed, one interval and the call's timeout",
		longest.Round(time.Millisecond), 100*beyond)
}

// worlds runs the worlds of the seeds 1 to n, as many at a time as there are
// processors, and gives them in their order.
func worlds(n int) iter.Seq2[int, *chaos] {
	return func(yield func(int, *chaos) bool) {
		ahead := runtime.GOMAXPROCS(0)
		running := make(chan chan *chaos, ahead)
		done := make(chan struct{})
		defer close(done)
		go func() {
			defer close(running)
			for s := 1; s <= n; s++ {
				out := make(chan *chaos, 1)
				select {
				case running <- out:
				case <-done:
					return
				}
				go func() {
					w := newChaos(uint64(s), nil)
					w.run()
					out <- w
				}()
			}
		}()
		s := 0
		for out := range running {
			if s++; !yield(s, <-out) {
				return
			}
		}
	}
}

// told are the violations of a world, a line each.
func told(vs []sim.Violation) string {
	var lines []string
	for _, v := range vs {
		lines = append(lines, v.String())
	}
	return strings.Join(lines, "\n\t")
}

// TestMutants removes one protection at a time: the invariant that it is about must
// notice.
func TestMutants(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := mutants[name]
			for s := rare[name] + 1; s <= rare[name]+400; s++ {
				w := newChaos(s, m.next)
				w.run()
				for _, v := range w.inv.Violations {
					if v.Name == m.breaks {
						t.Logf("caught at seed %d: %s", s, v)
						return
					}
				}
			}
			t.Errorf("400 worlds did not notice that the protection is gone")
		})
	}
}

func counts[K ~string](m map[K]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

func narrate(t *testing.T, next func(*sim.World, *sim.Run, sim.Line)) func(*sim.World, *sim.Run, sim.Line) {
	return func(w *sim.World, r *sim.Run, l sim.Line) {
		next(w, r, l)
		for _, d := range l.Decisions {
			t.Logf("%s %s %-14s %s", w.Now.Format("15:04:05.000"), r.Plan.ID, d.Kind, d.Sentence)
		}
		if f := l.Event.Failure; f != nil {
			t.Logf("%s %s (%s failed: %s)", w.Now.Format("15:04:05.000"), r.Plan.ID, l.Event.Kind, f.Message)
		}
	}
}
