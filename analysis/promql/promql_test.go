package promql

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/belayd/belay/analysis/template"
)

// What Prometheus takes for a selector is read, and written in one way.
func TestParseSelector(t *testing.T) {
	for in, want := range map[string]string{
		`up`:                                    `up`,
		`up{}`:                                  `up`,
		`(up)`:                                  `up`,
		` up { a = "x" , b!='y',} `:             `up{a="x",b!="y"}`,
		`a:b{code=~"5..|424"}`:                  `a:b{code=~"5..|424"}`,
		"x{p=`a\\d`}":                           `x{p="a\\d"}`,
		`x{p="q\"\\\n\u00e9\x41"}`:              `x{p="q\"\\\néA"}`,
		`x{a="1"} # comment`:                    `x{a="1"}`,
		`{__name__="up",a="1"}`:                 `up{a="1"}`,
		`{"http.requests", "my.label"="1"}`:     `{"http.requests","my.label"="1"}`,
		`x{endpoint="${endpoint}",c!~"${a}|b"}`: `x{endpoint="${endpoint}",c!~"${a}|b"}`,
		`x{a="1"`:                               "",
		`x{a}`:                                  "",
		`x{a=1}`:                                "",
		`x{a="1" b="2"}`:                        "",
		`x{a=~"("}`:                             "",
		`x{a="1}`:                               "",
		`rate(x[5m])`:                           "",
		`x[5m]`:                                 "",
		`x offset 5m`:                           "",
		`x @ 0`:                                 "",
		`x + y`:                                 "",
		`{a="1"}`:                               "",
		``:                                      "",
		`x{__name__="y"}`:                       "",
		`{__name__=~"y"}`:                       "",
		`x{a="` + strings.Repeat("y", 20000) + `"}`: "",
	} {
		s, err := ParseSelector(in)
		switch {
		case want == "" && err == nil:
			t.Errorf("ParseSelector(%q): got %s, want an error", in, s)
		case want != "" && err != nil:
			t.Errorf("ParseSelector(%q): got %v, want %s", in, err, want)
		case want != "" && s.String() != want:
			t.Errorf("ParseSelector(%q): got %s, want %s", in, s, want)
		}
	}
}

// A mistake is told with its place and with what to write.
func TestMistakesHelp(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`sum(rate(http_requests_total{e="${endpoint}"}[5m]))`, `1:1: a plain selector is wanted: give the raw counter; Belay takes the differences itself and adds the series up; write 'http_requests_total{e="${endpoint}"}'`},
		{`http_requests_total[${window}]`, `1:1: a plain selector is wanted: give the raw counter; Belay takes the differences itself; write 'http_requests_total'`},
		{`x offset 5m`, `1:1: offset and @ have no place here: Belay asks for the interval itself; write 'x'`},
		{`sum by (pod) (rate(a{code=~"5.."}[1m])) / sum by (pod) (rate(a[1m]))`, `1:1: a plain selector is wanted, and this divides two counters already; define counts: {total: 'a', bad: 'a{code=~"5.."}', deployment: pod}`},
		{`1 - sum(rate(ok[1m])) / sum(rate(a{d="${deployment}"}[1m]))`, `1:1: a plain selector is wanted, and this divides two counters already; define counts: {total: 'a{d="${deployment}"}', good: 'ok', deployment: ""}`},
		{`histogram_quantile(0.99, sum by (le, model) (rate(h_milliseconds_bucket[1m])))`, `1:1: a plain selector is wanted, and this is a quantile already; define histogram: {series: 'h_milliseconds', unit: ms, deployment: model} and put quantile: p99 into the guardrail`},
		{`rate(h_sum[1m]) / rate(h_count[1m])`, `1:1: a plain selector is wanted, and this divides two counters already; define mean: {count: 'h_count', sum: 'h_sum', deployment: LABEL}`},
		{"x{a=\"1\",\n  b=~\"(\"}", "2:3: error parsing regexp: missing closing ): `(`"},
		{`x{e="{{ target }}"`, `1:19: unexpected end of input inside braces; {{…}} is another tool's template; names are put in for ${endpoint} ${deployment} ${stable} ${candidate} ${role} ${version} ${window}`},
		{`rate(x[$__rate_interval])`, "1:8: unexpected character in duration expression: '$'; a dashboard's interval is ${window} here"},
		{`x_${endpoint}`, "1:3: unexpected character: '$'; names stand inside quotes; only ${window} stands outside of them"},
	} {
		_, err := ParseSelector(tt.text)
		if e, ok := errors.AsType[*Error](err); !ok || e.Error() != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

// A value is an expression of one number.
func TestCheck(t *testing.T) {
	for text, ok := range map[string]bool{
		`max(container_cpu{d="${deployment}"})`: true,
		`1`:                                     true,
		`avg_over_time(x[${window}])`:           true,
		`mad_over_time(x[5m])`:                  true,
		`x[5m]`:                                 false,
		`"text"`:                                false,
		`sum(x`:                                 false,
		``:                                      false,
		`nothing_like_it(x)`:                    false,
	} {
		if err := Check(text); (err == nil) != ok {
			t.Errorf("Check(%q): got %v, want it taken: %t", text, err, ok)
		}
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{
		"endpoint": `re"cs`, "deployment": "green.v2", "stable": `b\lue`, "candidate": "gr een/../$1", "window": "15s",
	}
	for in, want := range map[string]string{
		`x{endpoint="${endpoint}"}`:              `x{endpoint="re\"cs"}`,
		`x{d=~"${deployment}|other"}[${window}]`: `x{d=~"green\\.v2|other"}[15s]`,
		`x{d=~"(${deployment})+"}`:               `x{d=~"(green\\.v2)+"}`,
		`x{d=~"${deployment}+"}`:                 `x{d=~"(?:green\\.v2)+"}`,
		"x{d!~`${deployment}`}":                  `x{d!~"green\\.v2"}`,
		`x{d='${stable}'} # about ${nobody}`:     `x{d="b\\lue"}`,
		`label_replace(x{e="${endpoint}"}, "a", "${candidate}", "b", "(${deployment}).*")`: `label_replace(x{e="re\"cs"}, "a", "gr een/../$$1", "b", "(green\\.v2).*")`,
	} {
		got, err := Expand(in, vars)
		if err != nil || got != want {
			t.Errorf("%s: got %s, error %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{
		`rate_${endpoint}`, `x{e="${nobody}"}`, `x{e="\${endpoint}"}`, `x{e=~"[${endpoint}]"}`, `x{e=~"a{${endpoint}}"}`,
		`x{e=~"(?${endpoint})"}`, "x{e=~`\\${endpoint}`}", `x{e="${endpoint"}`, `sum by (${endpoint}) (x)`,
	} {
		if got, err := Expand(in, vars); err == nil {
			t.Errorf("%s: got %s, want an error", in, got)
		}
	}
	if got, err := Expand(`x[${window}]`, map[string]string{"window": "1 or x"}); !errors.Is(err, template.ErrUnsafe) {
		t.Errorf("got %s, %v, want ErrUnsafe", got, err)
	}
}

// What Prometheus does not read takes plain names only.
func TestExpandUnread(t *testing.T) {
	const text = `keep_last_value(x{e="${endpoint}"}) default 0`
	if got, err := ExpandUnread(text, map[string]string{"endpoint": "recs-2"}); err != nil || got != `keep_last_value(x{e="recs-2"}) default 0` {
		t.Errorf("got %s, %v", got, err)
	}
	for _, evil := range []string{`a"}`, "a.b", "a b", ""} {
		if got, err := ExpandUnread(text, map[string]string{"endpoint": evil}); !errors.Is(err, template.ErrUnsafe) {
			t.Errorf("%q: got %s, %v, want ErrUnsafe", evil, got, err)
		}
	}
}

// FuzzNames puts any name into typical expressions: read again, the expression must
// be the one that was written, with the name itself in it and nothing more.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"recs", `"} or vector(1) #`, `\`, "a`b", "${endpoint}", ".*|x", "Ω\u2028", "$1", "a\tb", `\E.*`, "(?i)a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		vars := map[string]string{"endpoint": name, "window": "15s"}
		const text = `sum(x{e="${endpoint}",d=~"^${endpoint}$|o"}[${window}]) / label_replace(y{e!~'${endpoint}'}, "a", "${endpoint}", "b", "${endpoint}")`
		got, err := Expand(`rate(`+text[4:], vars)
		if err != nil {
			return
		}
		expr, err := parser.ParseExpr(got)
		if err != nil {
			t.Fatalf("%q: %s is not read: %v", name, got, err)
		}
		if again := expr.String(); again != got {
			t.Fatalf("%q: %s reads as %s", name, got, again)
		}
		all := selectors(expr)
		if len(all) != 2 || len(all[0].LabelMatchers) != 3 || len(all[1].LabelMatchers) != 2 {
			t.Fatalf("%q: %s has another shape", name, got)
		}
		for _, m := range []struct {
			matcher interface{ Matches(string) bool }
			want    bool
		}{{all[0].LabelMatchers[0], true}, {all[0].LabelMatchers[1], true}, {all[1].LabelMatchers[0], false}} {
			if m.matcher.Matches(name) != m.want || m.matcher.Matches(name+"x") == m.want && m.want {
				t.Fatalf("%q: %s does not mean the name alone", name, got)
			}
		}
	})
}

// What is parsed is written so that it is parsed to the same again.
func FuzzParseSelector(f *testing.F) {
	for _, s := range []string{`up`, `x{a="1",b!~"c|d"}`, "x{a=`b`}", `{"a.b",c='\n'}`, `x{e="${endpoint}"}`, `x{a=~"("}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSelector(text)
		if err != nil {
			return
		}
		again, err := ParseSelector(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q reads as %s, which reads as %s, %v", text, s, again, err)
		}
	})
}

// The four operators, and labels that are not there.
func TestMatches(t *testing.T) {
	series := map[string]string{"code": "503"}
	for text, want := range map[string]bool{
		`x{code="503"}`:      true,
		`x{code!="503"}`:     false,
		`x{code=~"5.."}`:     true,
		`x{code=~"5."}`:      false,
		`x{code!~"5.."}`:     false,
		`x{absent=""}`:       true,
		`x{absent!=""}`:      false,
		`x{absent=~".*"}`:    true,
		`x{absent=~".+"}`:    false,
		`x{code=~"50(3|4)"}`: true,
	} {
		s, err := ParseSelector(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Matches(func(label string) string { return series[label] }); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
}
