// Package demo is the world of `belay demo`: two model servers, an endpoint that
// splits traffic between them, a load of requests, a pager and a release message,
// all in one process on loopback.
//
// The rules of the package:
//   - Everything in it is real and measured from outside: requests travel over
//     HTTP, counters stand on /metrics, weights are moved over the webhook
//     router's contract or by writes to an emulator of Azure Resource Manager, the
//     release arrives on JetStream.
//   - Belay gets no hint. The policy, the config file and the addresses in it are
//     all that the daemon is given; what makes the demo quick is said in the
//     policy.
//   - Speed divides the policy's durations (except its interval and for how
//     long readings may be missing or undecided), the latencies
//     and the bucket bounds, and multiplies the load. Nothing else.
//
// It does not decide anything about a rollout and holds no rollout code.
package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The names of the demo's little world, as its policy and config use them.
const (
	Endpoint   = "recs"
	Stable     = "blue"
	Candidate  = "green"
	PolicyName = "recommendations"

	routerName   = "edge"
	sourceName   = "pods"
	notifierName = "pager"
	streamName   = "RELEASES"
	subjectRoot  = "models.approved"
	gateName     = "product-owner"
)

// Router is what moves the endpoint's weights.
type Router string

// The routers.
const (
	RouterWebhook Router = "webhook" // the endpoint keeps the webhook router's contract itself
	RouterAzureML Router = "azureml" // an emulator of Azure Resource Manager stands in front of it
)

// Routers lists all routers.
var Routers = []Router{RouterWebhook, RouterAzureML}

// The figures of the healthy world at speed 1.
const (
	requestsPerSecond = 200
	latencyP95        = 180 * time.Millisecond
	latencySigma      = 0.5 // of the logarithm; p99 is then about 250 ms
	latencyLimit      = 450 * time.Millisecond
	failureShare      = 0.0005
	watchedShare      = 0.90
	faultWeight       = 25 // the candidate's percent at which the fault starts
	readInterval      = time.Second
)

// Fault is what goes wrong with the candidate, or around it.
type Fault string

// The faults. All but FaultNone start when the candidate reaches the 25% step.
const (
	FaultNone          Fault = "none"
	FaultFailures      Fault = "failures"       // a fifth of the candidate's requests fail
	FaultLatency       Fault = "latency"        // the candidate takes five times as long
	FaultBusiness      Fault = "business"       // people stop watching what the candidate recommends
	FaultNoData        Fault = "no-data"        // the candidate's metrics vanish
	FaultForeignChange Fault = "foreign-change" // somebody zeroes the endpoint's traffic
)

// Faults lists all faults.
var Faults = []Fault{FaultNone, FaultFailures, FaultLatency, FaultBusiness, FaultNoData, FaultForeignChange}

// ParseFault returns the fault with the name s.
func ParseFault(s string) (Fault, error) {
	if f := Fault(s); slices.Contains(Faults, f) {
		return f, nil
	}
	names := make([]string, len(Faults))
	for i, f := range Faults {
		names[i] = string(f)
	}
	return "", fmt.Errorf("parse fault: got %q, want one of %s", s, strings.Join(names, ", "))
}

// MaxSpeed is the greatest speed: beyond it two cores are busy with the load.
const MaxSpeed = 10

// Speed is how many times faster than usual the world runs.
type Speed float64

// ParseSpeed checks a speed: a number from 0.1 to MaxSpeed.
func ParseSpeed(f float64) (Speed, error) {
	if !(f >= 0.1 && f <= MaxSpeed) {
		return 0, fmt.Errorf("parse speed: got %v, want 0.1 to %d", f, MaxSpeed)
	}
	return Speed(f), nil
}

// scale divides a duration by the speed, to the microsecond.
func (s Speed) scale(d time.Duration) time.Duration {
	return time.Duration(float64(d) / float64(s)).Round(time.Microsecond)
}

// rate is the load in requests per second.
func (s Speed) rate() float64 { return requestsPerSecond * float64(s) }
