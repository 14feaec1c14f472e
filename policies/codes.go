package policies

import (
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/policies/document"
)

// The codes of warnings: what is legal and probably unwise.
const (
	WarnUnresolved     = "W100"
	WarnFullUnwatched  = "W101"
	WarnNothingDecides = "W102"
	WarnNotJudged      = "W103"
	WarnThresholdCount = "W104"
	WarnNoQuantile     = "W105"
	WarnNearDetect     = "W106"
	WarnSameForBoth    = "W107"
	WarnEveryEndpoint  = "W108"
	WarnUnusedMetric   = "W109"
	WarnShortBake      = "W110"
	WarnBigFirstStep   = "W111"
	WarnShortLadder    = "W112"
	WarnUndecided      = "W113"
	WarnMissing        = "W114"
	WarnManyFalse      = "W115"
	WarnMirror         = "W116"
	WarnNoCounter      = "W117"
	WarnUnit           = "W118"
	WarnInexact        = "W119"
	WarnQuorum         = "W120"
	WarnUnusedGate     = "W121"
	WarnSelfApproval   = "W122"
	WarnFrozen         = "W123"
	WarnDialect        = "W124"
	WarnEitherDay      = "W125"
	WarnFixedZone      = "W126"
	WarnNoZone         = "W127"
	WarnPastFreeze     = "W128"
	WarnFlaps          = "W129"
	WarnNoPage         = "W130"
	WarnNoRunbook      = "W131"
	WarnNoWayBack      = "W132"
	WarnCountsFrom     = "W133"
	WarnLastCompared   = "W134"
	WarnNoInstance     = "W136"
	WarnNobody         = "W137"
	WarnDirection      = "W135"
)

// descriptions say what the codes mean.
var descriptions = map[string]string{
	document.CodeSyntax:    "The file is not one YAML document.",
	document.CodeBounds:    "The input is too large or nested too deep.",
	document.CodeRefused:   "Anchors, aliases, merge keys and tags are not part of the language.",
	document.CodeUnknown:   "There is no such key.",
	document.CodeDuplicate: "A key or a name is given twice.",
	document.CodeMissing:   "Something required is missing.",
	document.CodeValue:     "A value cannot be read.",
	document.CodeName:      "Nothing defines this name.",
	document.CodeMeaning:   "Values contradict each other.",
	document.CodeFile:      "A file cannot be read.",
	document.CodeLocked:    "A file that is extended locks this value.",
	WarnUnresolved:         "Only belayd's config can define this name.",
	WarnFullUnwatched: "At 100% stable has no traffic to compare with, and no required guardrail of the step is " +
		"absolute.",
	WarnNothingDecides: "No guardrail of the step is required, so time alone ends it.",
	WarnNotJudged:      "The guardrail is judged in no step.",
	WarnThresholdCount: "A threshold compares a windowed rate with a limit at every look, which rolls healthy " +
		"releases back; counts carry evidence.",
	WarnNoQuantile: "Azure Monitor's p95 is the mean of each minute's p95 and no quantile of the whole.",
	WarnNearDetect: "The regression that must be caught lies so close to the limit that proving its absence " +
		"takes very much traffic.",
	WarnSameForBoth: "The query does not name the deployment, so both deployments read the same number.",
	WarnEveryEndpoint: "The expression does not name the endpoint, so it counts every endpoint that has a " +
		"deployment of this name.",
	WarnUnusedMetric: "Nothing uses the metric.",
	WarnShortBake:    "The bake ends before enough readings can have been judged.",
	WarnBigFirstStep: "The first live step already gives the candidate much of the traffic.",
	WarnShortLadder:  "The ladder ends below 100%: what is promoted keeps sharing the traffic.",
	WarnUndecided:    "A step that is still undecided is promoted.",
	WarnMissing:      "Missing readings neither hold nor roll back.",
	WarnManyFalse:    "One release in twenty within all limits, or more, may be rolled back.",
	WarnMirror:       "Azure ML mirrors at most 50%, and never on Kubernetes.",
	WarnNoCounter:    "The name is that of a gauge or of a recorded rate, and what is counted must only rise.",
	WarnUnit:         "The unit contradicts the series' name.",
	WarnInexact:      "The query estimates what Belay can count; only a threshold can be judged on it.",
	WarnDialect:      "The query is none of Prometheus', and what VictoriaMetrics takes beyond it is not checked.",
	WarnEitherDay: "A day of the month and a weekday are given: the expression fires on either, not where " +
		"both meet.",
	WarnFixedZone:    "The time zone never changes to summer time.",
	WarnNoZone:       "No time zone is given, so the times are in UTC.",
	WarnPastFreeze:   "The freeze is over.",
	WarnQuorum:       "The gate needs more people than may answer.",
	WarnUnusedGate:   "No step requires the approval.",
	WarnSelfApproval: "Who asked for the release may approve it.",
	WarnFrozen:       "Every window of the next year lies within a freeze.",
	WarnFlaps:        "It is so short that a single late or missing reading counts as blindness.",
	WarnCountsFrom:   "It counts from when after is over, and not from when the data went missing.",
	WarnNoPage:       "Nobody is called when a human must act.",
	WarnNoRunbook:    "There is no annotation runbook for whoever is called.",
	WarnLastCompared: "At 100% nothing is left to be compared with, so what a release does under nearly all of the " +
		"traffic is to be seen just before, and the longest bake belongs there.",
	WarnNobody: "Nobody can open the gate.",
	WarnNoInstance: "No label tells instances apart, so that events that cluster (one bad node, clients that stick to a " +
		"deployment) look like many independent ones.",
	WarnDirection: "A release as good as stable, or a better one, breaks the limit: it may be on the wrong side.",
	WarnNoWayBack: "Nothing checks before the first step that stable could take all traffic back.",
}

// Describe says in one sentence what a code means; "" when there is no such code.
func Describe(code string) string { return descriptions[code] }

// Codes are the codes of errors and warnings, in their order.
func Codes() []string { return slices.Sorted(maps.Keys(descriptions)) }

// warn reports what is legal and unwise.
func (c *checker) warn(path, code, got, hint string) {
	why := descriptions[code]
	why = strings.ToLower(why[:1]) + strings.TrimSuffix(why[1:], ".")
	if strings.HasPrefix(descriptions[code], "Azure") {
		why = strings.TrimSuffix(descriptions[code], ".")
	}
	p := c.report(path, code, why)
	p.Hint = hint
	if got != "" {
		p.Got = document.Shorten(got)
	}
}
