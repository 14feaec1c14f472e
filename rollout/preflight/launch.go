package preflight

import (
	"slices"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/split"
)

// launch is the checklist that every rollout must meet: who answers for it, who
// is asked, how to get back without Belay.
func (r Request) launch() []check.Result {
	list := []check.Result{r.owner(), r.approvalContact(), r.rollbackCommand()}
	for i, name := range []string{CheckOwner, CheckApprovalContact, CheckRollbackCommand} {
		list[i].Check = name
	}
	for _, s := range r.Plan.Steps {
		if s.Kind() == split.ShareMirror {
			c := r.mirror(s)
			c.Check = CheckMirror
			return append(list, c)
		}
	}
	return list
}

func (r Request) owner() check.Result {
	const expected = "an owner who answers for the rollout"
	if owner := strings.TrimSpace(r.Plan.Policy.Owner); owner != "" {
		return passed(owner, expected)
	}
	return failed("no owner", expected, "Set metadata.owner of the policy.")
}

// approvalContact: somebody can be asked. Where steps require approvals, each of
// them says whom; otherwise it is the endpoint's approvalContact, the policy's
// annotation of that name, or whoever is paged.
func (r Request) approvalContact() check.Result {
	const expected = "somebody who can be asked about the release"
	var who []string
	for _, a := range r.Plan.Approvals {
		whom := append(append([]string(nil), a.Groups...), a.Users...)
		if a.Channel != "" {
			whom = append(whom, a.Channel)
		}
		if len(whom) == 0 && r.required(a.Name) {
			return failed("approval "+a.Name+" names nobody", expected,
				"Name groups, users or a channel in the approval's from.")
		}
		if len(whom) > 0 {
			who = append(who, a.Name+": "+strings.Join(whom, ", "))
		}
	}
	if len(who) > 0 {
		return passed(strings.Join(who, "; "), expected)
	}
	if contact, ok := r.tag("approvalContact"); ok {
		return passed(contact+" (the endpoint's tag approvalContact)", expected)
	}
	if contact := strings.TrimSpace(r.Plan.Policy.Annotations["approvalContact"]); contact != "" {
		return passed(contact+" (the policy's annotation approvalContact)", expected)
	}
	if len(r.Plan.Page) > 0 {
		return passed("whoever is paged: "+strings.Join(r.Plan.Page, ", "), expected)
	}
	return failed("no approval, no approvalContact and nobody to page", expected,
		"Set page in the policy, or approvalContact in its annotations or in the endpoint's tags.")
}

// required reports whether a step needs the approval.
func (r Request) required(approval string) bool {
	return slices.ContainsFunc(r.Plan.Steps, func(s rollout.Step) bool { return slices.Contains(s.Requires, approval) })
}

// rollbackCommand: people can roll back without Belay.
func (r Request) rollbackCommand() check.Result {
	const expected = "the command by which a person rolls back without Belay"
	if c, ok := r.undescribed(expected); !ok {
		return c
	}
	if r.Stable == "" {
		return failed("no stable deployment to roll back to", expected,
			"Give the deployment that serves now 100% of the traffic.")
	}
	if r.Description.ManualRollback != nil {
		if command := strings.TrimSpace(r.Description.ManualRollback(r.Stable)); command != "" {
			return passed(command, expected)
		}
	}
	return failed("the router knows none", expected, "Use a router that can tell it.")
}

// mirror: the endpoint can do what a mirroring step wants.
func (r Request) mirror(s rollout.Step) check.Result {
	expected := "an endpoint that can mirror, for step " + s.Name
	if c, ok := r.undescribed(expected, "canMirror"); !ok {
		return c
	}
	if !r.Description.CanMirror {
		return failed("an endpoint that cannot mirror", expected, "Take the mirroring steps out of the policy.")
	}
	return passed("an endpoint that can mirror", expected)
}
