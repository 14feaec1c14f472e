package events

import (
	"time"

	"github.com/belayd/belay/rollout"
)

// The versions of CDEvents that are written: of the specification, and of its
// three events of a service.
const (
	cdSpec    = "0.5.0"
	cdService = "0.3.0"
)

// A cdEvent is an event of a service as CDEvents 0.5 writes it. Weights have no
// place there; they stand in the custom data.
type cdEvent struct {
	Context     cdContext `json:"context"`
	Subject     cdSubject `json:"subject"`
	CustomData  Data      `json:"customData"`
	ContentType string    `json:"customDataContentType"`
}

type cdContext struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Timestamp   time.Time `json:"timestamp"`
	// ChainID ties the events of one rollout together.
	ChainID string `json:"chainId"`
}

type cdSubject struct {
	ID      string    `json:"id"`
	Source  string    `json:"source"`
	Content cdContent `json:"content"`
}

type cdContent struct {
	Environment cdEnvironment `json:"environment"`
	ArtifactID  string        `json:"artifactId"`
}

type cdEnvironment struct {
	ID string `json:"id"`
}

// cdEventOf makes a CDEvent about the service that an endpoint is.
func cdEventOf(id, source, predicate string, p *rollout.Plan, at time.Time, data Data) cdEvent {
	return cdEvent{
		Context: cdContext{
			SpecVersion: cdSpec, ID: id, Source: source, Type: "dev.cdevents.service." + predicate + "." + cdService,
			Timestamp: at.UTC(), ChainID: p.ID,
		},
		Subject: cdSubject{
			ID: p.Endpoint.Router + "/" + p.Endpoint.Name, Source: source,
			Content: cdContent{Environment: cdEnvironment{ID: p.Release.Environment}, ArtifactID: p.Release.Artifact},
		},
		CustomData: data, ContentType: "application/json",
	}
}
