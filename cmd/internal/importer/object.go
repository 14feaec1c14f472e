package importer

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// An object is one document, with what of it was understood.
type object struct {
	file, kind, name string
	root             field
	used             map[*yaml.Node]bool
	// isTemplate: it is read by the objects that name it; referred: one did.
	isTemplate, referred bool
}

// A field is a place in an object; its node is nil where there is none.
type field struct {
	x    *object
	n    *yaml.Node
	path string
	// key is where the field's name stands.
	key *yaml.Node
}

// is reports whether there is such a field.
func (f field) is() bool { return f.n != nil }

func (f field) line() int {
	switch {
	case f.key != nil:
		return f.key.Line
	case f.n != nil:
		return f.n.Line
	}
	return 1
}

// maxDepth bounds how deep aliases lead.
const maxDepth = 16

// resolved follows aliases.
func resolved(n *yaml.Node) *yaml.Node {
	for range maxDepth {
		if n == nil || n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return nil
}

// at is a field of a mapping; reading it is what understands it.
func (f field) at(key string) field {
	out := field{x: f.x, path: strings.TrimPrefix(f.path+"."+key, ".")}
	n := resolved(f.n)
	if n == nil || n.Kind != yaml.MappingNode {
		return out
	}
	f.x.used[n] = true
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			out.key, out.n = n.Content[i], resolved(n.Content[i+1])
			return out
		}
	}
	return out
}

// items are the parts of a sequence.
func (f field) items() []field {
	n := resolved(f.n)
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	f.x.used[n] = true
	out := make([]field, 0, len(n.Content))
	for i, c := range n.Content {
		if c = resolved(c); c != nil {
			out = append(out, field{x: f.x, n: c, path: fmt.Sprintf("%s[%d]", f.path, i)})
		}
	}
	return out
}

// text is a scalar's; "" for what is none.
func (f field) text() string {
	n := resolved(f.n)
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	f.x.used[n] = true
	return strings.TrimSpace(n.Value)
}

// number is a scalar's, with or without a percent sign.
func (f field) number() (float64, bool) {
	x, err := strconv.ParseFloat(strings.TrimSuffix(f.text(), "%"), 64)
	return x, err == nil && x == x && x > -1e15 && x < 1e15
}

// take marks a field as dealt with, with all that is in it.
func (f field) take() {
	f.x.mark(f.n, 0)
}

func (x *object) mark(n *yaml.Node, depth int) {
	if n == nil || depth > 100 || x.used[n] && n.Kind != yaml.MappingNode && n.Kind != yaml.SequenceNode {
		return
	}
	x.used[n] = true
	for _, c := range n.Content {
		x.mark(c, depth+1)
	}
}

// whole notes an object of which nothing is used.
func (x *object) whole(im *importer, why string) {
	im.note(field{x: x, n: x.root.n, path: ""}, why)
	x.root.take()
}

// leftovers notes what nobody has read: each subtree once, where it begins.
func (x *object) leftovers(im *importer) {
	if x.isTemplate && !x.referred {
		x.whole(im, fmt.Sprintf("no imported object refers to the template %q; its metrics are left out", x.name))
		return
	}
	for _, name := range []string{"apiVersion", "kind", "metadata", "status"} {
		x.root.at(name).take()
	}
	x.unread(im, x.root, 0)
}

func (x *object) unread(im *importer, f field, depth int) {
	n := resolved(f.n)
	if n == nil || depth > 100 {
		return
	}
	if !x.used[n] {
		im.note(f, reason(f.path))
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			x.unread(im, field{x: x, n: n.Content[i+1], key: key, path: strings.TrimPrefix(f.path+"."+key.Value, ".")},
				depth+1)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			x.unread(im, field{x: x, n: c, path: fmt.Sprintf("%s[%d]", f.path, i)}, depth+1)
		}
	case yaml.ScalarNode, yaml.AliasNode, yaml.DocumentNode:
	}
}

// reasons are why fields have no counterpart, by the end of their path.
var reasons = []struct{ end, why string }{
	{"spec.template", "Belay deploys nothing: the deployment that is released is there before the rollout starts"},
	{"spec.workloadRef", "Belay deploys nothing: the deployment that is released is there before the rollout starts"},
	{"spec.targetRef", "Belay deploys nothing: the deployment that is released is there before the rollout starts"},
	{"spec.autoscalerRef", "Belay scales nothing; the preflight check capacity says whether the candidate can carry " +
		"the traffic"},
	{"spec.replicas", "Belay scales nothing; the preflight check capacity says whether the candidate can carry the " +
		"traffic"},
	{"spec.selector", "Belay deploys nothing"},
	{"spec.revisionHistoryLimit", "Belay keeps no revisions; its journal keeps every rollout"},
	{"progressDeadlineSeconds", "a release waits for its deployment by the preflight check ready"},
	{"minReadySeconds", "a release waits for its deployment by the preflight check ready"},
	{"trafficRouting", "the traffic is moved by a router of belayd's config"},
	{"canaryService", "the traffic is moved by a router of belayd's config"},
	{"stableService", "the traffic is moved by a router of belayd's config"},
	{"spec.service", "the traffic is moved by a router of belayd's config"},
	{"spec.provider", "the traffic is moved by a router of belayd's config"},
	{"setCanaryScale", "Belay scales nothing"},
	{"dynamicStableScale", "Belay scales nothing: stable keeps the instances that take the traffic back"},
	{"scaleDownDelaySeconds", "Belay scales nothing: stable keeps the instances that take the traffic back"},
	{"abortScaleDownDelaySeconds", "Belay scales nothing"},
	{"maxSurge", "Belay deploys nothing"},
	{"maxUnavailable", "Belay deploys nothing"},
	{"antiAffinity", "Belay deploys nothing"},
	{"canaryMetadata", "Belay deploys nothing; metrics tell deployments apart by the label that `deployment:` names"},
	{"stableMetadata", "Belay deploys nothing; metrics tell deployments apart by the label that `deployment:` names"},
	{"setHeaderRoute", "traffic is divided by weight and mirror alone, not by header"},
	{"experiment", "there is no experiment beside the rollout"},
	{"match", "traffic is divided by weight and mirror alone, not by header"},
	{"sessionAffinity", "stickiness is the router's; name the label by which it splits as `instance:` of the metrics"},
	{"blueGreen", "blue-green is the ladder 100%; a preview is a mirror step"},
	{"progressDeadlineAbort", "a rollout that cannot go on is held, and a person decides"},
	{"skipAnalysis", "guardrails are never skipped; `belay skip` is an act with a name and a reason"},
	{"revertOnDeletion", "Belay deletes nothing"},
	{"suspend", "`belay pause` pauses a rollout"},
	{"alerts", "messages go to the notifiers that `notify` and `page` name"},
	{"webhooks", "Belay calls no hooks of a step; see the notes on each"},
	{"dryRun", "a guardrail on which nothing rests has `onBreach: note`"},
	{"measurementRetention", "the journal keeps every reading that decided"},
	{"count", "evidence decides, not a number of measurements"},
	{"initialDelay", "`settle` is the time after a change in which nothing can pass"},
	{"inconclusiveLimit", "`onUndecided` says what happens when the evidence is not enough"},
	{"consecutiveErrorLimit", "`onSourceError` says what happens when the source does not answer"},
	{"consecutiveSuccessLimit", "evidence decides, not a number of measurements"},
	{"threshold", "evidence decides, not a number of failed checks; `falseRollback` is the chance of a wrong rollback"},
	{"failureLimit",
		"evidence decides, not a number of failed checks; `falseRollback` is the chance of a wrong rollback"},
}

// reason is why what stands at the path was left.
func reason(path string) string {
	for _, r := range reasons {
		if path == r.end || strings.HasSuffix(path, "."+r.end) {
			return r.why
		}
	}
	return "Belay has no counterpart"
}
