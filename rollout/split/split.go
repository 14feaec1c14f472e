// Package split says how an endpoint divides its traffic: the whole of it, a Split, and
// the Share of one deployment. Both are values; nothing here knows who moves traffic.
package split

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
		return Split{Weights: Positive(map[string]int{stable: 100 - s.Weight, candidate: s.Weight})}
	}
	return AllOn(stable)
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
	return maps.Equal(Positive(s.Weights), Positive(t.Weights)) && maps.Equal(Positive(s.Mirror), Positive(t.Mirror))
}

// Clone returns a copy that shares nothing with s.
func (s Split) Clone() Split {
	s.Weights, s.Mirror = maps.Clone(s.Weights), maps.Clone(s.Mirror)
	return s
}

// Positive is m without the names that have 0.
func Positive(m map[string]int) map[string]int {
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
	weights := Positive(s.Weights)
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, weights[name]))
	}
	if len(parts) == 0 {
		parts = append(parts, "traffic off")
	}
	mirror := Positive(s.Mirror)
	for _, name := range slices.Sorted(maps.Keys(mirror)) {
		parts = append(parts, fmt.Sprintf("mirror %s %d", name, mirror[name]))
	}
	return strings.Join(parts, ", ")
}

// Stable resolves which deployment is stable: the one named, or with "auto" the
// one that has all of the traffic. Either must have 100% and not be the
// candidate: Belay starts only from a state to which it can return. The error is
// for people and names the remedy.
func (s Split) Stable(named, candidate string) (string, error) {
	full := ""
	for name, w := range Positive(s.Weights) {
		if w == 100 {
			full = name
		}
	}
	switch {
	case full == "" && named != "" && named != "auto":
		return "", fmt.Errorf("stable %q does not have 100%% of the traffic (%s); give it all of the traffic first", named, s)
	case full == "":
		return "", fmt.Errorf("no deployment has 100%% of the traffic (%s); give it all to the one that serves now", s)
	case full == candidate:
		return "", fmt.Errorf("the candidate %q already has 100%% of the traffic; there is nothing to roll out", candidate)
	case named != "" && named != "auto" && named != full:
		return "", fmt.Errorf("the policy says that stable is %q, but %q has 100%% of the traffic; correct "+
			"endpoint.stable or the traffic", named, full)
	}
	if n := s.Share(candidate).Mirror; n > 0 {
		return "", fmt.Errorf("the candidate %q already gets %d%% of mirrored traffic; end the mirroring first", candidate, n)
	}
	return full, nil
}

// AllOn sends everything to one deployment.
func AllOn(name string) Split { return Split{Weights: map[string]int{name: 100}} }
