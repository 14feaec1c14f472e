package view

import (
	"slices"

	"github.com/belayd/belay/rollout/deployment"
)

// Facts are what a router tells of an endpoint: what checks, plans and people
// need. A fact that it does not tell is named in Unknown, and its field here means
// nothing.
type Facts struct {
	Deployments map[string]Deployment `json:"deployments"`
	Tags        map[string]string     `json:"tags,omitempty"`
	ScoringURI  string                `json:"scoringURI,omitempty"`
	// AuthMode is the endpoint's own word, for example "key".
	AuthMode string `json:"authMode,omitempty"`
	// PublicNetwork: the scoring address can be reached from outside.
	PublicNetwork bool `json:"publicNetwork"`
	CanMirror     bool `json:"canMirror"`
	// Unknown names fields of this type, for example "deployments.green.instances".
	Unknown []string `json:"untold"`
	// ManualRollback holds, by deployment, the command by which a person gives it
	// all the traffic without Belay.
	ManualRollback map[string]string `json:"manualRollback,omitempty"`
}

// A Deployment is a backend behind an endpoint.
type Deployment struct {
	Ready bool `json:"ready"`
	// Reason says why it is not ready.
	Reason string `json:"reason,omitempty"`
	// Instances and Concurrency: how many, and how many requests each takes at a
	// time.
	Instances   int    `json:"instances,omitempty"`
	Concurrency int    `json:"concurrency,omitempty"`
	Version     string `json:"version,omitempty"`
}

// Known are the facts of the deployments as the core knows them; nil where there are
// none.
func (f *Facts) Known() map[string]deployment.Fact {
	if f == nil {
		return nil
	}
	out := map[string]deployment.Fact{}
	for name, d := range f.Deployments {
		known := deployment.Fact{Reason: d.Reason, Version: d.Version}
		if f.tells(name, "ready") {
			known.Ready = map[bool]string{true: deployment.Ready, false: deployment.NotReady}[d.Ready]
		}
		if f.tells(name, "instances") {
			known.Instances = &d.Instances
		}
		out[name] = known
	}
	return out
}

// tells reports whether the router tells this of a deployment.
func (f *Facts) tells(deployment, field string) bool {
	of := "deployments." + deployment
	return !slices.ContainsFunc(f.Unknown, func(u string) bool {
		return u == "deployments" || u == of || u == of+"."+field
	})
}
