package importer

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/belayd/belay/analysis/promql"
)

// A measure is one query with what must hold of its result.
type measure struct {
	name  string
	at    field
	query string
	bound bound
	// failures is how many readings may fail.
	failures int
	// why is the condition as the file has it.
	why    string
	source string
}

var placeholder = regexp.MustCompile(`\{\{-?\s*([^{}]*?)\s*-?\}\}`)

// hundred finds that a query makes a percentage.
var hundred = regexp.MustCompile(`\*\s*100\b|\b100(?:\.0*)?\s*(?:\*|-)`)

// measure puts a metric and a guardrail of a query to Prometheus into the policy.
func (im *importer) measure(p *policy, m measure) {
	query := strings.TrimSpace(m.query)
	s, ok := promql.Recognize(query)
	base := name(m.name)
	g := guardrail{name: p.guardrailName(base), why: m.why}
	metricName := p.metricName(base)
	g.metric = metricName

	exact := ok && (s.Kind == promql.ShapeCounts || s.Kind == promql.ShapeHistogram)
	deployment := im.deployment(m, query, exact)

	switch {
	case ok && s.Kind == promql.ShapeCounts:
		// Which side is good follows from what must hold of the result.
		good := m.bound.least != s.Rest
		share := m.bound.value
		if hundred.MatchString(query) || share > 1 {
			share /= 100
		}
		if s.Rest {
			share = 1 - share
		}
		role, op := "bad", "<= "
		if good {
			role, op = "good", ">= "
		}
		p.add(metric{metricName, m.source, fmt.Sprintf("counts: {total: %s, %s: %s, deployment: %s}",
			quote(s.Total.String()), role, quote(s.Marked.String()), deployment)})
		if share < 0 || share > 1 || good && share == 0 {
			im.note(m.at, fmt.Sprintf("the limit %g of a share is none: fill in the guardrail %s", m.bound.value,
				g.name))
			share = 0.99
			if !good {
				share = 0.01
			}
		}
		g.limit = op + percent(rounded(share*100))
	case ok && s.Kind == promql.ShapeHistogram && !m.bound.least && s.Quantile > 0:
		unit, known := promql.UnitOf(s.Total.Name)
		if !known {
			unit = "s"
			im.note(m.at, "the histogram's name tells no unit; s is assumed")
		}
		p.add(metric{metricName, m.source, fmt.Sprintf("histogram: {series: %s, unit: %s, deployment: %s}",
			quote(s.Total.String()), unit, deployment)})
		g.quantile = "p" + strconv.FormatFloat(rounded(s.Quantile*100), 'f', -1, 64)
		milliseconds := m.bound.value
		if unit == "s" && !regexp.MustCompile(`\*\s*1000\b|\b1000\s*\*`).MatchString(query) {
			milliseconds *= 1000
		}
		g.limit = "<= " + strconv.FormatFloat(rounded(milliseconds), 'f', -1, 64) + "ms"
	default:
		p.add(metric{metricName, m.source, "value: {query: " + quote(strings.Join(strings.Fields(query), " ")) + "}"})
		op := "<= "
		if m.bound.least {
			op = ">= "
		}
		g.limit = op + strconv.FormatFloat(m.bound.value, 'f', -1, 64)
		if m.failures > 0 {
			g.breachAfter = fmt.Sprintf("%d of %d", m.failures+1, max(m.failures+1, 5))
		}
		im.note(m.at, "the query is no ratio, quantile or mean of counters: it is compared reading by reading, "+
			"without evidence")
	}
	p.guardrails = append(p.guardrails, g)
}

// add adds a metric.
func (p *policy) add(m metric) { p.metrics = append(p.metrics, m) }

// deployment is what the metric's `deployment:` says: nothing where the query names the
// deployment itself. A number has no such label.
func (im *importer) deployment(m measure, query string, label bool) string {
	for _, v := range []string{"${deployment}", "${role}", "${version}"} {
		if strings.Contains(query, v) {
			return `""`
		}
	}
	if !label {
		im.note(m.at, "nothing in the query says which deployment is meant: it reads the same for stable and "+
			"candidate; name it by ${deployment}, ${role} or ${version}")
		return ""
	}
	im.note(m.at, "nothing in the query says which deployment it counts: fill in the label that does, as `deployment:`")
	return "fill_in_label"
}

// quote is a text in single quotes, as YAML has it.
func quote(s string) string {
	return "'" + strings.ReplaceAll(oneLineQuery(s), "'", "''") + "'"
}

func oneLineQuery(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))), " ")
}

// fill replaces the placeholders of a template; those that nobody knows are noted.
func (im *importer) fill(at field, text string, value func(string) (string, bool)) string {
	unknown := map[string]bool{}
	out := placeholder.ReplaceAllStringFunc(text, func(s string) string {
		what := placeholder.FindStringSubmatch(s)[1]
		if v, ok := value(what); ok {
			return v
		}
		unknown[what] = true
		return "fill-in"
	})
	for what := range unknown {
		im.note(at, fmt.Sprintf("nothing says what {{%s}} stands for: fill it in", oneLine(what)))
	}
	return out
}
