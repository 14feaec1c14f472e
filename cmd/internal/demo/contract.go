package demo

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// deploymentHeader picks a deployment whatever the weights, for checks that try
// the candidate before it has traffic.
const deploymentHeader = "X-Deployment"

// contract serves the endpoint to clients and, below /endpoints, its weights as
// the webhook router's contract has it.
type contract struct {
	endpoint *endpoint
	versions map[string]string // of the deployments
	base     string            // the address it is reached at
}

// stateJSON is an endpoint's state as the contract has it.
type stateJSON struct {
	Weights     map[string]int            `json:"weights"`
	Mirror      map[string]int            `json:"mirror"`
	Version     string                    `json:"version"`
	Deployments map[string]deploymentJSON `json:"deployments"`
	Tags        map[string]string         `json:"tags"`
	ScoringURI  string                    `json:"scoringURI"`
}

type deploymentJSON struct {
	Ready       bool   `json:"ready"`
	Instances   int    `json:"instances"`
	Concurrency int    `json:"concurrency"`
	Version     string `json:"version"`
}

// handler serves the contract and the traffic.
func (c *contract) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /endpoints", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, map[string][]string{"endpoints": {Endpoint}})
	})
	mux.HandleFunc("GET /endpoints/{name}", c.get)
	mux.HandleFunc("PUT /endpoints/{name}", c.put)
	mux.HandleFunc("/score", c.score)
	return mux
}

// score serves a client, or a check that names its deployment.
func (c *contract) score(w http.ResponseWriter, r *http.Request) {
	if name := r.Header.Get(deploymentHeader); name != "" {
		c.endpoint.direct(name, w, r)
		return
	}
	c.endpoint.ServeHTTP(w, r)
}

func (c *contract) get(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("name") != Endpoint {
		http.Error(w, "no such endpoint", http.StatusNotFound)
		return
	}
	answerJSON(w, c.state(c.endpoint.read()))
}

// put changes the weights where If-Match names the present version.
func (c *contract) put(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("name") != Endpoint {
		http.Error(w, "no such endpoint", http.StatusNotFound)
		return
	}
	version := -1
	if match := r.Header.Get("If-Match"); match != "" && match != "*" {
		v, err := strconv.Atoi(strings.Trim(match, `"`))
		if err != nil || v < 0 {
			http.Error(w, "the version in If-Match is not one of ours", http.StatusPreconditionFailed)
			return
		}
		version = v
	}
	var body struct {
		Weights map[string]int `json:"weights"`
		Mirror  map[string]int `json:"mirror"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&body); err != nil || body.Weights == nil {
		http.Error(w, "the body is not {\"weights\": …}", http.StatusBadRequest)
		return
	}
	if len(body.Mirror) > 0 {
		http.Error(w, "this endpoint cannot mirror traffic", http.StatusUnprocessableEntity)
		return
	}
	now, err := c.endpoint.set(body.Weights, version)
	switch {
	case errors.Is(err, errVersion):
		http.Error(w, err.Error(), http.StatusPreconditionFailed)
	case err != nil:
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	default:
		answerJSON(w, c.state(now))
	}
}

func (c *contract) state(s split) stateJSON {
	out := stateJSON{
		Weights: s.weights, Mirror: map[string]int{}, Version: strconv.Itoa(s.version),
		Deployments: map[string]deploymentJSON{},
		Tags:        map[string]string{"owner": "team-recommendations"},
		ScoringURI:  c.base + "/score",
	}
	for name, v := range c.versions {
		out.Deployments[name] = deploymentJSON{Ready: true, Instances: 1, Concurrency: maxInFlight, Version: v}
	}
	return out
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone; there is nobody to tell
}
