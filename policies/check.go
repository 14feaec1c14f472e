package policies

import (
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies/document"
)

// A checker finds what is wrong with a policy's meaning and fills in the
// defaults that depend on other values.
type checker struct {
	fsys     fs.FS
	dir      string
	env      *Environment
	policy   *Policy
	problems document.Problems
	// standIns are metrics for tests that have no config at hand.
	standIns map[string]Metric
	// warned are the names that only a config could define and that were
	// reported once.
	warned map[string]bool
}

func (c *checker) report(path, code, why string) *document.Problem {
	if len(c.problems) > document.MaxProblems && (strings.HasPrefix(code, "W") || c.problems.HasErrors()) {
		return &document.Problem{} // it would not be shown, and changes nothing
	}
	c.problems = append(c.problems, document.ProblemAt(c.policy.at.Nearest(path), path, code, why))
	return &c.problems[len(c.problems)-1]
}

// reportGot reports a value with what stands there.
func (c *checker) reportGot(path, code, why string) *document.Problem {
	p := c.report(path, code, why)
	if n := c.policy.at[path]; n != nil {
		p.Got = document.Shorten(n.Text())
	}
	return p
}

// fill sets a key that the policy does not give, in the tree as well, so that
// render can show it with its origin.
func (c *checker) fill(parent, key, value, origin string) {
	n := c.policy.at[parent]
	if n == nil || n.Shape != document.Mapping || n.Child(key) != nil {
		return
	}
	v := document.Derived(n, value, origin)
	n.Set(document.Derived(n, key, origin), v)
	c.policy.at[document.Join(parent, key)] = v
}

func (c *checker) check() {
	c.policy.metrics, c.policy.files, c.warned = map[string]resolvedMetric{}, map[string][]byte{}, map[string]bool{}
	c.metadata()
	c.times()
	c.approvals()
	c.metrics()
	c.guardrails()
	c.steps()
	c.budget()
	c.patience()
	c.windows()
	c.preflight()
	c.notifiers()
	if e := c.env; c.policy.Document.Spec.Endpoint.Router != "" {
		c.configName("spec.endpoint.router", "router", c.policy.Document.Spec.Endpoint.Router, routersOf(e))
	}
}

func routersOf(e *Environment) []string {
	if e == nil {
		return nil
	}
	return slices.Collect(maps.Keys(e.Routers))
}

// configName checks a name that only belayd's config defines.
func (c *checker) configName(path, kind, name string, known []string) {
	switch {
	case c.env == nil:
		if c.warned[kind+name] {
			return
		}
		c.warned[kind+name] = true
		p := c.report(path, WarnUnresolved, "only belayd's config can define this "+kind)
		p.Got, p.Hint = document.Shorten(name), "check with --config FILE"
	case !slices.Contains(known, name):
		p := c.report(path, document.CodeName, "belayd's config defines no such "+kind)
		p.Got, p.Hint = document.Shorten(name), document.SuggestOrList(name, known)
	}
}

var (
	policyName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	plainName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9 ._%/-]{0,61}[A-Za-z0-9%])?$`)
)

func (c *checker) name(path, name string, pattern *regexp.Regexp) {
	if n := c.policy.at[path]; name == "" && n != nil && n.Origin == "" {
		c.report(path, document.CodeValue, "has no value").Hint = "give it a name of letters, digits, dots and dashes"
		return
	}
	if name != "" && !pattern.MatchString(name) {
		p := c.reportGot(path, document.CodeValue, "is not a name: letters, digits, dots and dashes, at most 63")
		if p.Got == "" {
			p.Got = document.Shorten(name)
		}
	}
}

func (c *checker) metadata() {
	m := c.policy.Document.Metadata
	c.name("metadata.name", m.Name, policyName)
	if _, ok := c.policy.at["metadata.owner"]; ok && strings.TrimSpace(m.Owner) == "" {
		c.reportGot("metadata.owner", document.CodeValue, "somebody has to answer for the policy")
	} else if strings.ContainsFunc(m.Owner, notPrintable) {
		c.reportGot("metadata.owner", document.CodeValue,
			"must be one line of printable characters: it stands in every page")
	}
	for _, key := range []string{"spec.endpoint.name", "spec.endpoint.router", "spec.endpoint.stable"} {
		if n := c.policy.at[key]; n != nil && n.Shape == document.Scalar &&
			strings.ContainsFunc(n.Value, notPrintable) || n != nil && n.Tag == "!!str" && n.Value == "" {
			c.reportGot(key, document.CodeValue, "must be a name of printable characters")
		}
	}
}

func notPrintable(r rune) bool { return r < ' ' || r == 0x7f }

func (c *checker) times() {
	s := c.policy.Document.Spec
	if _, ok := c.policy.at["spec.interval"]; ok && s.Interval < time.Second {
		c.reportGot("spec.interval", document.CodeValue, "must be at least 1s")
	}
	if n := c.policy.at["spec.falseRollback"]; n != nil && (s.FalseRollback <= 0 || s.FalseRollback > 0.5) {
		c.reportGot("spec.falseRollback", document.CodeValue, "must lie above 0% and at most at 50%")
	}
	if n := c.policy.at["spec.rollback.verifyWithin"]; n != nil && s.Rollback.VerifyWithin <= 0 {
		c.reportGot("spec.rollback.verifyWithin", document.CodeValue, "must be longer than 0s")
	}
}

// uniqueNames reports names given twice in a list and returns all of them.
func (c *checker) uniqueNames(list string, names []string) []string {
	seen := map[string]bool{}
	for i, name := range names {
		if name != "" && seen[name] {
			p := c.report(fmt.Sprintf("%s[%d].name", list, i), document.CodeDuplicate, "the name is given twice")
			p.Got = document.Shorten(name)
		}
		seen[name] = true
	}
	return names
}

func (c *checker) approvals() {
	as := c.policy.Document.Spec.Approvals
	names := make([]string, len(as))
	for i, a := range as {
		at := fmt.Sprintf("spec.approvals[%d]", i)
		names[i] = a.Name
		c.name(at+".name", a.Name, plainName)
		if a.Quorum < 1 || a.Quorum > 20 {
			c.reportGot(at+".quorum", document.CodeValue, "must be a number of people from 1 to 20")
		}
		if n := c.policy.at[at+".expires"]; n != nil && a.Expires < time.Minute && n.Origin == "" {
			c.reportGot(at+".expires", document.CodeValue, "must be at least 1m: people have to answer")
		}
		for j, who := range a.NotBy {
			if who != "requester" {
				c.reportGot(fmt.Sprintf("%s.notBy[%d]", at, j), document.CodeValue,
					"can only be requester").Hint = document.Suggest(who, []string{"requester"})
			}
		}
		if a.From.Notifier != "" {
			c.configName(at+".from.notifier", "notifier", a.From.Notifier, notifiersOf(c.env))
		}
		if !c.policy.Base && len(a.From.Groups) == 0 && len(a.From.Users) == 0 {
			c.report(at+".from", document.CodeMissing, "nobody could answer").Hint = "name groups or users"
		}
		for j, who := range a.From.Users {
			if name, is := strings.CutPrefix(who, "slack:"); is && !slackUser.MatchString(name) {
				c.reportGot(fmt.Sprintf("%s.from.users[%d]", at, j), document.CodeValue,
					"no Slack user has this id: it begins with U or W and has letters and digits only (Copy member "+
						"ID in the profile's menu), after T…/ where the workspace is named")
			}
		}
		if a.From.Channel != "" && a.From.Notifier == "" {
			c.report(at+".from", document.CodeMissing, "a channel needs the notifier that it belongs to")
		}
	}
	c.uniqueNames("spec.approvals", names)
}

// slackUser matches what a user of Slack can be called: with or without the workspace,
// whatever the case, as answers are compared.
var slackUser = regexp.MustCompile(`(?i)^([TE][A-Z0-9]+/)?[UW][A-Z0-9]+$`)

func notifiersOf(e *Environment) []string {
	if e == nil {
		return nil
	}
	return slices.Collect(maps.Keys(e.Notifiers))
}

func (c *checker) notifiers() {
	s := c.policy.Document.Spec
	for _, list := range []struct {
		path  string
		names []string
	}{{"spec.page", s.Page}, {"spec.notify", s.Notify}} {
		for i, name := range list.names {
			at := fmt.Sprintf("%s[%d]", list.path, i)
			c.configName(at, "notifier", name, notifiersOf(c.env))
			if slices.Index(list.names, name) < i {
				c.reportGot(at, document.CodeDuplicate, "is named twice")
			}
		}
	}
}

func (c *checker) budget() {
	b := c.policy.Document.Spec.Budget
	if b == nil {
		return
	}
	if b.AtMost <= 0 {
		c.reportGot("spec.budget.atMost", document.CodeValue, "must be above 0")
	}
	if b.Metric == "" {
		return
	}
	if m := c.metric(b.Metric, "", "spec.budget.metric"); m.known &&
		(m.def.Kind() != analysis.KindCounts || m.def.Rate()) {
		c.reportGot("spec.budget.metric", document.CodeMeaning, "a budget needs a metric of counts, and this one is a "+
			pick(m.def.Rate(), "rate", string(m.def.Kind())))
	}
}
