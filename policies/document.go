package policies

import (
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
)

// The words at the head of every file.
const (
	APIVersion = "belay/v1"
	KindPolicy = "RolloutPolicy"
	// KindBase is a policy for others to extend; it may lack what they give.
	KindBase = "PolicyBase"
	// KindTest is a policy test, which package policytest reads.
	KindTest = "PolicyTest"
)

// MaxPolicyNodes is how many values a policy or a policy test may have: people who
// may only look have them checked, and each value costs time.
const MaxPolicyNodes = 4_000

// Document is a policy as a file holds it, with the defaults filled in.
type Document struct {
	APIVersion string   `yaml:"apiVersion" required:"true" enum:"belay/v1" doc:"The version of the policy language."`
	Kind       string   `yaml:"kind" required:"true" enum:"RolloutPolicy,PolicyBase" doc:"RolloutPolicy runs; PolicyBase is only there to be extended and may be incomplete."`
	Extends    []string `yaml:"extends" doc:"Files to start from, relative to this one; later ones and this file win. Guardrails and approvals merge by name, steps replace whole."`
	Locked     []string `yaml:"locked" doc:"Paths below spec that files which extend this one may only tighten, for example guardrails.failures."`
	Metadata   Metadata `yaml:"metadata" required:"true" doc:"Who and what the policy is."`
	Spec       Spec     `yaml:"spec" required:"true" doc:"What the policy does."`
}

// Metadata is who and what the policy is.
type Metadata struct {
	Name        string            `yaml:"name" required:"true" doc:"The name by which releases ask for the policy."`
	Owner       string            `yaml:"owner" required:"true" doc:"The team or person who answers for the policy."`
	Labels      map[string]string `yaml:"labels" doc:"Free labels; they are handed on in messages and events."`
	Annotations map[string]string `yaml:"annotations" doc:"Free annotations; runbook is shown in every page."`
}

// Spec is what the policy does.
type Spec struct {
	Endpoint       Endpoint                `yaml:"endpoint" required:"true" doc:"The endpoint whose traffic is moved."`
	Concurrency    rollout.Concurrency     `yaml:"concurrency" default:"queue" enum:"queue,refuse,supersede" doc:"What a second release for a busy endpoint does: wait its turn, be refused, or take over."`
	Preflight      []Check                 `yaml:"preflight" doc:"Checks that must all pass before any traffic moves."`
	Interval       time.Duration           `yaml:"interval" default:"15s" doc:"How often guardrails are read; at least 1s."`
	Settle         time.Duration           `yaml:"settle" default:"1m" doc:"The time after each weight change in which nothing can pass; it is part of the bake."`
	Bake           time.Duration           `yaml:"bake" doc:"How long a step serves, watched, before it may end; for steps that do not say."`
	MaxExtend      time.Duration           `yaml:"maxExtend" default:"60m" doc:"On top of the bake: how long a step may wait for enough evidence."`
	OnUndecided    rollout.UndecidedPolicy `yaml:"onUndecided" default:"hold" enum:"hold,rollback,promote" doc:"What a step does when maxExtend is over and a guardrail is still undecided."`
	OnNoData       Missing                 `yaml:"onNoData" default:"{after: 2m, then: hold, rollbackAfter: 10m}" doc:"The source answered, and the candidate is missing in the answer."`
	OnSourceError  Missing                 `yaml:"onSourceError" default:"{after: 2m, then: hold, rollbackAfter: never}" doc:"The source did not answer, or only partly."`
	OnSharedBreach analysis.Action         `yaml:"onSharedBreach" default:"hold" enum:"hold,rollback" doc:"What a breach does that stable shows at the same time."`
	Steps          []Step                  `yaml:"steps" required:"true" doc:"The traffic ladder: weights like 5%, or steps with more to say."`
	Metrics        map[string]Metric       `yaml:"metrics" doc:"What guardrails measure; belayd's config may define metrics for all policies."`
	FalseRollback  Fraction                `yaml:"falseRollback" default:"1%" doc:"The chance that a release within all limits is ever rolled back, over the whole rollout."`
	Guardrails     []Guardrail             `yaml:"guardrails" required:"true" doc:"Metrics with limits; breaking one rolls back, holds or pages."`
	Budget         *Budget                 `yaml:"budget" doc:"Failures in excess of stable's rate that the whole rollout may cost; spent, it is rolled back."`
	Approvals      []Approval              `yaml:"approvals" doc:"Gates that people open; steps name them in requires."`
	Windows        *Windows                `yaml:"windows" doc:"When forward steps may start; a rollback is never gated."`
	Schedule       *Schedule               `yaml:"schedule" doc:"A release waits, and the newest waiting one starts then."`
	Rollback       Rollback                `yaml:"rollback" default:"{}" doc:"How a rollback is verified and what follows it."`
	Page           []string                `yaml:"page" doc:"Notifiers that call a human, in the order in which they are tried."`
	Notify         []string                `yaml:"notify" doc:"Notifiers that are told, each of them."`
}

// Endpoint is the endpoint whose traffic is moved.
type Endpoint struct {
	Router          string                `yaml:"router" required:"true" doc:"A router of belayd's config."`
	Name            string                `yaml:"name" required:"true" doc:"The endpoint's name there."`
	Stable          string                `yaml:"stable" default:"auto" doc:"The deployment that serves; auto is the one that has 100% when the rollout starts."`
	OnForeignChange rollout.ForeignPolicy `yaml:"onForeignChange" default:"hold" enum:"hold,adopt,restore,rollback" doc:"What a change of the traffic leads to that Belay did not make: hold and page, adopt the split as the step's, restore it once, or roll back."`
}

// Missing is what happens when readings are missing.
type Missing struct {
	After         time.Duration   `yaml:"after" doc:"How long readings may be missing, counted from the last usable one; then applied at most one interval and the call's timeout later. Data that are older than onNoData.after when they come are missing."`
	Then          analysis.Action `yaml:"then" enum:"hold,rollback,page" doc:"What happens then."`
	RollbackAfter Patience        `yaml:"rollbackAfter" doc:"How much later it is rolled back, counted through late data and changing causes; never is a choice."`
}

// Step is a weight (or a mirror share) plus the time it bakes.
type Step struct {
	Name       string        `yaml:"name" doc:"How people call the step; not given, it is its weight."`
	Weight     *Percent      `yaml:"weight" oneof:"share" doc:"The candidate's share of live traffic."`
	Mirror     *Percent      `yaml:"mirror" oneof:"share" doc:"The candidate's share of mirrored traffic, whose answers nobody sees."`
	Bake       time.Duration `yaml:"bake" doc:"How long the step serves, watched; not given, spec.bake."`
	Requires   []string      `yaml:"requires" doc:"Approvals that must be given before the step starts."`
	Guardrails []string      `yaml:"guardrails" doc:"The guardrails that are judged in this step; not given, all of them."`
}

func (*Step) ShorthandKey() string { return "weight" }

// Metric says what to ask a source. Expressions may contain ${endpoint},
// ${deployment}, ${stable}, ${candidate}, ${role}, ${version} and ${window}.
type Metric struct {
	Source    string     `yaml:"source" required:"true" doc:"A metric source of belayd's config."`
	Counts    *Counts    `yaml:"counts" oneof:"kind" doc:"Exact counters: bad of total, or good of total."`
	Histogram *Histogram `yaml:"histogram" oneof:"kind" doc:"A classic or native histogram of latencies."`
	Mean      *Mean      `yaml:"mean" oneof:"kind" doc:"A mean, by how many, their sum and the sum of their squares."`
	Value     *Value     `yaml:"value" oneof:"kind" doc:"A plain number; only thresholds can be judged on it."`
	Builtin   string     `yaml:"builtin" oneof:"kind" doc:"A ready-made definition, for example azureml/failures."`
	// Roles and Deployments say what the source calls the deployments.
	Roles       map[string]string `yaml:"roles" doc:"What ${role} stands for, by stable and candidate: {stable: primary, candidate: canary}. Without it, these two words."`
	Deployments map[string]string `yaml:"deployments" doc:"The names by which the source knows deployments that it does not call as the router does, by the router's name: {blue: recs-blue-7f9}. They stand for ${deployment}, ${stable} and ${candidate} and in the label that names the deployment."`
}

// Counts are exact counters: bad of total, or good of total.
type Counts struct {
	Total      string        `yaml:"total" oneof:"of" doc:"The counter of all events."`
	Per        time.Duration `yaml:"per" oneof:"of" doc:"Instead of total: the time of one instance (of the deployment, without instance) that the bad ones are counted against, 1h for restarts an hour; the limit is a number of them, and <= 0 allows none at all. The counter has to stand there while nothing happens."`
	Bad        string        `yaml:"bad" oneof:"part" doc:"The counter of the bad ones."`
	Good       string        `yaml:"good" oneof:"part" doc:"The counter of the good ones."`
	Deployment string        `yaml:"deployment" required:"true" doc:"The label that names the deployment. Empty quotes where each expression names its deployment by ${deployment}, ${role} or ${version}; an expression that names none then counts both deployments as one."`
	Instance   string        `yaml:"instance" doc:"The label that tells instances apart, for dispersion and single bad nodes; where clients stick to a deployment, rather the one by which the router splits them, like the bucket of a cookie."`
}

// Histogram is a classic or native histogram of latencies.
type Histogram struct {
	Series     string `yaml:"series" required:"true" doc:"The histogram's name with its matchers, without _bucket."`
	Unit       string `yaml:"unit" required:"true" enum:"s,ms" doc:"The unit of the bucket bounds."`
	Deployment string `yaml:"deployment" required:"true" doc:"The label that names the deployment. Empty quotes where each expression names its deployment by ${deployment}, ${role} or ${version}; an expression that names none then counts both deployments as one."`
	Instance   string `yaml:"instance" doc:"The label that tells instances apart, or by which the router splits clients."`
}

// Mean is a mean by its three sums.
type Mean struct {
	Count        string `yaml:"count" required:"true" doc:"The counter of events."`
	Sum          string `yaml:"sum" required:"true" doc:"The counter of their sum."`
	SumOfSquares string `yaml:"sumOfSquares" doc:"The counter of the sum of their squares; without it their spread is estimated from how instances and scrapes differ."`
	Deployment   string `yaml:"deployment" required:"true" doc:"The label that names the deployment. Empty quotes where each expression names its deployment by ${deployment}, ${role} or ${version}; an expression that names none then counts both deployments as one."`
	Instance     string `yaml:"instance" doc:"The label that tells instances apart, or by which the router splits clients."`
}

// Value is a plain number for one deployment.
type Value struct {
	Query string `yaml:"query" required:"true" doc:"The question, with ${deployment} in it."`
}

// Guardrail is a metric with a limit.
type Guardrail struct {
	Name        string            `yaml:"name" required:"true" doc:"How people call the guardrail."`
	Metric      string            `yaml:"metric" required:"true" doc:"A metric of this policy or of belayd's config, or builtin/FAMILY/NAME."`
	Source      string            `yaml:"source" doc:"With builtin/…: the metric source to ask."`
	Quantile    Quantile          `yaml:"quantile" doc:"For histograms: p95 and the like."`
	Limit       LimitText         `yaml:"limit" required:"true" doc:"What must hold: <= 1%, <= 450ms, >= 0.98x stable, <= 1.2x stable or 1% (which need not be kept below 1%)."`
	Detect      Quantity          `yaml:"detect" doc:"The smallest regression that must be caught, beyond the limit and without operator: 2x stable."`
	OnBreach    analysis.Action   `yaml:"onBreach" default:"rollback" enum:"rollback,hold,page,note" doc:"What breaking the limit does; note is a dry run: it is counted, shown and journalled, and nothing rests on the guardrail, not even a step's end."`
	Evidence    analysis.Required `yaml:"evidence" default:"required" enum:"required,optional" doc:"required: a step ends only on pass; optional: pass or undecided is enough, no-data and errors never."`
	Test        analysis.Test     `yaml:"test" enum:"sequential,threshold" doc:"sequential judges by anytime-valid evidence (the default); threshold compares each reading with the limit (the default for plain values)."`
	BreachAfter KofN              `yaml:"breachAfter" doc:"For thresholds: how many of the last readings must break the limit; 3 of 5 when not given."`
	From        string            `yaml:"from" doc:"The first step in which the guardrail is judged."`
}

// Budget bounds the failures that a rollout may cost.
type Budget struct {
	Metric string  `yaml:"metric" required:"true" doc:"A metric of counts."`
	AtMost float64 `yaml:"atMost" required:"true" doc:"How many bad events in excess of stable's rate."`
}
