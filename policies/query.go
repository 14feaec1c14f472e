package policies

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis/jsonpath"
	"github.com/belayd/belay/analysis/promql"
	"github.com/belayd/belay/analysis/template"
	"github.com/belayd/belay/policies/document"
)

// DialectMetricsQL is VictoriaMetrics' language: what its server takes and
// Prometheus would refuse is a warning.
const DialectMetricsQL = "metricsql"

// A query is one expression of a metric: where it stands below the metric, and
// whether it selects the series of a counter or gives a number.
type query struct {
	field, text string
	value       bool
}

// texts are the expressions of a metric.
func (m Metric) texts() []query {
	var out []query
	add := func(field, text string) {
		if text != "" {
			out = append(out, query{field: field, text: text})
		}
	}
	switch {
	case m.Counts != nil:
		add("counts.total", m.Counts.Total)
		add("counts.bad", m.Counts.Bad)
		add("counts.good", m.Counts.Good)
	case m.Histogram != nil:
		add("histogram.series", m.Histogram.Series)
	case m.Mean != nil:
		add("mean.count", m.Mean.Count)
		add("mean.sum", m.Mean.Sum)
		add("mean.sumOfSquares", m.Mean.SumOfSquares)
	case m.Value != nil:
		out = append(out, query{"value.query", m.Value.Query, true})
	}
	return out
}

// A QueryFault is an expression that its source would refuse.
type QueryFault struct {
	// Field is where it stands below the metric: counts.total.
	Field string
	// Warning: the source's dialect is not read here, so it may be right after all.
	Warning bool
	Err     *template.QueryError
}

// QueryFaults says which expressions of a metric a source of the kind would refuse. The
// kind is empty where it is not known; then only what no source takes is told.
func (m Metric) QueryFaults(kind, dialect string) []QueryFault {
	var out []QueryFault
	for _, q := range m.texts() {
		e := q.fault(kind)
		if e == nil {
			continue
		}
		out = append(out, QueryFault{Field: q.field, Err: e, Warning: q.value && e.Syntax &&
			dialect == DialectMetricsQL})
	}
	return out
}

// fault is why a source of the kind would refuse the expression.
func (q query) fault(kind string) *template.QueryError {
	var err error
	switch kind {
	case "prometheus":
		if q.value {
			err = promql.Check(q.text)
			break
		}
		_, err = promql.ParseSelector(q.text)
	case "scrape", "azuremonitor":
		text := q.text
		if q.value {
			_, text = promql.Fold(text)
		}
		_, err = promql.ParseSelector(text)
	case "httpjson":
		return jsonpath.Check(q.text)
	case "":
		if q.value {
			return nil
		}
		// What reads as an expression of PromQL and selects no series is wrong in
		// every language that there is.
		_, err = promql.ParseSelector(q.text)
		if e, ok := errors.AsType[*template.QueryError](err); ok && e.Syntax {
			return nil
		}
	}
	if e, ok := errors.AsType[*template.QueryError](err); ok {
		return e
	}
	return nil
}

// speaksPromQL says whether expressions for a source of the kind may be PromQL.
func speaksPromQL(kind string) bool { return kind == "" || kind == "prometheus" || kind == "scrape" }

// kindOfSource is the kind of the adapter behind a source, and its dialect; empty
// without a config.
func (c *checker) kindOfSource(source string) (kind, dialect string) {
	if c.env == nil {
		return "", ""
	}
	return c.env.Sources[source], c.env.Dialects[source]
}

// queries checks that a metric's source will take its expressions.
func (c *checker) queries(at string, m Metric) {
	kind, dialect := c.kindOfSource(m.Source)
	if c.env != nil && kind == "" {
		return // there is no such source, which is told already
	}
	if m.Counts != nil && m.Counts.Per != 0 {
		c.per(at+".counts.per", kind, m.Counts.Per)
	}
	for _, f := range m.QueryFaults(kind, dialect) {
		line, col := f.Err.Place()
		path, code := at+"."+f.Field, document.CodeValue
		if f.Warning {
			code = WarnDialect
		}
		p := c.report(path, code, fmt.Sprintf("line %d, column %d of the query: %s", line, col, f.Err.Why))
		p.Hint = f.Err.Hint
		if n := c.policy.at[path]; n != nil {
			p.Within(n, strings.Split(f.Err.Text, "\n")[line-1], line, col)
		}
	}
}

// per checks the time of a counter against time, and that its source can tell that nothing
// happened.
func (c *checker) per(at, kind string, d time.Duration) {
	switch {
	case d < time.Second || d > 30*24*time.Hour:
		c.reportGot(at, document.CodeValue, "must be from 1s to 720h")
	case kind == "loganalytics" || kind == "azuremonitor":
		c.report(at, document.CodeMeaning, "where nothing happens "+kind+
			" shows nothing, which is no data and not 0").Hint = "use a source of kind prometheus, scrape or httpjson"
	}
}

// expressions checks the substitutions in every text of a metric.
func (c *checker) expressions(at, kind string) {
	for _, path := range slices.Sorted(maps.Keys(c.policy.at)) {
		n := c.policy.at[path]
		if !strings.HasPrefix(path, at+".") || n.Shape != document.Scalar || !strings.Contains(n.Value, "$") {
			continue
		}
		names, err := template.Variables(n.Value)
		if err != nil {
			c.reportGot(path, document.CodeValue, err.Error())
			continue
		}
		for _, name := range names {
			if slices.Contains(template.VariableNames, name) || (kind == "" || kind == "httpjson") &&
				slices.Contains(jsonpath.IntervalNames, name) {
				continue
			}
			p := c.report(path, document.CodeName, "there is no such substitution")
			p.Got, p.Hint = "${"+document.Shorten(name)+"}", document.SuggestOrList(name, template.VariableNames)
		}
	}
}

// lintQueries warns of what a source takes and does not mean what the metric says.
func (c *checker) lintQueries(at string, m Metric) {
	if kind, _ := c.kindOfSource(m.Source); !speaksPromQL(kind) {
		return
	}
	for _, q := range m.texts() {
		path := at + "." + q.field
		if q.value {
			if kind, definition, ok := promql.Exact(q.text); ok {
				c.warn(path, WarnInexact, "", fmt.Sprintf("define the exact %s instead: %s", kind, definition))
			}
			continue
		}
		sel, err := promql.ParseSelector(q.text)
		if err != nil {
			continue
		}
		if why := noCounter(sel.Name); why != "" {
			c.warn(path, WarnNoCounter, sel.Name, why)
		}
	}
	if h := m.Histogram; h != nil {
		sel, err := promql.ParseSelector(h.Series)
		if err != nil {
			return
		}
		if unit, known := promql.UnitOf(sel.Name); known && unit != h.Unit {
			c.warn(at+".histogram.unit", WarnUnit, fmt.Sprintf("%s of %s", h.Unit, sel.Name), "write unit: "+unit)
		}
	}
}

// gauges are ends of names that no counter has.
var gauges = []string{"_ratio", "_percent", "_percentage", "_utilization", "_in_flight", "_inflight", "_current",
	"_rate", "_per_second", "_per_minute", "_avg", "_average", "_p50", "_p90", "_p95", "_p99", "_info"}

// noCounter says why a series of this name is no counter; "" where it may be one.
func noCounter(name string) string {
	lower := strings.ToLower(name)
	if _, operations, recorded := strings.Cut(lower, ":"); recorded {
		for _, word := range []string{"rate", "ratio", "increase", "avg", "mean", "quantile", "delta"} {
			if strings.Contains(operations, word) {
				return "name the raw counter that the rule records it from"
			}
		}
	}
	if i := slices.IndexFunc(gauges, func(end string) bool { return strings.HasSuffix(lower, end) }); i >= 0 ||
		lower == "up" {
		return "name a counter, whose name usually ends in _total"
	}
	return ""
}
