package promql

import (
	"strings"
	"testing"
)

// A ratio is counted by what its counter means, whichever way round the expression
// divides: what leaves out failures counts successes, and 100 less the share of failures
// still counts failures.
func TestShapeSides(t *testing.T) {
	const r = "sum(rate(r[1m]))"
	share := func(matcher string) string { return "sum(rate(r{" + matcher + "}[1m])) / " + r }
	for _, test := range []struct {
		text string
		want string
		rest bool
	}{
		{share(`code=~"5.."`), `bad: 'r{code=~"5.."}'`, false},
		{share(`code!~"5.."`), `good: 'r{code!~"5.."}'`, false},
		{share(`code!~"[4-5].*"`), `good: 'r{code!~"[4-5].*"}'`, false},
		{share(`status=~"2.."`), `good: 'r{status=~"2.."}'`, false},
		{share(`status!~"2.."`), `bad: 'r{status!~"2.."}'`, false},
		{share(`path="/checkout"`), `good: 'r{path="/checkout"}'`, false},
		{share(`code!="404"`), `good: 'r{code!="404"}'`, false},
		{"100 - " + share(`code!="404"`) + " * 100", `good: 'r{code!="404"}'`, true},
		{"100 - " + share(`code=~"5.."`) + " * 100", `bad: 'r{code=~"5.."}'`, true},
		{"1 - (" + share(`status="200"`) + ")", `good: 'r{status="200"}'`, true},
		{"(" + r + ` - sum(rate(r{code=~"5.."}[1m]))) / ` + r, `bad: 'r{code=~"5.."}'`, true},
		{"1 - (" + r + ` - sum(rate(r{code=~"5.."}[1m]))) / ` + r, `bad: 'r{code=~"5.."}'`, false},
		{`sum(rate(payments_failed_total[5m])) / sum(rate(payments_total[5m]))`, `bad: 'payments_failed_total'`, false},
		{`sum(rate(logins_ok_total[5m])) / sum(rate(logins_total[5m]))`, `good: 'logins_ok_total'`, false},
	} {
		s, ok := Recognize(test.text)
		if !ok || !strings.Contains(s.Definition(), test.want) || s.Rest != test.rest {
			t.Errorf("%s: got %s (%t), the rest = %t; want %s, %t", test.text, s.Definition(), ok, s.Rest, test.want, test.rest)
		}
	}
}
