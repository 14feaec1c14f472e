package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// String shows the split, heaviest names in order: "blue 95, green 5" or
// "blue 100, mirror green 10".
func (s Split) String() string {
	var parts []string
	weights := positive(s.Weights)
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, weights[name]))
	}
	if len(parts) == 0 {
		parts = append(parts, "traffic off")
	}
	mirror := positive(s.Mirror)
	for _, name := range slices.Sorted(maps.Keys(mirror)) {
		parts = append(parts, fmt.Sprintf("mirror %s %d", name, mirror[name]))
	}
	return strings.Join(parts, ", ")
}

// Quiet of the candidate: it gets neither live nor mirrored traffic.
func (s Split) without(candidate string) bool {
	return s.Weights[candidate] == 0 && s.Mirror[candidate] == 0
}

// allOn sends everything to one deployment.
func allOn(name string) Split { return Split{Weights: map[string]int{name: 100}} }

// target is the split of step i.
func (p *Plan) target(i int, stable string) Split {
	st := p.Steps[i]
	switch {
	case st.Mirror > 0:
		return Split{Weights: map[string]int{stable: 100}, Mirror: map[string]int{p.Release.Candidate: st.Mirror}}
	case st.Weight >= 100:
		return allOn(p.Release.Candidate)
	case st.Weight <= 0:
		return allOn(stable)
	}
	return Split{Weights: map[string]int{stable: 100 - st.Weight, p.Release.Candidate: st.Weight}}
}
