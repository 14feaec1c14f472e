package template

import (
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	vars := map[string]string{
		"endpoint": `re"cs`, "deployment": "green.v2", "stable": `b\lue`, "candidate": "gr een/../x", "window": "15s",
	}
	for _, tt := range []struct {
		lang Lang
		in   string
		want string
	}{
		{LangText, `a ${endpoint} $1 \`, `a re"cs $1 \`},
		{LangRegexp, `${deployment}|other`, `green\.v2|other`},
		{LangRegexp, `(${deployment})+`, `(green\.v2)+`},
		{LangRegexp, `${deployment}+`, `(?:green\.v2)+`},
		{LangRegexp, `\\${deployment}`, `\\green\.v2`},
		{LangKQL, `T | where E =~ "${endpoint}" | where X matches regex "^${deployment}$"`, `T | where E =~ "re\"cs" | where X matches regex "^green\\.v2$"`},
		{LangKQL, `T | extend x = extract("a${window}", 1, y)`, `T | extend x = extract("a15s", 1, y)`},
		{LangKQL, `T | where E == @"${endpoint}" and T > ago(${window})`, `T | where E == @"re""cs" and T > ago(15s)`},
		{LangURL, "https://m.example/api/${candidate}/x?q=${endpoint}", "https://m.example/api/gr%20een%2F..%2Fx/x?q=re%22cs"},
		{LangJSON, `{"a": "${endpoint}", "b": "${stable}"}`, `{"a": "re\"cs", "b": "b\\lue"}`},
	} {
		got, err := Expand(tt.in, tt.lang, vars)
		if err != nil || got != tt.want {
			t.Errorf("%s %s: got %s, error %v, want %s", tt.lang, tt.in, got, err, tt.want)
		}
	}
}

// Where a name could change what an expression means, it is refused.
func TestExpandRefuses(t *testing.T) {
	vars := map[string]string{"endpoint": "recs", "deployment": "..", "stable": "", "candidate": "a\nb", "window": "1 or x"}
	for _, tt := range []struct {
		lang Lang
		in   string
	}{
		{LangText, `${stable}`},                                    // empty
		{LangText, `${candidate}`},                                 // a line break
		{LangRegexp, `[${endpoint}]`},                              // in a class
		{LangRegexp, `a{${endpoint}}`},                             // in a repetition
		{LangRegexp, `(?${endpoint})`},                             // in the head of a group
		{LangRegexp, `\${endpoint}`},                               // continues an escape
		{LangRegexp, `\x${endpoint}`},                              // continues an escape
		{LangKQL, `T | extend x = extract("${deployment}", 1, y)`}, // a regular expression by its place
		{LangKQL, `${endpoint} | count`},                           // a table
		{LangKQL, `T | where ['${window}'] == ${stable}`},          // a bare value
		{LangURL, "https://${endpoint}/x"},                         // the host
		{LangURL, "${endpoint}/x"},                                 // the host
		{LangURL, "/a/${deployment}/b"},                            // the folder above
		{LangURL, "/a#${endpoint}"},                                // never sent
		{LangURL, "/a%2${endpoint}"},                               // continues an escape
		{LangJSON, `{"a": ${endpoint}}`},                           // not in a string
		{LangJSON, `{"a": "\${endpoint}"}`},                        // continues an escape
		{LangJSON, `{"a": "${nothing}"}`},                          // no such name
		{LangJSON, `{"a": "${endpoint"}`},                          // not closed
		{Lang("sql"), `select '${endpoint}'`},                      // no such language
	} {
		if got, err := Expand(tt.in, tt.lang, vars); err == nil {
			t.Errorf("%s %s: got %s, want an error", tt.lang, tt.in, got)
		}
	}
	if _, err := Expand(`T | where E == "${stable}"`, LangKQL, vars); !errors.Is(err, ErrUnsafe) {
		t.Errorf("got %v, want ErrUnsafe", err)
	}
}

// FuzzExpand puts any name into typical expressions: the expression must keep
// the shape that it has with a harmless name, and the name must come out of it
// unchanged.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"recs", `"} or vector(1) #`, `\`, "a`b", "'; drop", "..", "%2e%2e", "${endpoint}", ".*|x", "Ω\u2028", "@\"\"", "//", "a\tb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		vars := func(v string) map[string]string { return map[string]string{"endpoint": v, "window": "15s"} }
		for _, expr := range []string{
			`T | where E =~ "${endpoint}" and F == @"${endpoint}" and G matches regex "a${endpoint}+" | where T > ago(${window})`,
			"T | where E == ```${endpoint}``` // ${endpoint}", `T | where ['${endpoint}'] has h"${endpoint}"`,
		} {
			checkShape(t, expr, LangKQL, kqlQuotes, vars, name)
		}
		checkURL(t, vars(name), name)
		checkJSON(t, vars(name), name)
	})
}

// checkShape compares the expression's skeleton, with every string emptied,
// and reads the name back out of the strings.
func checkShape(t *testing.T, expr string, lang Lang, quotes []quoting, vars func(string) map[string]string, name string) {
	t.Helper()
	got, err := Expand(expr, lang, vars(name))
	if err != nil {
		if name != "" && regexp.MustCompile(`^[\w.-]+$`).MatchString(name) && len(name) < 100 {
			t.Errorf("%s %q into %s: got %v, want no error for a plain name", lang, name, expr, err)
		}
		return
	}
	harmless, err := Expand(expr, lang, vars("n"))
	if err != nil {
		t.Fatal(err)
	}
	gotSkeleton, gotBodies := skeleton(got, quotes)
	wantSkeleton, wantBodies := skeleton(harmless, quotes)
	if gotSkeleton != wantSkeleton || len(gotBodies) != len(wantBodies) {
		t.Fatalf("%s: %q changes the shape of %s:\n got %s\nwant %s", lang, name, expr, gotSkeleton, wantSkeleton)
	}
	for _, body := range gotBodies {
		if !strings.Contains(body, name) && !strings.Contains(body, regexp.QuoteMeta(name)) {
			t.Fatalf("%s: %q is not in the string %q of %s", lang, name, body, got)
		}
		if re, err := regexp.Compile(body); strings.HasPrefix(body, "^") && strings.HasSuffix(body, "$|o") && err == nil && !re.MatchString(name) {
			t.Fatalf("%s: the expression %q does not match %q", lang, body, name)
		}
	}
}

// skeleton empties the strings and comments of an expression and returns what
// they hold, unescaped. It reads byte by byte, unlike lex.
func skeleton(s string, quotes []quoting) (string, []string) {
	var out strings.Builder
	var bodies []string
	for s != "" {
		var q quoting
		for _, c := range quotes {
			if strings.HasPrefix(s, c.open) {
				q = c
				break
			}
		}
		if q.open == "" {
			out.WriteByte(s[0])
			s = s[1:]
			continue
		}
		s = s[len(q.open):]
		var body strings.Builder
		for s != "" && !strings.HasPrefix(s, q.close) || strings.HasPrefix(q.open, "@") && strings.HasPrefix(s, q.close+q.close) {
			if !q.raw && s[0] == '\\' && len(s) > 1 || strings.HasPrefix(q.open, "@") && strings.HasPrefix(s, q.close+q.close) {
				s = s[1:]
			}
			body.WriteByte(s[0])
			s = s[1:]
		}
		s = strings.TrimPrefix(s, q.close)
		out.WriteString(q.open + q.close)
		bodies = append(bodies, body.String())
	}
	return out.String(), bodies
}

func checkURL(t *testing.T, vars map[string]string, name string) {
	t.Helper()
	got, err := Expand("https://m.example/v1/${endpoint}/x?a=${endpoint}&b=1", LangURL, vars)
	if err != nil {
		return
	}
	u, err := url.Parse(got)
	if err != nil {
		t.Fatalf("%q: %s cannot be parsed: %v", name, got, err)
	}
	if u.Host != "m.example" || u.Fragment != "" || u.User != nil || u.Query().Get("a") != name || u.Query().Get("b") != "1" || len(u.Query()) != 2 {
		t.Fatalf("%q changes the shape of the URL: %s", name, got)
	}
	if u.Path != "/v1/"+name+"/x" || strings.Count(u.EscapedPath(), "/") != 3 {
		t.Fatalf("%q changes the path of the URL: %s", name, got)
	}
}

func checkJSON(t *testing.T, vars map[string]string, name string) {
	t.Helper()
	got, err := Expand(`{"q": ["a ${endpoint} b", 1]}`, LangJSON, vars)
	if err != nil {
		return
	}
	var v struct{ Q []any }
	if err := json.Unmarshal([]byte(got), &v); err != nil || len(v.Q) != 2 || v.Q[0] != "a "+name+" b" {
		t.Fatalf("%q changes the shape of the JSON: %s: %v", name, got, err)
	}
}

func TestVariables(t *testing.T) {
	got, err := Variables("a ${endpoint} $x {y} ${window}")
	if err != nil || strings.Join(got, " ") != "endpoint window" {
		t.Errorf("got %v, error %v, want endpoint window", got, err)
	}
	if _, err := Variables("a ${endpoint"); err == nil {
		t.Error("got no error, want one for an unclosed substitution")
	}
}
