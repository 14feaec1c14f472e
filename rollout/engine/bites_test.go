//go:build mutants

package engine

import (
	"testing"

	"github.com/belayd/belay/rollout"
)

// mutate takes a protection away from an engine whose source is mutated.
func mutate(mutant string) func(*Config) {
	return func(c *Config) {
		if c.mutant = mutant; mutant != "twice" {
			return
		}
		// A core that remembers no act.
		c.next = func(p *rollout.Plan, s rollout.State, ev rollout.Event) rollout.State {
			s.Acts = nil
			return rollout.Next(p, s, ev)
		}
	}
}

// Each scene notices the protection that is missing.
func TestScenesBite(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			v := s.violations(t, mutate(s.mutant), s.times)
			if len(v) == 0 {
				t.Fatal("without the protection: got no violation, want some")
			}
			t.Logf("caught: %.200s", v[0])
		})
	}
}

// The same storm notices when a protection is missing.
func TestChaosBites(t *testing.T) {
	for name, m := range map[string]func(*Config){
		"effects before their append":           mutate("eager"),
		"an unknown append taken for a success": mutate("assume"),
		"an act folded in again":                mutate("twice"),
		"no read-back":                          mutate("blind"),
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(300) {
				if v, _ := storm(t, seed, m, map[string]int{}); len(v) > 0 {
					t.Logf("seed %d: %.200s", seed, v[0])
					return
				}
			}
			t.Error("got no violation in 300 seeds, want some")
		})
	}
}
