package policytest

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
)

// maxValues bounds a series: at one value a minute, two weeks.
const maxValues = 20_160

// maxValue bounds a value; sums of series stay exact.
const maxValue = 1e11

// Series is a list of values in promtool's notation; NaN is a missing one.
type Series []float64

var seriesToken = regexp.MustCompile(
	`^(?:_|(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)(?:([+-][0-9.]+(?:[eE][-+]?[0-9]+)?))?)(?:x([0-9]{1,6}))?$`)

// UnmarshalText reads "300x60 _x240": axN is N+1 values of a, a+bxN rises by b,
// _xN is N missing values.
func (s *Series) UnmarshalText(b []byte) error {
	*s = nil
	for token := range strings.FieldsSeq(string(b)) {
		m := seriesToken.FindStringSubmatch(token)
		if m == nil {
			return fmt.Errorf("%s is not promtool's notation: axN, a+bxN, _xN or a value", document.Shorten(token))
		}
		if err := s.expand(m); err != nil {
			return err
		}
		if len(*s) > maxValues {
			return fmt.Errorf("a series has at most %d values", maxValues)
		}
	}
	if len(*s) == 0 {
		return errors.New("a series needs values")
	}
	return nil
}

func (s *Series) expand(m []string) error {
	times := 0
	if m[3] != "" {
		times, _ = strconv.Atoi(m[3]) // at most six digits
	}
	if times > maxValues {
		return fmt.Errorf("a series has at most %d values", maxValues)
	}
	if m[1] == "" { // missing
		for range max(times, 1) {
			*s = append(*s, math.NaN())
		}
		return nil
	}
	value, err := document.ParseNumber(m[1])
	if err != nil {
		return err
	}
	step := 0.0
	if m[2] != "" {
		if step, err = document.ParseNumber(m[2]); err != nil {
			return err
		}
		if m[3] == "" {
			return errors.New("a rise needs to be repeated: a+bxN")
		}
	}
	if math.Abs(value)+math.Abs(step)*float64(times) > maxValue {
		return fmt.Errorf("a value lies between -%g and %g", maxValue, maxValue)
	}
	for i := range times + 1 {
		*s = append(*s, value+float64(i)*step)
	}
	return nil
}

// String writes the series in the notation it is read in.
func (s Series) String() string {
	var words []string
	for i := 0; i < len(s); {
		j := i
		for j < len(s) && (s[j] == s[i] || math.IsNaN(s[j]) && math.IsNaN(s[i])) {
			j++
		}
		switch n := j - i; {
		case math.IsNaN(s[i]) && n > 1:
			words = append(words, fmt.Sprintf("_x%d", n))
		case math.IsNaN(s[i]):
			words = append(words, "_")
		case n > 1:
			words = append(words, fmt.Sprintf("%sx%d", document.FormatNumber(s[i]), n-1))
		default:
			words = append(words, document.FormatNumber(s[i]))
		}
		i = j
	}
	return strings.Join(words, " ")
}

// seriesParts are what a series may give of a metric.
var seriesParts = []string{"total", "bad", "good", "count", "p95", "mean", "deviation", "value"}

// splitSeries takes METRIC/PART@DEPLOYMENT apart.
func splitSeries(name string) (metric, part, deployment string, ok bool) {
	rest, deployment, ok := cutLast(name, "@")
	if !ok {
		return "", "", "", false
	}
	metric, part, ok = cutLast(rest, "/")
	return metric, part, deployment, ok && metric != ""
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// countedPart is the part that a metric of counts counts.
func countedPart(c *analysis.Counts) string {
	if c.Good != "" {
		return "good"
	}
	return "bad"
}

// partsOf are the parts that a kind of metric has.
var partsOf = map[string][]string{
	"counts":    {"total", "bad", "good"},
	"histogram": {"count", "p95"},
	"mean":      {"count", "mean", "deviation"},
	"value":     {"value"},
}

// shapes guesses, from the series, what the metrics are that no file defines.
func (f *File) shapes() map[string]policies.Metric {
	out := map[string]policies.Metric{}
	learn := func(series map[string]Series) {
		for name := range series {
			metric, part, _, ok := splitSeries(name)
			if !ok {
				continue
			}
			m := out[metric]
			m.Source = "series"
			switch part {
			case "bad":
				m.Counts = &policies.Counts{Total: metric, Bad: metric, Deployment: "deployment"}
			case "good":
				m.Counts = &policies.Counts{Total: metric, Good: metric, Deployment: "deployment"}
			case "total":
				if m.Counts == nil {
					m.Counts = &policies.Counts{Total: metric, Bad: metric, Deployment: "deployment"}
				}
			case "p95":
				m.Histogram = &policies.Histogram{Series: metric, Unit: "s", Deployment: "deployment"}
			case "mean":
				m.Mean = &policies.Mean{Count: metric, Sum: metric, SumOfSquares: metric, Deployment: "deployment"}
			case "value":
				m.Value = &policies.Value{Query: "${deployment}"}
			}
			out[metric] = m
		}
	}
	learn(f.Series)
	for _, c := range f.Cases {
		learn(c.Series)
	}
	return out
}

func (Series) JSONSchema() map[string]any {
	return map[string]any{"type": "string", "examples": []string{"300x60 _x10", "1+2x30"}}
}
