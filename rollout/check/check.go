// Package check is what a policy wants checked before any traffic moves, and what was found.
// It is plain data; rollout/preflight makes the checks.
package check

import (
	"fmt"
	"time"
)

// A Check is one preflight check. Kind is the policy's word: ready,
// rollback-ready, capacity, fresh-metrics, tags, invoke, refuses-anonymous.
type Check struct {
	Kind string `json:"check"`
	// Headroom, of capacity: percent on top of the largest step.
	Headroom int `json:"headroom,omitempty"`
	// Within, of ready: how long the candidate is waited for, 0 not at all; of
	// fresh-metrics: the age allowed; of invoke: the latency allowed.
	Within time.Duration `json:"within,omitempty"`
	// Required, of tags.
	Required []string `json:"required,omitempty"`
	// Method, Body, Status and Schema (a JSON Schema), of invoke.
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Body   []byte `json:"body,omitempty"`
	Status int    `json:"status,omitempty"`
	Schema []byte `json:"schema,omitempty"`
}

// A Result is what a preflight check found.
type Result struct {
	Check    string `json:"check"`
	OK       bool   `json:"ok"`
	Found    string `json:"found"`
	Expected string `json:"expected"`
	Remedy   string `json:"remedy,omitempty"`
	// Transient: the check could not be made; trying again may help.
	Transient bool `json:"transient,omitempty"`
	// Awaited: the candidate is not ready yet; it may become so. The policy's check
	// ready says how long it is waited for.
	Awaited bool `json:"awaited,omitempty"`
}

// A Remedy is what makes failed checks pass.
type Remedy int

// The remedies, the one that takes most first.
const (
	RemedyPerson Remedy = iota // somebody has to do something
	RemedyReady                // the candidate becomes ready
	RemedyRetry                // none of them could be made: the next try
)

// Failures are the failed checks' sentences, and what makes all of them pass. Those
// that could not be made are left out where others failed.
func Failures(checks []Result) (sentences []string, by Remedy) {
	var unmade []string
	by = RemedyRetry
	for _, c := range checks {
		if c.OK {
			continue
		}
		text := fmt.Sprintf("Check %s: found %s, expected %s.", c.Check, c.Found, c.Expected)
		if c.Remedy != "" {
			text += " Remedy: " + c.Remedy
		}
		switch {
		case c.Transient:
			unmade = append(unmade, text)
			continue
		case c.Awaited:
			by = min(by, RemedyReady)
		default:
			by = RemedyPerson
		}
		sentences = append(sentences, text)
	}
	if len(sentences) == 0 {
		return unmade, by
	}
	return sentences, by
}
