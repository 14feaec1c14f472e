package policies

import (
	"fmt"
	"slices"
	"time"

	"github.com/belayd/belay/policies/document"
)

// KindLags are how old the readings of kinds of sources are that have none of the moment.
var KindLags = map[string]time.Duration{"loganalytics": 10 * time.Minute, "azuremonitor": 3 * time.Minute}

// lintPatience warns of rules on missing readings that single readings set off, and of
// times that are easily taken for others.
func (c *checker) lintPatience(path string, m Missing, interval time.Duration) {
	lag, source := time.Duration(0), ""
	if path == "spec.onNoData" {
		lag, source = c.slowest()
	}
	if least := lag + 2*interval; m.After <= least && m.After > lag {
		hint := fmt.Sprintf("write at least %s: more than two intervals", document.FormatDuration(lag+3*interval))
		if lag > 0 {
			hint += " after what " + source + " is always behind, " + document.FormatDuration(lag)
		}
		c.warn(path+".after", WarnFlaps, document.FormatDuration(m.After), hint)
	}
	if back := time.Duration(m.RollbackAfter); back > 0 && back < m.After {
		c.warn(path+".rollbackAfter", WarnCountsFrom, document.FormatDuration(back),
			fmt.Sprintf("it is rolled back %s after the data went missing", document.FormatDuration(m.After+back)))
	}
}

// slowest is the source of the policy's metrics whose readings are the oldest, and how
// old its youngest is; 0 where that is not known of any.
func (c *checker) slowest() (lag time.Duration, source string) {
	if c.env == nil {
		return 0, ""
	}
	for _, name := range c.asked() {
		m := c.policy.metrics[name]
		if d := c.env.Lags[m.def.Source]; m.known && d > lag {
			lag, source = d, m.def.Source
		}
	}
	return lag, source
}

// asked are the metrics of the guardrails and the budget, sorted.
func (c *checker) asked() []string {
	s := &c.policy.Document.Spec
	var names []string
	for _, g := range s.Guardrails {
		names = append(names, g.Metric)
	}
	if s.Budget != nil {
		names = append(names, s.Budget.Metric)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// patience refuses a rule by which the candidate would be missing for ever: its readings
// are older than the rule allows whenever they come.
func (c *checker) patience() {
	s := &c.policy.Document.Spec
	if lag, source := c.slowest(); lag > 0 && s.OnNoData.After <= lag {
		p := c.report("spec.onNoData.after", document.CodeMeaning,
			fmt.Sprintf("readings of %s are always %s old or older, so the candidate would be missing for ever", source,
				document.FormatDuration(lag)))
		p.Got, p.Hint = document.FormatDuration(s.OnNoData.After),
			fmt.Sprintf("write at least %s", document.FormatDuration(lag+3*s.Interval))
	}
}
