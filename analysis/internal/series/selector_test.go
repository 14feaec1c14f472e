package series

import (
	"strings"
	"testing"
)

// What Prometheus takes for a selector is read, and written in one way.
func TestParseSelector(t *testing.T) {
	for in, want := range map[string]string{
		`up`:                                    `up`,
		`up{}`:                                  `up`,
		` up { a = "x" , b!='y',} `:             `up{a="x",b!="y"}`,
		`a:b{code=~"5..|424"}`:                  `a:b{code=~"5..|424"}`,
		"x{p=`a\\d`}":                           `x{p="a\\d"}`,
		`x{p="q\"\\\n\u00e9\x41"}`:              `x{p="q\"\\\néA"}`,
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
		`x + y`:                                 "",
		`{a="1"}`:                               "",
		``:                                      "",
		`x{__name__="y"}`:                       "",
		`{__name__=~"y"}`:                       "",
		`x{a="1"} # comment`:                    "",
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

// A name cannot widen the question that it is put into, whatever it holds.
func TestExpandIsLiteral(t *testing.T) {
	sel, err := ParseSelector(`x{e="${endpoint}",d=~"${endpoint}|z"}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, evil := range []string{`a`, `.*`, `a"} or up{b="`, `a|b`, `\E.*`, `a\`, `(?i)a`} {
		s, err := sel.Expand(map[string]string{"endpoint": evil})
		if err != nil {
			t.Fatalf("Expand with %q: %v", evil, err)
		}
		again, err := ParseSelector(s.String())
		if err != nil || len(again.Matchers) != 2 {
			t.Fatalf("Expand with %q: got %s, which reads as %v, %v", evil, s, again, err)
		}
		for v, want := range map[string]bool{evil: true, "other": false} {
			l := Labels{{"__name__", "x"}, {"d", v}, {"e", v}}
			if got := s.Matches(l); got != want {
				t.Errorf("Expand with %q: %s matches %q: got %t, want %t", evil, s, v, got, want)
			}
		}
	}
	for _, bad := range []map[string]string{nil, {"endpoint": ""}, {"endpoint": "a\nb"}} {
		if got, err := sel.Expand(bad); err == nil {
			t.Errorf("Expand with %q: got %s, want an error", bad, got)
		}
	}
}

// The four operators, and labels that are not there.
func TestMatches(t *testing.T) {
	l := Labels{{"__name__", "x"}, {"code", "503"}}
	for text, want := range map[string]bool{
		`x{code="503"}`:      true,
		`y{code="503"}`:      false,
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
		if got := s.Matches(l); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
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
