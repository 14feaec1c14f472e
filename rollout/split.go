package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Share is the part of an endpoint's traffic that one deployment gets, in percent: the
// one type for it, wherever a step or a split says how much the candidate gets. A share
// of a step is of one kind; whatever differs by kind switches over it.
type Share struct {
	// Weight is the share of live traffic, Mirror that of mirrored traffic, whose answers
	// nobody sees. At most one of a step's is above 0.
	Weight int `json:"weight"`
	Mirror int `json:"mirror,omitempty"`
}

// ShareKind is the kind of traffic of which a step gives the candidate a share.
type ShareKind string

// The kinds of shares.
const (
	ShareLive   ShareKind = "live"
	ShareMirror ShareKind = "mirror"
)

// ShareOf is the share of a kind; percent is from 0 to 100.
func ShareOf(kind ShareKind, percent int) Share {
	switch kind {
	case ShareLive:
		return Share{Weight: percent}
	case ShareMirror:
		return Share{Mirror: percent}
	}
	panic("rollout: no such kind of share: " + string(kind))
}

// Kind is of which traffic the share is; a share of nothing is one of live traffic.
func (s Share) Kind() ShareKind {
	if s.Mirror > 0 {
		return ShareMirror
	}
	return ShareLive
}

// Percent is how much the candidate must carry, of whatever kind.
func (s Share) Percent() int {
	switch s.Kind() {
	case ShareLive:
		return s.Weight
	case ShareMirror:
		return s.Mirror
	}
	return 0
}

// None reports whether the deployment gets neither live nor mirrored traffic.
func (s Share) None() bool { return s == Share{} }

// Words is the share for people: "5%" or "mirror 10%".
func (s Share) Words() string {
	switch s.Kind() {
	case ShareLive:
		return fmt.Sprintf("%d%%", s.Weight)
	case ShareMirror:
		return fmt.Sprintf("mirror %d%%", s.Mirror)
	}
	return ""
}

// Split is the whole endpoint's split that gives the candidate this share and stable all
// the rest.
func (s Share) Split(stable, candidate string) Split {
	switch s.Kind() {
	case ShareMirror:
		return Split{Weights: map[string]int{stable: 100}, Mirror: map[string]int{candidate: s.Mirror}}
	case ShareLive:
		return Split{Weights: positive(map[string]int{stable: 100 - s.Weight, candidate: s.Weight})}
	}
	return allOn(stable)
}

// A Split is how an endpoint divides its traffic, in percent by deployment.
// Deployments with 0 are left out.
type Split struct {
	Weights map[string]int `json:"weights"`
	Mirror  map[string]int `json:"mirror,omitempty"`
	// Version identifies this state of the endpoint where its API has versions.
	// Two splits with equal weights and mirrors are equal whatever their versions.
	Version string `json:"version,omitempty"`
}

// Equal reports whether both splits send the same traffic to everyone.
func (s Split) Equal(t Split) bool {
	return maps.Equal(positive(s.Weights), positive(t.Weights)) && maps.Equal(positive(s.Mirror), positive(t.Mirror))
}

// Clone returns a copy that shares nothing with s.
func (s Split) Clone() Split {
	s.Weights, s.Mirror = maps.Clone(s.Weights), maps.Clone(s.Mirror)
	return s
}

func positive(m map[string]int) map[string]int {
	out := make(map[string]int, len(m))
	for k, v := range m {
		if v != 0 {
			out[k] = v
		}
	}
	return out
}

// Share is what one deployment gets, of live and of mirrored traffic.
func (s Split) Share(deployment string) Share {
	return Share{Weight: s.Weights[deployment], Mirror: s.Mirror[deployment]}
}

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

// allOn sends everything to one deployment.
func allOn(name string) Split { return Split{Weights: map[string]int{name: 100}} }

// target is the split of step i.
func (p *Plan) target(i int, stable string) Split {
	return p.Steps[i].Split(stable, p.Release.Candidate)
}
