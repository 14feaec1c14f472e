// Package deployment is what a router tells of the deployments behind an endpoint.
package deployment

import (
	"fmt"
	"strings"
)

// A Fact is what the router tells of one deployment. What it does not tell is
// unknown, and nothing is concluded from it.
type Fact struct {
	// Ready is "ready", "not ready", or "" where it is not told; Reason says why it is
	// not.
	Ready  string `json:"ready,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Instances is how many there are; nil where that is not told.
	Instances *int `json:"instances,omitempty"`
	// Version is "" where it is not told.
	Version string `json:"version,omitempty"`
}

// The words of Fact.Ready.
const (
	Ready    = "ready"
	NotReady = "not ready"
)

// Unfit says why a deployment cannot serve; "" when it can, as far as is known.
func (f Fact) Unfit() string {
	switch {
	case f.Ready == NotReady && f.Reason != "":
		return "is not ready: " + f.Reason
	case f.Ready == NotReady:
		return "is not ready"
	case f.Instances != nil && *f.Instances < 1:
		return "has no instances"
	}
	return ""
}

// String is the fact for the record.
func (f Fact) String() string {
	var parts []string
	if f.Ready != "" {
		parts = append(parts, f.Ready)
	}
	if f.Instances != nil {
		parts = append(parts, fmt.Sprintf("%d instances", *f.Instances))
	}
	if f.Version != "" {
		parts = append(parts, "version "+f.Version)
	}
	if len(parts) == 0 {
		return "not told by the router"
	}
	return strings.Join(parts, ", ")
}

// SameVersion reports whether a router and a release mean one version: the router may say
// of what it is one, as in "ranker:17", and either may lead with a v.
func SameVersion(told, released string) bool {
	plain := func(v string) string { return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(v)), "v") }
	return plain(told) == plain(released) || plain(told[strings.LastIndex(told, ":")+1:]) == plain(released)
}
