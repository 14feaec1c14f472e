package policies

import (
	"errors"
	"regexp"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies/document"
)

// Unit is what the number of a limit counts.
type Unit string

// The units.
const (
	// UnitShare: a share of the events, written 1%.
	UnitShare Unit = "share"
	// UnitSeconds: a latency, written 450ms.
	UnitSeconds Unit = "seconds"
	// UnitNumber: a plain number.
	UnitNumber Unit = "number"
	// UnitStable: a multiple of stable's own figure, written 1.2x stable.
	UnitStable Unit = "stable"
)

// Quantity is a number with its unit: 1%, 450ms, 0.98x stable or 85.
type Quantity struct {
	Value float64
	Unit  Unit
	Text  string
}

// Given reports whether the policy gave the quantity.
func (q Quantity) Given() bool { return q.Text != "" }

var relative = regexp.MustCompile(`^([0-9.]+) ?x( stable)?$`)

// UnmarshalText reads "1%", "450ms", "2x stable" or "85".
func (q *Quantity) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	q.Text = text
	if m := relative.FindStringSubmatch(text); m != nil {
		x, err := document.ParseNumber(m[1])
		if err != nil {
			return errors.New("must be a multiple of stable, for example 1.2x stable")
		}
		if m[2] == "" {
			return errors.New("a multiple says of what: " + m[1] + "x stable")
		}
		if x <= 0 || x > 1000 {
			return errors.New("must be a multiple above 0x and at most 1000x")
		}
		q.Value, q.Unit = x, UnitStable
		return nil
	}
	if num, ok := strings.CutSuffix(text, "%"); ok {
		x, err := document.ParseNumber(strings.TrimSpace(num))
		if err != nil {
			return errors.New("must be a percentage, for example 1%")
		}
		q.Value, q.Unit = x/100, UnitShare
		return nil
	}
	if x, err := document.ParseNumber(text); err == nil {
		q.Value, q.Unit = x, UnitNumber
		return nil
	}
	if d, err := document.ParseDuration(text); err == nil {
		q.Value, q.Unit = d.Seconds(), UnitSeconds
		return nil
	}
	return errors.New("must be a number with its unit: 1%, 450ms, 0.98x stable or 85")
}

// LimitText is a limit as the policy writes it: an operator and a quantity.
type LimitText struct {
	AtLeast  bool
	Quantity Quantity
	// Floor is the share below which a multiple of stable need not be kept; not given
	// where there is none.
	Floor Quantity
	Text  string
}

// UnmarshalText reads "<= 1%", ">= 0.98x stable", "<= 1.2x stable or 1%".
func (l *LimitText) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	op, rest, ok := cutOperator(text)
	if !ok {
		return errors.New(`must begin with <= or >=, for example "<= 1%"`)
	}
	l.AtLeast = op == ">="
	rest, floor, floored := strings.Cut(rest, " or ")
	if err := l.Quantity.UnmarshalText([]byte(rest)); err != nil {
		return err
	}
	l.Text = op + " " + l.Quantity.Text
	if !floored {
		return nil
	}
	if err := l.Floor.UnmarshalText([]byte(floor)); err != nil {
		return err
	}
	l.Text += " or " + l.Floor.Text
	if l.AtLeast || l.Quantity.Unit != UnitStable || l.Floor.Unit != UnitShare || l.Floor.Value <= 0 ||
		l.Floor.Value >= 0.5 {
		return errors.New("\"or\" gives a multiple of stable a share below which it need not be kept: <= 1.2x stable or 1%")
	}
	return nil
}

func cutOperator(s string) (op, rest string, ok bool) {
	for _, op := range []string{"<=", ">="} {
		if rest, ok := strings.CutPrefix(s, op); ok {
			return op, strings.TrimSpace(rest), true
		}
	}
	return "", s, false
}

// limit is the limit as the judge reads it.
func (l LimitText) limit() analysis.Limit {
	return analysis.Limit{
		AtLeast: l.AtLeast, Relative: l.Quantity.Unit == UnitStable,
		Value: l.Quantity.Value, Floor: l.Floor.Value, Text: l.Text,
	}
}

// suits says why the limit does not fit a metric of the kind; "" when it does.
func (l LimitText) suits(kind analysis.Kind, quantile bool) string {
	u := l.Quantity.Unit
	if l.Floor.Given() && kind != analysis.KindCounts {
		return "a floor (\"or 1%\") goes with counts alone"
	}
	switch kind {
	case analysis.KindCounts:
		switch {
		case u == UnitNumber || u == UnitSeconds:
			return "counts are judged as a share: write a percentage or a multiple of stable"
		case u == UnitShare && l.AtLeast && l.Quantity.Value <= 0, u == UnitShare && !l.AtLeast &&
			l.Quantity.Value >= 1:
			return "a share that every release keeps is no limit"
		case u == UnitShare && (l.Quantity.Value < 0 || l.Quantity.Value > 1):
			return "a share lies between 0% and 100%"
		case u == UnitShare && (l.Quantity.Value == 0 || l.Quantity.Value == 1):
			return "a limit that forbids every single event cannot be tested; allow a small share"
		}
	case analysis.KindHistogram:
		switch {
		case !quantile:
			return "a histogram is judged by a quantile: add quantile: p95"
		case u == UnitNumber || u == UnitShare:
			return "a latency needs a unit, for example 450ms, or a multiple of stable"
		case l.AtLeast:
			return "a latency is limited from above: <="
		case l.Quantity.Value <= 0:
			return "must be above 0"
		}
	case analysis.KindMean:
		if u == UnitShare {
			return "a mean is a plain number, a duration or a multiple of stable"
		}
	case analysis.KindValue:
	}
	return ""
}

// none says whether the limit allows not one event.
func (l LimitText) none() bool {
	return !l.AtLeast && l.Quantity.Unit == UnitNumber && l.Quantity.Value == 0
}

// suitsRate says why the limit does not fit a counter against time; "" when it does.
func (l LimitText) suitsRate(test analysis.Test) string {
	const least, most = 0.01, 10_000
	switch u := l.Quantity.Unit; {
	case l.Floor.Given():
		return "a floor (\"or 1%\") is a share of events, which a counter against time has none of"
	case u == UnitStable:
		return ""
	case u != UnitNumber:
		return "a counter against time is limited by a number of events, or by a multiple of stable"
	case l.AtLeast:
		return "a counter against time is limited from above, or by a multiple of stable"
	case l.none() && test != analysis.TestThreshold:
		return "a limit that forbids every single event is test: threshold"
	case !l.none() && (l.Quantity.Value < least || l.Quantity.Value > most):
		return "choose per so that the limit lies between 0.01 and 10000 events"
	}
	return ""
}

const quantityPattern = `([0-9.]+ ?x stable|` + document.NumberPattern + ` *%|` + document.DurationPattern + `|` +
	document.NumberPattern + `)`

func (LimitText) JSONSchema() map[string]any {
	return document.TextSchema("^ *(<=|>=) *"+quantityPattern+"( or "+document.NumberPattern+" *%)? *$", "<= 1%",
		"<= 450ms", ">= 0.98x stable", "<= 1.2x stable or 1%")
}

func (Quantity) JSONSchema() map[string]any {
	s := document.TextSchema("^ *"+quantityPattern+" *$", "2x stable", "5%", "600ms")
	s["type"] = []string{"string", "number"}
	return s
}
