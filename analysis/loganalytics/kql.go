package loganalytics

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
)

// A question is a query taken apart.
type question struct {
	analysis.Query
	err      error
	from, to time.Time

	// rows are the tabular expression, with its names in place unless merged.
	rows rows
	// marked, sum, squares and latency are made of one row; names are in place.
	marked, sum, squares, latency string
	deployment, instance          string
	// values are a value's two queries.
	values [2]string

	// part answers it; parts answer a value.
	part  *part
	pairs [2]*part
}

// rows is a tabular expression around the condition on the endpoint.
type rows struct {
	before, after string
	// column is compared with the endpoints; "" where the expression is not
	// merged and stands in before.
	column string
	// exact: the case of endpoints matters.
	exact bool
}

// condition matches a stage that selects the endpoint and does nothing else.
var condition = regexp.MustCompile(`\|\s*where\s+([^|"']+?)\s*(==|=~)\s*"\$\{endpoint\}"\s*(\||$)`)

// extended matches rows that end in the number to be measured.
var extended = regexp.MustCompile(`(?s)^(.*?)\|\s*extend\s+value\s*=\s*([^|]*)$`)

// compound matches what makes a condition more than one comparison.
var compound = regexp.MustCompile(`(?i)\b(and|or|not)\b`)

func newQuestion(q analysis.Query) *question {
	x := &question{Query: q}
	if err := x.parse(); err != nil {
		x.err = fmt.Errorf("metric %s: %w", q.Metric.Name, err)
	}
	return x
}

func (x *question) parse() error {
	m := x.Metric
	var text string
	var err error
	switch {
	case m.Counts != nil:
		text, x.deployment, x.instance = m.Counts.Total, m.Counts.Deployment, m.Counts.Instance
		x.marked, err = x.predicate(text, cmp.Or(m.Counts.Bad, m.Counts.Good))
	case m.Histogram != nil:
		found := extended.FindStringSubmatch(m.Histogram.Series)
		if found == nil {
			return errors.New("a histogram's rows end in | extend value = LATENCY")
		}
		text, x.deployment, x.instance = found[1], m.Histogram.Deployment, m.Histogram.Instance
		x.latency, err = x.scalar(found[2])
	case m.Mean != nil:
		text, x.deployment, x.instance = m.Mean.Count, m.Mean.Deployment, m.Mean.Instance
		x.sum, err = x.scalar(m.Mean.Sum)
		if err == nil {
			x.squares, err = x.scalar(m.Mean.SumOfSquares)
		}
	case m.Value != nil:
		return x.value()
	default:
		return errors.New("it asks for nothing")
	}
	if err != nil {
		return err
	}
	if x.deployment == "" {
		return errors.New("deployment: the column that names the deployment is missing")
	}
	return x.tabular(text)
}

// predicate is what marks a row: an expression, or the total's expression with
// more conditions, `TOTAL | where A | where B`.
func (x *question) predicate(total, marked string) (string, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(marked), strings.TrimSpace(total))
	if !ok || total == "" {
		return x.scalar(marked)
	}
	var all []string
	stages := strings.Split(rest, "|")
	for _, s := range stages[1:] {
		s, where := strings.CutPrefix(strings.TrimSpace(s), "where ")
		if !where {
			return "", fmt.Errorf("expression %q adds more to its total than conditions", marked)
		}
		p, err := x.scalar(s)
		if err != nil {
			return "", err
		}
		all = append(all, p)
	}
	if len(all) == 0 || strings.TrimSpace(stages[0]) != "" {
		return "", fmt.Errorf("expression %q adds no condition to its total", marked)
	}
	return strings.Join(all, ") and ("), nil
}

// scalar puts the names into an expression made of one row.
func (x *question) scalar(text string) (string, error) {
	text = strings.TrimSpace(text)
	if err := balanced(text); err != nil {
		return "", err
	}
	return analysis.Expand(text, analysis.LangKQL, x.vars(""))
}

// tabular takes the condition on the endpoint out, or puts the names in.
func (x *question) tabular(text string) error {
	text = strings.TrimSpace(text)
	if text == "" {
		return errors.New("no table is named")
	}
	if strings.Contains(text, ";") {
		return errors.New("one tabular expression without ; is wanted")
	}
	if m := condition.FindStringSubmatchIndex(text); m != nil && !compound.MatchString(text[m[2]:m[3]]) && balanced(text[m[2]:m[3]]) == nil {
		x.rows = rows{before: strings.TrimSpace(text[:m[0]]), column: text[m[2]:m[3]], exact: text[m[4]:m[5]] == "==", after: text[m[6]:]}
	} else {
		x.rows = rows{before: text}
	}
	var err error
	if x.rows.before, err = analysis.Expand(x.rows.before, analysis.LangKQL, x.vars("")); err != nil {
		return err
	}
	x.rows.after, err = analysis.Expand(x.rows.after, analysis.LangKQL, x.vars(""))
	return err
}

func (x *question) value() error {
	for i, d := range []string{x.Names.Stable, x.Names.Candidate} {
		text, err := analysis.Expand(x.Metric.Value.Query, analysis.LangKQL, x.vars(d))
		if err != nil {
			return err
		}
		x.values[i] = text
	}
	return nil
}

// vars are the names; the deployment is one only in a value.
func (x *question) vars(deployment string) map[string]string {
	vars := x.Names.Vars()
	vars["window"] = fmt.Sprintf("%ds", max(int(x.To.Sub(x.From).Seconds()), 1))
	if deployment != "" {
		vars["deployment"] = deployment
	}
	return vars
}

// balanced refuses what would end the brackets that an expression is put into.
// Policies are reviewed; this finds mistakes, not malice.
func balanced(text string) error {
	depth, quote := 0, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0 && c == '\\':
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
		case c == '"' || c == '\'':
			quote = c
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			if depth--; depth < 0 {
				return fmt.Errorf("expression %q closes what it did not open", text)
			}
		case c == ';' || c == '|':
			return fmt.Errorf("expression %q is more than one expression", text)
		}
	}
	if depth != 0 || quote != 0 || text == "" {
		return fmt.Errorf("expression %q is not closed, or empty", text)
	}
	return nil
}

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
	q := b.find(&query{rows: x.rows, deployment: x.deployment, instance: x.instance, le: x.spectrum(), from: x.from, to: x.to, fresh: fresh})
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
	key := fmt.Sprintf("%q %t %d %d", []string{q.rows.before, q.rows.column, q.rows.after, q.deployment, q.instance, q.le, q.value},
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

// spectrum is the bound of a latency's bucket, eight to every doubling: where
// no cut is asked for, rows are counted by it.
func (x *question) spectrum() string {
	if x.latency == "" || len(x.Cuts) > 0 {
		return ""
	}
	l := "todouble(" + x.latency + ")"
	return "iff(" + l + " > 0, exp2(ceiling(log2(" + l + ") * 8) / 8), 0.0)"
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
