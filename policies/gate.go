package policies

import (
	"time"

	"github.com/belayd/belay/rollout/approval"
)

// Check is one preflight check.
type Check struct {
	Check    string         `yaml:"check" required:"true" enum:"ready,rollback-ready,capacity,fresh-metrics,tags,invoke,refuses-anonymous" doc:"What is checked."`
	Headroom *Percent       `yaml:"headroom" doc:"capacity: what must be left on top of the largest step; 30% when not given."`
	Within   time.Duration  `yaml:"within" doc:"ready: how long a release that comes before its deployment is ready waits for it, 10m when not given, 0s not at all; fresh-metrics: the age allowed, 5m when not given."`
	Required []string       `yaml:"required" doc:"tags: the tags that the endpoint must have."`
	Request  *SampleRequest `yaml:"request" doc:"invoke: the sample request that is sent to the candidate."`
	Expect   *Expect        `yaml:"expect" doc:"invoke: what must come back."`
}

// SampleRequest is a sample request.
type SampleRequest struct {
	File   string `yaml:"file" doc:"The body, a file relative to the policy."`
	Method string `yaml:"method" enum:"GET,POST,PUT" doc:"POST when there is a file, else GET."`
	Path   string `yaml:"path" doc:"The path below the scoring address."`
}

// Expect is what a sample request must bring back.
type Expect struct {
	Status int           `yaml:"status" default:"200" doc:"The HTTP status."`
	Within time.Duration `yaml:"within" doc:"The latency allowed."`
	Schema string        `yaml:"schema" doc:"A JSON Schema of the answer, a file relative to the policy."`
}

// Approval describes a gate that people open.
type Approval struct {
	Name     string                `yaml:"name" required:"true" doc:"How steps and people call the gate."`
	From     From                  `yaml:"from" required:"true" doc:"Who is asked, and where."`
	Quorum   int                   `yaml:"quorum" default:"1" doc:"How many distinct people must say yes."`
	NotBy    []string              `yaml:"notBy" default:"[requester]" doc:"Who may not approve: requester, which also means whom it acted for."`
	Expires  time.Duration         `yaml:"expires" default:"4h" doc:"How long the question stands."`
	OnExpiry approval.ExpiryPolicy `yaml:"onExpiry" default:"hold" enum:"hold,rollback" doc:"What happens when nobody answered in time."`
}

// From is who is asked, and where.
type From struct {
	Notifier string   `yaml:"notifier" doc:"The notifier through which people are asked."`
	Channel  string   `yaml:"channel" doc:"The channel there."`
	Groups   []string `yaml:"groups" doc:"Groups whose members may answer."`
	Users    []string `yaml:"users" doc:"People who may answer."`
}

// Windows are when forward steps may start.
type Windows struct {
	Timezone string   `yaml:"timezone" default:"UTC" doc:"An IANA time zone, for example Europe/Berlin."`
	Open     []Window `yaml:"open" doc:"When steps may start; not given, always."`
	Freezes  []Freeze `yaml:"freezes" doc:"When no step starts, whatever is open."`
}

// Window opens at each instant of a cron expression, for a while.
type Window struct {
	Cron string        `yaml:"cron" required:"true" doc:"When it opens: minute hour day month weekday."`
	For  time.Duration `yaml:"for" required:"true" doc:"For how long."`
}

// Freeze is a span in which no step starts.
type Freeze struct {
	Name string `yaml:"name" required:"true" doc:"Why nothing moves then."`
	From string `yaml:"from" required:"true" doc:"Local time in the policy's time zone, 2026-12-18T00:00."`
	To   string `yaml:"to" required:"true" doc:"The first instant that is open again."`
}

// Schedule starts the newest waiting release.
type Schedule struct {
	Cron string `yaml:"cron" required:"true" doc:"When: minute hour day month weekday, in the time zone of windows, or UTC."`
}

// Rollback says how a rollback is verified and what follows it.
type Rollback struct {
	VerifyWithin time.Duration `yaml:"verifyWithin" default:"2m" doc:"By when stable must be read back at 100%."`
	Cooldown     time.Duration `yaml:"cooldown" default:"24h" doc:"How long the same version is refused afterwards."`
}
