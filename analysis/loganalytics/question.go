package loganalytics

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/template"
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
	q = q.Named()
	x := &question{Query: q}
	if err := x.parse(); err != nil {
		x.err = analysis.Permanent(fmt.Errorf("metric %s: %w", q.Metric.Name, err))
	}
	return x
}

func (x *question) parse() error {
	m := x.Metric
	var text string
	var err error
	switch {
	case m.Rate():
		err = errors.New("per: where nothing happens this source shows nothing: use prometheus, scrape or httpjson")
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
			// Rows are single events: their squares can be made of them.
			x.squares, err = x.scalar(cmp.Or(m.Mean.SumOfSquares, "todouble("+m.Mean.Sum+") * todouble("+
				m.Mean.Sum+")"))
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
	for _, column := range []string{x.deployment, x.instance} {
		if err := balanced(column); column != "" && err != nil {
			return err
		}
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
	return template.Expand(text, template.LangKQL, x.vars(""))
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
	if m := condition.FindStringSubmatchIndex(text); m != nil && !compound.MatchString(text[m[2]:m[3]]) &&
		balanced(text[m[2]:m[3]]) == nil {
		x.rows = rows{before: strings.TrimSpace(text[:m[0]]), column: text[m[2]:m[3]], exact: text[m[4]:m[5]] == "==",
			after: text[m[6]:]}
	} else {
		x.rows = rows{before: text}
	}
	var err error
	if x.rows.before, err = template.Expand(x.rows.before, template.LangKQL, x.vars("")); err != nil {
		return err
	}
	x.rows.after, err = template.Expand(x.rows.after, template.LangKQL, x.vars(""))
	return err
}

func (x *question) value() error {
	for i, d := range []string{x.Names.Stable, x.Names.Candidate} {
		text, err := template.Expand(x.Metric.Value.Query, template.LangKQL, x.vars(d))
		if err != nil {
			return err
		}
		x.values[i] = text
	}
	return nil
}

// vars are the names; the deployment is one only in a value.
func (x *question) vars(deployment string) map[string]string {
	vars := x.Vars(deployment)
	vars["window"] = fmt.Sprintf("%ds", max(int(x.To.Sub(x.From).Seconds()), 1))
	if deployment == "" {
		delete(vars, "deployment")
		delete(vars, "role")
		delete(vars, "version")
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
