package loganalytics

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
)

// A batch is the queries of one Read.
type batch struct {
	queries map[string]*query
	order   []*query
}

// A query asks for all that is wanted of the same rows in the same interval.
type query struct {
	rows                 rows
	deployment, instance string
	// le is the expression that rows are counted by as well; "" for none.
	le       string
	from, to time.Time
	fresh    time.Duration
	// value is a whole query; nothing else is set then.
	value string

	endpoints map[string][]*question
	// columns are the aggregates by name; names are by expression.
	columns []string
	names   map[string]string
	made    []*part
}

// A part is a query over some of its endpoints.
type part struct {
	text     string
	from, to time.Time
	query    *query
	table    *table
	err      error
}

// add finds the question's query and the columns that it needs.
func (b *batch) add(x *question, fresh time.Duration) {
	if x.Metric.Value != nil {
		for i, text := range x.values {
			q := b.find(&query{value: text, from: x.from, to: x.to})
			x.pairs[i] = q.parts()[0]
		}
		return
	}
	q := b.find(&query{rows: x.rows, deployment: x.deployment, instance: x.instance, le: x.spectrum(), from: x.from,
		to: x.to, fresh: fresh})
	e := ""
	if q.rows.column != "" {
		e = x.Names.Endpoint
	}
	q.endpoints[e] = append(q.endpoints[e], x)
	for _, c := range x.aggregates() {
		q.column(c)
	}
}

func (b *batch) find(q *query) *query {
	key := fmt.Sprintf("%q %t %d %d", []string{q.rows.before, q.rows.column, q.rows.after, q.deployment, q.instance,
		q.le, q.value},
		q.rows.exact, q.from.UnixNano(), q.to.UnixNano())
	if known := b.queries[key]; known != nil {
		return known
	}
	q.endpoints, q.names = map[string][]*question{}, map[string]string{}
	b.queries[key] = q
	b.order = append(b.order, q)
	return q
}

// column notes an aggregate of the rows within the interval, once.
func (q *query) column(expr string) {
	if _, ok := q.names[expr]; !ok {
		name := "c" + strconv.Itoa(len(q.columns))
		q.names[expr] = name
		q.columns = append(q.columns, name+" = "+expr)
	}
}

const inside = "TimeGenerated > belay_from"

// aggregates are the columns that the question needs, in the order of the kind.
func (x *question) aggregates() []string {
	out := []string{"countif(" + inside + ")"}
	switch x.Metric.Kind() {
	case analysis.KindCounts:
		out = append(out, "countif("+inside+" and ("+x.marked+"))")
	case analysis.KindMean:
		out = append(out, "sumif(todouble("+x.sum+"), "+inside+")", "sumif(todouble("+x.squares+"), "+inside+")",
			"countif("+inside+" and isnull(todouble("+x.sum+") + todouble("+x.squares+")))")
	case analysis.KindHistogram:
		for _, c := range x.Cuts {
			out = append(out, x.within(c))
		}
		out = append(out, "countif("+inside+" and isnull(todouble("+x.latency+")))")
	case analysis.KindValue:
	}
	return out
}

// within counts the rows whose latency is at most the cut.
func (x *question) within(cut float64) string {
	if x.Metric.Histogram.Unit == "ms" {
		cut *= 1000
	}
	return "countif(" + inside + " and todouble(" + x.latency + ") <= " + strconv.FormatFloat(cut, 'f', -1, 64) + ")"
}

// perDoubling is how many buckets there are to every doubling of the latency.
const perDoubling = 8

// spectrum is the bound of a latency's bucket: where no cut is asked for, rows
// are counted by it.
func (x *question) spectrum() string {
	if x.latency == "" || len(x.Cuts) > 0 {
		return ""
	}
	l := "todouble(" + x.latency + ")"
	return fmt.Sprintf("iff(%s > 0, exp2(ceiling(log2(%s) * %d) / %d), 0.0)", l, l, perDoubling, perDoubling)
}

// parts are the query's texts, a chunk of endpoints each.
func (q *query) parts() []*part {
	if q.made != nil {
		return q.made
	}
	begin := q.from
	if t := q.to.Add(-q.fresh); q.value == "" && t.Before(begin) {
		begin = t
	}
	for names := range slices.Chunk(q.list(), chunk) {
		p := &part{from: begin, to: q.to, query: q, text: q.text(names, begin)}
		q.made = append(q.made, p)
		for _, e := range names {
			for _, x := range q.endpoints[e] {
				x.part = p
			}
		}
	}
	return q.made
}

// list are the endpoints in order; one empty name where none is compared.
func (q *query) list() []string {
	if q.value != "" {
		return []string{""}
	}
	return slices.Sorted(maps.Keys(q.endpoints))
}

// text is the query for some endpoints. The names are a query parameter, which
// can be nothing but a text; a parameter of the type dynamic takes no default.
func (q *query) text(endpoints []string, begin time.Time) string {
	var b strings.Builder
	params := []string{
		"belay_from:datetime = " + datetime(q.from),
		"belay_to:datetime = " + datetime(q.to),
	}
	if q.value == "" {
		params = append(params, "belay_begin:datetime = "+datetime(begin))
	}
	if q.rows.column != "" {
		params = append(params, "belay_endpoints:string = "+literal(endpoints))
	}
	b.WriteString("declare query_parameters(" + strings.Join(params, ", ") + ");\n")
	if q.value != "" {
		return b.String() + q.value
	}
	by := []string{"belay_deployment = tostring(" + q.deployment + ")"}
	b.WriteString(q.rows.before)
	if q.rows.column != "" {
		op := "in~"
		if q.rows.exact {
			op = "in"
		}
		b.WriteString("\n| where " + q.rows.column + " " + op + " (todynamic(belay_endpoints))")
		if q.rows.after != "" {
			b.WriteString("\n" + q.rows.after)
		}
		by = append(by, "belay_endpoint = tostring("+q.rows.column+")")
	}
	if q.instance != "" {
		by = append(by, "belay_instance = tostring("+q.instance+")")
	}
	if q.le != "" {
		by = append(by, "belay_le = "+q.le)
	}
	b.WriteString("\n| where TimeGenerated > belay_begin and TimeGenerated <= belay_to")
	b.WriteString("\n| summarize " + strings.Join(q.columns, ",\n    ") + "\n  by " + strings.Join(by, ", "))
	return b.String()
}

// datetime is an instant in KQL, to the service's hundred nanoseconds.
func datetime(t time.Time) string {
	return "datetime(" + t.UTC().Format("2006-01-02T15:04:05.0000000Z") + ")"
}

// literal is a KQL text that holds the names as a JSON list.
func literal(names []string) string {
	list, err := json.Marshal(names)
	if err != nil { // unreachable: texts can always be marshalled
		list = []byte("[]")
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(list)) + `"`
}
