package policies

import (
	"fmt"
	"slices"

	"github.com/belayd/belay/policies/document"
)

const maxSteps = 50

func (c *checker) steps() {
	s := &c.policy.Document.Spec
	if n := c.policy.at["spec.steps"]; n != nil && n.Shape == document.Sequence && len(s.Steps) == 0 {
		c.report("spec.steps", document.CodeMissing, "needs at least one step")
	}
	if len(s.Steps) > maxSteps {
		c.report("spec.steps", document.CodeBounds, fmt.Sprintf("at most %d steps", maxSteps))
		return
	}
	names := make([]string, len(s.Steps))
	var before ladder
	bakeless := false
	for i := range s.Steps {
		step, at := &s.Steps[i], fmt.Sprintf("spec.steps[%d]", i)
		before = c.rung(before, step, at)
		if step.Name == "" {
			step.Name = before.name
			c.fill(at, "name", step.Name, document.OriginDefault)
		}
		names[i] = step.Name
		c.name(at+".name", step.Name, plainName)
		if c.policy.at[at+".bake"] == nil {
			switch {
			case s.Bake > 0:
				step.Bake = s.Bake
				c.fill(at, "bake", document.FormatDuration(s.Bake), "spec.bake")
			case c.policy.at["spec.bake"] == nil && !bakeless && !c.policy.Base:
				bakeless = true
				c.report(at, document.CodeMissing,
					"nothing says how long the step bakes").Hint = "set spec.bake, for example 30m"
			}
		} else if step.Bake == 0 {
			c.reportGot(at+".bake", document.CodeValue, "must be longer than 0s")
		}
		c.references(at, step)
	}
	if n := c.policy.at["spec.bake"]; n != nil && n.Shape == document.Scalar && s.Bake == 0 && n.Value != "" &&
		n.Value[0] == '0' {
		c.reportGot("spec.bake", document.CodeValue, "must be longer than 0s")
	}
	c.uniqueNames("spec.steps", names)
	c.fromSteps(names)
}

// ladder is what the steps so far have reached.
type ladder struct {
	weight, mirror Percent
	full           bool
	name           string
}

// rung checks one step against those before it and names it.
func (c *checker) rung(l ladder, s *Step, at string) ladder {
	switch {
	case s.Weight != nil:
		w := *s.Weight
		if l.name = w.String(); w < 1 {
			l.name = "" // what cannot be read names nothing
		}
		switch {
		case w < 1 || w > 100:
			c.reportGot(at+".weight", document.CodeValue, "must be from 1% to 100%")
			return l
		case l.full:
			c.reportGot(at+".weight", document.CodeMeaning, "comes after 100%, where the ladder ends")
			return l
		case w < l.weight:
			c.reportGot(at+".weight", document.CodeMeaning, "weights never fall; the step before has "+
				l.weight.String())
			return l
		}
		l.weight, l.full = w, w == 100
	case s.Mirror != nil:
		m := *s.Mirror
		if l.name = "mirror-" + m.String(); m < 1 {
			l.name = ""
		}
		switch {
		case m < 1 || m > 100:
			c.reportGot(at+".mirror", document.CodeValue, "must be from 1% to 100%")
		case l.weight > 0:
			c.reportGot(at+".mirror", document.CodeMeaning, "comes after live traffic; mirroring comes first")
		case m < l.mirror:
			c.reportGot(at+".mirror", document.CodeMeaning, "shares never fall; the step before has "+l.mirror.String())
		}
		l.mirror = m
	}
	return l
}

// references checks the names in a step.
func (c *checker) references(at string, step *Step) {
	s := c.policy.Document.Spec
	var approvals, guardrails []string
	for _, a := range s.Approvals {
		approvals = append(approvals, a.Name)
	}
	for _, g := range s.Guardrails {
		guardrails = append(guardrails, g.Name)
	}
	c.names(at+".requires", "approval", step.Requires, approvals)
	c.names(at+".guardrails", "guardrail", step.Guardrails, guardrails)
}

func (c *checker) names(at, kind string, names, known []string) {
	for i, name := range names {
		where := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case slices.Index(names, name) < i:
			c.reportGot(where, document.CodeDuplicate, "is named twice")
		case !slices.Contains(known, name) && !c.policy.Base:
			p := c.reportGot(where, document.CodeName, "the policy has no such "+kind)
			p.Hint = document.SuggestOrList(name, known)
		}
	}
}

// fromSteps checks the steps that guardrails begin with.
func (c *checker) fromSteps(names []string) {
	for i, g := range c.policy.Document.Spec.Guardrails {
		if g.From == "" || slices.Contains(names, g.From) || c.policy.Base {
			continue
		}
		p := c.reportGot(fmt.Sprintf("spec.guardrails[%d].from", i), document.CodeName, "there is no such step")
		p.Hint = document.SuggestOrList(g.From, names)
	}
}

// stepsOf are the indices of the steps in which a guardrail is judged.
func (s *Spec) stepsOf(g Guardrail) []int {
	from := max(slices.IndexFunc(s.Steps, func(st Step) bool { return st.Name == g.From }), 0)
	out := []int{}
	for i := from; i < len(s.Steps); i++ {
		if list := s.Steps[i].Guardrails; list == nil || slices.Contains(list, g.Name) {
			out = append(out, i)
		}
	}
	return out
}
