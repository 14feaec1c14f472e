package webhook

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout/traffic"
)

// An EndpointState is an endpoint as the contract writes it. A nil map or pointer is a
// fact that is not told.
type EndpointState struct {
	Weights map[string]int `json:"weights"`
	// Mirror is nil where the endpoint cannot mirror.
	Mirror map[string]int `json:"mirror,omitzero"`
	// Version identifies this state: printable ASCII without quotes. Every change
	// of weights or mirror changes it.
	Version     string                `json:"version"`
	Deployments map[string]Deployment `json:"deployments,omitzero"`
	Tags        map[string]string     `json:"tags,omitzero"`
	ScoringURI  *string               `json:"scoringURI,omitempty"`
}

// A Deployment is a backend as the contract writes it; nil is not told.
type Deployment struct {
	Ready *bool `json:"ready,omitempty"`
	// Reason says why it is not ready.
	Reason      string `json:"reason,omitempty"`
	Instances   *int   `json:"instances,omitempty"`
	Concurrency *int   `json:"concurrency,omitempty"`
	// Version is compared with a release's, which is refused where it is another.
	Version *string `json:"version,omitempty"`
}

// check reports what the contract does not allow in a state that was read.
func (s EndpointState) check() error {
	if s.Weights == nil {
		return errors.New(`the state has no "weights"`)
	}
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(s.Weights)) {
		if w := s.Weights[name]; name == "" || w < 0 || w > 100 {
			return fmt.Errorf("weight of %q is %d, want 0 to 100", name, w)
		}
		sum += s.Weights[name]
	}
	if sum != 100 && sum != 0 {
		return fmt.Errorf("weights sum to %d, want 100, or 0 for no traffic", sum)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Mirror)) {
		if m := s.Mirror[name]; name == "" || m < 0 || m > 100 {
			return fmt.Errorf("mirror share of %q is %d, want 0 to 100", name, m)
		}
	}
	return checkVersion(s.Version)
}

// checkVersion reports whether a version can stand in an entity tag.
func checkVersion(version string) error {
	if version == "" {
		return errors.New(`the state has no "version", and writes need one`)
	}
	if len(version) > 256 || strings.ContainsFunc(version, func(r rune) bool {
		return r <= ' ' || r > '~' ||
			r == '"'
	}) {
		return errors.New(`"version" is not at most 256 printable ASCII characters without spaces and quotes`)
	}
	return nil
}

func (s EndpointState) split() traffic.Split {
	weights := traffic.Positive(s.Weights)
	if weights == nil {
		weights = map[string]int{}
	}
	return traffic.Split{Weights: weights, Mirror: traffic.Positive(s.Mirror), Version: s.Version}
}

// describe turns a state into what checks and plans need.
func (s EndpointState) describe() traffic.Description {
	d := traffic.Description{CanMirror: s.Mirror != nil, Tags: s.Tags, Unknown: []string{"authMode", "publicNetwork"}}
	untold := func(told bool, field string) {
		if !told {
			d.Unknown = append(d.Unknown, field)
		}
	}
	untold(s.Tags != nil, "tags")
	untold(s.ScoringURI != nil, "scoringURI")
	if s.ScoringURI != nil {
		d.ScoringURI = *s.ScoringURI
	}
	untold(s.Deployments != nil, "deployments")
	d.Deployments = make(map[string]traffic.Deployment)
	for name, told := range s.Deployments {
		out := traffic.Deployment{Reason: told.Reason}
		field := "deployments." + name
		untold(told.Ready != nil, field+".ready")
		untold(told.Instances != nil, field+".instances")
		untold(told.Concurrency != nil, field+".concurrency")
		untold(told.Version != nil, field+".version")
		if told.Ready != nil {
			out.Ready = *told.Ready
		}
		if told.Instances != nil {
			out.Instances = *told.Instances
		}
		if told.Concurrency != nil {
			out.Concurrency = *told.Concurrency
		}
		if told.Version != nil {
			out.Version = *told.Version
		}
		d.Deployments[name] = out
	}
	for name := range s.Weights {
		if _, told := s.Deployments[name]; !told && s.Deployments != nil {
			untold(false, "deployments."+name)
		}
	}
	slices.Sort(d.Unknown)
	return d
}
