package prometheus

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/series"
	"github.com/belayd/belay/analysis/promql"
)

// A question is a query taken apart.
type question struct {
	analysis.Query
	err   error
	cache selectorCache
	// from is the query's, or later where that is too long ago.
	from time.Time
	// label names the deployment, instance the instance.
	label, instance string
	// parts are the sets of series that are needed, by role and deployment.
	parts []*part
	// id names the question in the ledger; counted is what the reading before this
	// one counted, nil where that is not known.
	id      uint64
	counted marks
	// known is the picture, once it is made.
	known *picture
	// wants are the answers to a value's two expressions.
	wants [2]*instant
}

// A role is what a set of series is in its metric.
type role int

const (
	roleTotal role = iota
	roleMarked
	roleBucket
	roleNative
	roleCount
	roleSum
	roleSquares
)

// A part is one set of series that a question needs, for one deployment.
type part struct {
	role       role
	deployment string
	// pick selects the series among those of the group.
	pick promql.Selector
	// shared is what all endpoints' questions of this form have in common.
	shared shared
	// key is where in its group the part's series stand: the value of the index.
	key   string
	group *group
}

// A shared selector is one without its endpoint and its deployment.
type shared struct {
	name string
	// fixed are the other matchers in Prometheus' notation, sorted.
	fixed []string
	// index is the label by which series are handed out to questions: the one
	// that was compared with ${endpoint} (or a text with it), else the one with ${deployment}, or
	// with "${stable}|${candidate}"; "" where none was. byDeployment says which.
	index        string
	byDeployment bool
	// deployment is the label that was compared with ${deployment} beside the
	// endpoint's.
	deployment string
}

func (s shared) key() string {
	return strings.Join(append([]string{s.name, s.index, strconv.FormatBool(s.byDeployment), s.deployment}, s.fixed...),
		"\xff")
}

// holds says whether every series of t is one of s.
func (s shared) holds(t shared) bool {
	if s.name != t.name || s.index != t.index || s.byDeployment != t.byDeployment || s.deployment != t.deployment {
		return false
	}
	return !slices.ContainsFunc(s.fixed, func(m string) bool { return !slices.Contains(t.fixed, m) })
}

// A selectorCache holds the selectors of one Read: many rollouts ask by the
// same texts.
type selectorCache map[string]promql.Selector

func (c selectorCache) parse(text string) (promql.Selector, error) {
	if s, ok := c[text]; ok {
		return s, nil
	}
	s, err := promql.ParseSelector(text)
	if err == nil {
		c[text] = s
	}
	return s, err
}

func newQuestion(q analysis.Query, lookback time.Duration, cache selectorCache) *question {
	q = q.Named()
	x := &question{Query: q, from: q.From, cache: cache}
	if least := q.To.Add(-lookback); x.from.Before(least) {
		x.from = least
	}
	m := q.Metric
	var err error
	switch {
	case m.Counts != nil:
		x.label, x.instance = m.Counts.Deployment, m.Counts.Instance
		roles, texts := []role{roleTotal, roleMarked}, []string{m.Counts.Total, m.Counts.Marked()}
		if m.Rate() {
			roles, texts = roles[:1], texts[1:]
		}
		err = x.add(roles, texts)
	case m.Histogram != nil:
		x.label, x.instance = m.Histogram.Deployment, m.Histogram.Instance
		err = x.add([]role{roleBucket, roleNative}, []string{m.Histogram.Series, m.Histogram.Series})
	case m.Mean != nil:
		x.label, x.instance = m.Mean.Deployment, m.Mean.Instance
		roles, texts := []role{roleCount, roleSum, roleSquares}, []string{m.Mean.Count, m.Mean.Sum, m.Mean.SumOfSquares}
		if m.Mean.SumOfSquares == "" {
			roles, texts = roles[:2], texts[:2]
		}
		err = x.add(roles, texts)
	case m.Value != nil:
	default:
		err = errors.New("it asks for nothing")
	}
	if err != nil {
		x.err = analysis.Permanent(fmt.Errorf("metric %s: %w", m.Name, err))
	}
	return x
}

// deployments are the two that are asked about; one where they are the same.
func (x *question) deployments() []string {
	return slices.Compact([]string{x.Names.Stable, x.Names.Candidate})
}

// add parses the expressions and makes their parts.
func (x *question) add(roles []role, texts []string) error {
	sels := make([]promql.Selector, len(texts))
	for i, text := range texts {
		sel, err := x.cache.parse(text)
		if err != nil {
			return err
		}
		switch roles[i] {
		case roleBucket:
			sel.Name = strings.TrimSuffix(sel.Name, "_bucket") + "_bucket"
		case roleNative:
			sel.Name = strings.TrimSuffix(sel.Name, "_bucket")
		case roleTotal, roleMarked, roleCount, roleSum, roleSquares:
		}
		if x.label == "" && !analysis.NamesDeployment(sel.Uses) {
			return errors.New("deployment: the label that names the deployment is missing, or ${deployment}, ${role} " +
				"or ${version} in the selector")
		}
		sels[i] = sel
	}
	for _, d := range x.deployments() {
		vars := x.Vars(d)
		vars["window"] = window(x.To.Sub(x.From))
		var parts []*part
		for i, sel := range sels {
			p, err := newPart(roles[i], d, sel, vars)
			if err != nil {
				return err
			}
			parts = append(parts, p)
		}
		// A bad series that is one of the total's comes with the total.
		if len(parts) > 1 && roles[0] == roleTotal && parts[0].shared.holds(parts[1].shared) {
			parts[1].shared = parts[0].shared
		}
		x.parts = append(x.parts, parts...)
	}
	return nil
}

func newPart(r role, deployment string, sel promql.Selector, vars map[string]string) (*part, error) {
	pick, err := sel.Expand(vars)
	if err != nil {
		return nil, err
	}
	p := &part{role: r, deployment: deployment, pick: pick, shared: shared{name: sel.Name}}
	s := &p.shared
	for i, m := range sel.Matchers {
		switch {
		case m.Type == labels.MatchEqual && strings.Contains(m.Value, "${endpoint}") && s.index == "":
			s.index, p.key = m.Name, pick.Matchers[i].Value
		case m.Type == labels.MatchEqual && m.Value == "${deployment}" && s.deployment == "":
			s.deployment = m.Name
		case m.Type == labels.MatchRegexp && slices.Contains(pairs, m.Value) && s.deployment == "":
			s.deployment = m.Name
		default:
			s.fixed = append(s.fixed, pick.Matchers[i].String())
		}
	}
	if s.index == "" && s.deployment != "" {
		s.index, s.byDeployment, s.deployment, p.key = s.deployment, true, "", deployment
	}
	slices.Sort(s.fixed)
	return p, nil
}

// pairs are the ways to name both deployments in one matcher.
var pairs = []string{"${stable}|${candidate}", "${candidate}|${stable}"}

// keys are where in the group the question's series stand.
func (x *question) keys(g *group) []string {
	var out []string
	for _, p := range x.parts {
		if p.group == g && !slices.Contains(out, p.key) {
			out = append(out, p.key)
		}
	}
	return out
}

// window is a length of time in PromQL.
func window(d time.Duration) string {
	return fmt.Sprintf("%dms", max(d, time.Second).Milliseconds())
}

// selects says whether the series is one of the part's.
func (p *part) selects(l series.Labels, label string) bool {
	return (label == "" || l.Get(label) == p.deployment) && p.pick.Matches(l.Get)
}
