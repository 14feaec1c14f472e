package policies

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/belayd/belay/policies/document"
)

// enforceLocks reports where a policy loosens what a file that it extends
// locks. A change that is neither tighter nor looser is refused as well: only a
// person could say that it is no loosening.
func (l *loader) enforceLocks(p *Policy, env *Environment) document.Problems {
	var out document.Problems
	for _, base := range l.bases {
		quiet := &checker{fsys: l.fsys, dir: ".", env: env}
		b := quiet.read(base.name, base.tree.Clone(), true)
		var changes []Difference
		if base.name != p.Name {
			changes = Diff(b, p)
		}
		for _, n := range base.paths {
			if why := lockable(b, n.Value); why != "" {
				out = append(out, document.ProblemAt(n, "locked", document.CodeName, why).WithGot(n.Value))
				continue
			}
			out = append(out, broken(p, base.name, n, changes)...)
			if base.name != p.Name {
				out = append(out, evaded(b, p, base.name, n.Value)...)
			}
		}
	}
	return out
}

// broken lists the changes at or below a locked path that are not tighter.
func broken(p *Policy, base string, lock *document.Node, changes []Difference) document.Problems {
	var out document.Problems
	for _, c := range changes {
		if c.Direction == Same || c.Direction == Tighter || !below(c.Path, lock.Value) && !below(lock.Value, c.Path) {
			continue
		}
		path := p.specPath(c.Path)
		pr := document.ProblemAt(p.at.Nearest(path), path, document.CodeLocked,
			fmt.Sprintf("%s locks %s: it may only be tightened, and this is %s", base, lock.Value,
				strings.ToLower(string(c.Direction))))
		pr.Got = document.Shorten(orNone(c.Old) + " → " + orNone(c.New))
		out = append(out, pr)
	}
	return out
}

// evaded finds the ways around a lock that no single value shows: a step that
// does not judge a locked guardrail, a locked gate that no step requires, a step
// that bakes shorter than a locked bake.
func evaded(b, p *Policy, base, lock string) document.Problems {
	var out document.Problems
	report := func(path, why string) {
		out = append(out, document.ProblemAt(p.at.Nearest(path), path, document.CodeLocked,
			fmt.Sprintf("%s locks %s, and %s", base, lock, why)))
	}
	s := &p.Document.Spec
	for _, g := range b.Document.Spec.Guardrails {
		if !below(document.Join("guardrails", g.Name), lock) {
			continue
		}
		i := slices.IndexFunc(s.Guardrails, func(h Guardrail) bool { return h.Name == g.Name })
		first := max(slices.IndexFunc(s.Steps, func(st Step) bool { return st.Name == g.From }), 0)
		for k := first; i >= 0 && k < len(s.Steps); k++ {
			known := slices.ContainsFunc(b.Document.Spec.Steps,
				func(st Step) bool { return st.Name == s.Steps[k].Name })
			if !known && !slices.Contains(s.stepsOf(s.Guardrails[i]), k) {
				report(fmt.Sprintf("spec.steps[%d]", k), "this step does not judge "+g.Name)
			}
		}
	}
	for _, a := range b.Document.Spec.Approvals {
		if below(document.Join("approvals", a.Name), lock) &&
			!slices.ContainsFunc(s.Steps, func(st Step) bool { return slices.Contains(st.Requires, a.Name) }) {
			report("spec.steps", "no step requires "+a.Name)
		}
	}
	for k, st := range s.Steps {
		if lock == "bake" && st.Bake < b.Document.Spec.Bake {
			report(fmt.Sprintf("spec.steps[%d].bake", k), fmt.Sprintf("this step bakes only %s of %s",
				document.FormatDuration(st.Bake), document.FormatDuration(b.Document.Spec.Bake)))
		}
	}
	return out
}

// below reports whether a path is the other one or lies below it.
func below(path, above string) bool { return path == above || strings.HasPrefix(path, above+".") }

// lockable says why a path cannot be locked; "" when it can.
func lockable(b *Policy, path string) string {
	head, rest, _ := strings.Cut(path, ".")
	var names []string
	for _, f := range document.FieldsOf(reflect.TypeFor[Spec]()) {
		names = append(names, f.Name)
	}
	if !slices.Contains(names, head) || head == "metrics" {
		return "there is nothing of this name to lock below spec; " + document.SuggestOrList(head, names)
	}
	name, _, _ := strings.Cut(rest, ".")
	var known []string
	switch head {
	case "guardrails":
		for _, g := range b.Document.Spec.Guardrails {
			known = append(known, g.Name)
		}
	case "approvals":
		for _, a := range b.Document.Spec.Approvals {
			known = append(known, a.Name)
		}
	default:
		return ""
	}
	if name != "" && !slices.Contains(known, name) {
		return "the file locks what it does not have; " + document.SuggestOrList(name, known)
	}
	return ""
}

// specPath turns a change's path, which goes by names, into a path of the file.
func (p *Policy) specPath(path string) string {
	parts := strings.SplitN(path, ".", 3)
	i := -1
	if len(parts) > 1 {
		s := &p.Document.Spec
		switch parts[0] {
		case "guardrails":
			i = slices.IndexFunc(s.Guardrails, func(g Guardrail) bool { return g.Name == parts[1] })
		case "approvals":
			i = slices.IndexFunc(s.Approvals, func(a Approval) bool { return a.Name == parts[1] })
		case "steps":
			i = slices.IndexFunc(s.Steps, func(st Step) bool { return st.Name == parts[1] })
		case "preflight":
			i = slices.IndexFunc(s.Preflight, func(c Check) bool { return c.Check == parts[1] })
		}
	}
	if i < 0 {
		return "spec." + strings.Join(parts, ".")
	}
	out := fmt.Sprintf("spec.%s[%d]", parts[0], i)
	if len(parts) == 3 {
		out += "." + parts[2]
	}
	return out
}
