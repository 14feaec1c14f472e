package preflight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/traffic"
)

// ready: the candidate is provisioned and healthy. One that is not there, not healthy or
// without instances may become so: that is awaited.
func (r Request) ready() check.Result {
	name := r.Plan.Release.Candidate
	c := r.healthy(name, fmt.Sprintf("the candidate %s provisioned and healthy", name),
		"Deploy it and wait until it is ready, then start the release again.")
	return r.staffed(c, name, "Give it the instances that its first step needs, then start the release again.")
}

// rollbackReady: stable exists, is healthy and could take 100% back.
func (r Request) rollbackReady() check.Result {
	const expected = "a stable deployment that is healthy and could take 100% back"
	if r.Stable == "" {
		return failed("no deployment that is stable", expected,
			"Give the deployment that serves now 100% of the traffic, or name it in endpoint.stable.")
	}
	c := r.healthy(r.Stable, expected, "Repair it first: without it there is nothing to roll back to.")
	return r.staffed(c, r.Stable, "Give it the instances that it needs for all of the traffic.")
}

// staffed is the check c of a deployment that is healthy, unless it has no instances.
func (r Request) staffed(c check.Result, name, remedy string) check.Result {
	n := r.Description.Deployments[name].Instances
	if !c.OK || r.untold("deployments."+name+".instances") || n > 0 {
		return c
	}
	return early(fmt.Sprintf("%s with %d instances", name, n), c.Expected, remedy)
}

// healthy says whether a deployment is there and ready.
func (r Request) healthy(name, expected, remedy string) check.Result {
	field := "deployments." + name
	if c, ok := r.undescribed(expected, field, field+".ready"); !ok {
		return c
	}
	d, ok := r.Description.Deployments[name]
	if !ok {
		return r.missing(name, expected)
	}
	if !d.Ready {
		found := name + " is not ready"
		if d.Reason != "" {
			found += ": " + d.Reason
		}
		return early(found, expected, remedy)
	}
	found := name + " is ready"
	if d.Version != "" {
		found += " at version " + d.Version
	}
	return passed(found, expected)
}

// missing is the result where a deployment does not exist; one that differs in
// case alone is named.
func (r Request) missing(name, expected string) check.Result {
	names := slices.Sorted(maps.Keys(r.Description.Deployments))
	for _, other := range names {
		if strings.EqualFold(name, other) {
			return failed(fmt.Sprintf("no deployment %s, but %s", name, other), expected,
				fmt.Sprintf("Spell it %q.", other))
		}
	}
	there := "there is none"
	if len(names) > 0 {
		there = "there are " + strings.Join(names, ", ")
	}
	return early(fmt.Sprintf("no deployment %s; %s", name, there), expected,
		"Deploy it, or correct the name in the release.")
}

// capacity: the candidate can carry its largest step with headroom. What the
// whole of the traffic needs is not known; that stable carries it is. So the
// candidate needs stable's places (instances × concurrency) times its largest
// share plus headroom, and never more than stable has.
func (r Request) capacity(c check.Check) check.Result {
	candidate := r.Plan.Release.Candidate
	share := 0
	for _, s := range r.Plan.Steps {
		share = max(share, s.Percent())
	}
	expected := fmt.Sprintf("room in %s for %d%% of the traffic plus %d%% headroom", candidate, share, c.Headroom)
	if r.Stable == "" {
		return failed("no stable deployment to compare it with", expected,
			"Give the deployment that serves now 100% of the traffic.")
	}
	var fields []string
	for _, name := range []string{candidate, r.Stable} {
		fields = append(fields, "deployments."+name, "deployments."+name+".instances", "deployments."+name+".concurrency")
	}
	if c, ok := r.undescribed(expected, fields...); !ok {
		return c
	}
	for _, name := range []string{candidate, r.Stable} {
		if _, ok := r.Description.Deployments[name]; !ok {
			return r.missing(name, expected)
		}
	}
	has, stable := r.Description.Deployments[candidate], r.Description.Deployments[r.Stable]
	whole := places(stable)
	need := min((whole*share*(100+c.Headroom)+9999)/10000, whole)
	expected = fmt.Sprintf("at least %d requests at a time: %d%% of the traffic plus %d%% headroom, where %s carries "+
		"all of it with %s",
		need, share, c.Headroom, r.Stable, sized(stable))
	found := candidate + " takes " + sized(has)
	if places(has) < need || places(has) < 1 {
		return failed(found, expected, "Give the candidate more instances or concurrency, or lower the steps.")
	}
	return passed(found, expected)
}

// places is how many requests a deployment takes at a time.
func places(d traffic.Deployment) int { return max(d.Instances, 0) * max(d.Concurrency, 0) }

func sized(d traffic.Deployment) string {
	return fmt.Sprintf("%d (%d instances × %d)", places(d), d.Instances, d.Concurrency)
}

// tags: the endpoint carries the tags that the policy requires.
func (r Request) tags(c check.Check) check.Result {
	expected := "the endpoint's tags " + strings.Join(c.Required, ", ")
	if c, ok := r.undescribed(expected, "tags"); !ok {
		return c
	}
	var missing, there []string
	for _, tag := range c.Required {
		if value, ok := r.tag(tag); ok {
			there = append(there, tag+"="+value)
		} else {
			missing = append(missing, tag)
		}
	}
	if len(missing) > 0 {
		return failed("no value for "+strings.Join(missing, ", "), expected, "Set the missing tags at the endpoint.")
	}
	return passed(strings.Join(there, ", "), expected)
}

// tag is a tag's value that is not blank. Names are compared as they are
// written, and without regard to case where that finds nothing.
func (r Request) tag(name string) (string, bool) {
	value, ok := r.Description.Tags[name]
	if !ok {
		for _, other := range slices.Sorted(maps.Keys(r.Description.Tags)) {
			if strings.EqualFold(other, name) {
				value = r.Description.Tags[other]
				break
			}
		}
	}
	value = strings.TrimSpace(value)
	return value, value != ""
}
