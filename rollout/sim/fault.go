package sim

import (
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/deployment"
	"github.com/belayd/belay/rollout/failure"
)

// Faults decide what goes wrong in a world.
type Faults interface {
	// Append is asked at every append: whether the daemon crashes, and whether the
	// append happened.
	Append(w *World, r *Run, n int) Crash
	// Restart is how long the daemon stays away after a crash.
	Restart(w *World) time.Duration
	// Shift is asked at every write of traffic, Split at every read.
	Shift(w *World, wr Write) ShiftFault
	Split(w *World) *failure.Failure
	// Read replaces a reading; nil leaves it.
	Read(w *World, r *Run, q analysis.Query) *analysis.Reading
	// Hangs is asked at every reading of the metrics: whether it is never answered.
	Hangs(w *World, r *Run) bool
	// Notify is asked at every message.
	Notify(w *World, notifier string) *failure.Failure
	// Checks are the preflight's results.
	Checks(w *World, r *Run) []check.Result
	// Describe is what the router tells of the deployments; nil is nothing.
	Describe(w *World, r *Run) map[string]deployment.Fact
	// Clock is what the daemon's wall clock shows.
	Clock(w *World) time.Time
}

// Crash says what a crash at an append loses.
type Crash int

// The crashes.
const (
	NoCrash Crash = iota
	// CrashBefore: the append did not happen.
	CrashBefore
	// CrashAfter: the append happened and its answer was lost.
	CrashAfter
	// StoreAway: the append did not happen, and the daemon goes on without.
	StoreAway
)

// A ShiftFault is what becomes of a write.
type ShiftFault struct {
	// Apply: the write takes effect, after Delay.
	Apply bool
	Delay time.Duration
	// Unfenced: a delayed write lands whatever the split is by then, as an API
	// without versions lets it.
	Unfenced bool
	// Failure is what the caller hears; nil is success.
	Failure *failure.Failure
}

// Fine is a world in which nothing goes wrong; embed it to override.
type Fine struct{}

// Append never crashes.
func (Fine) Append(*World, *Run, int) Crash { return NoCrash }

// Restart takes five seconds.
func (Fine) Restart(*World) time.Duration { return 5 * time.Second }

// Shift applies every write.
func (Fine) Shift(*World, Write) ShiftFault { return ShiftFault{Apply: true} }

// Split can always be read.
func (Fine) Split(*World) *failure.Failure { return nil }

// Read leaves every reading as it is.
func (Fine) Read(*World, *Run, analysis.Query) *analysis.Reading { return nil }

// Hangs answers every reading.
func (Fine) Hangs(*World, *Run) bool { return false }

// Notify delivers every message.
func (Fine) Notify(*World, string) *failure.Failure { return nil }

// Checks find nothing to complain of.
func (Fine) Checks(*World, *Run) []check.Result { return nil }

// Describe tells nothing.
func (Fine) Describe(*World, *Run) map[string]deployment.Fact { return nil }

// Clock shows the world's time.
func (Fine) Clock(w *World) time.Time { return w.Now }
