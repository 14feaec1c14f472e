// Package jsonpath reads the expressions by which numbers are taken out of JSON:
// what to ask, a path of RFC 9535, and how several numbers become one.
//
//	$.rows[0].n                              a member, an element (from the end: [-1])
//	$["a name"].*[*]                         a quoted member, all members, all elements
//	$.rows[?@.deployment=="green"].n         the elements whose member is this text
//	sum($.rows[?@.tags.d=="green"].points[*][1])
//
// The package is pure: policies are checked by what the source reads with. Names
// are put into quoted texts of a path, every character but letters and digits escaped,
// so that none can change the path's shape.
package jsonpath

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/theory/jsonpath"

	"github.com/belayd/belay/analysis/template"
)

// A Path selects values in a JSON document. A member that is not there selects
// nothing, which is not an error.
type Path struct{ path *jsonpath.Path }

const (
	maxPath   = 4096
	maxValues = 100_000
	// maxForks bounds how often one value can be selected, by lists of selectors and
	// by descendants.
	maxForks = 64
)

// ParsePath reads a path. ${…} may stand in quoted texts; vars replaces it,
// literally.
func ParsePath(text string, vars map[string]string) (Path, error) {
	text = strings.TrimSpace(text)
	fault := func(start int, why, hint string) (Path, error) {
		return Path{}, &template.QueryError{Text: text, Start: start, Why: why, Hint: hint, Syntax: true}
	}
	if len(text) > maxPath {
		return fault(0, fmt.Sprintf("the path is longer than %d bytes", maxPath), "")
	}
	if at := bareName.FindStringSubmatchIndex(text); at != nil {
		return fault(at[2], "a condition names its element @", "write "+bareName.ReplaceAllString(text, "[?@.$1$2"))
	}
	full, err := put(text, vars)
	if err != nil {
		return Path{}, err
	}
	p, err := jsonpath.Parse(full)
	if err != nil {
		return fault(0, "it is no path of RFC 9535: "+strings.TrimPrefix(err.Error(), "jsonpath: "), "")
	}
	forks := 1
	for _, s := range p.Query().Segments() {
		forks *= max(len(s.Selectors()), 1)
		if s.IsDescendant() {
			forks *= 16
		}
		if forks > maxForks {
			return fault(0, "the path may select the same values too often", "")
		}
	}
	return Path{p}, nil
}

// bareName matches a condition as it was written before paths were RFC 9535's:
// [?deployment=="green"].
var bareName = regexp.MustCompile(`\[\?\s*([\pL_][\pL\pN_-]*(?:\.[\pL_][\pL\pN_-]*)*)(\s*==)`)

// put replaces ${…} in the quoted texts of a path; instants in numbers stand outside, too.
func put(text string, vars map[string]string) (string, error) {
	var out strings.Builder
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		name, _, closed := strings.Cut(strings.TrimPrefix(text[i:], "${"), "}")
		switch {
		case strings.HasPrefix(text[i:], "${"):
			value, known := vars[name]
			why := ""
			switch {
			case !closed || !known:
				why = "there is no such name: ${" + name + "}"
			case quote == 0 && !isNumber(name):
				why = "names stand inside quotes"
			}
			if why != "" {
				return "", &template.QueryError{Text: text, Start: i, Why: why, Syntax: true}
			}
			if quote != 0 {
				value = escape(value)
			}
			out.WriteString(value)
			i += len("${") + len(name)
			continue
		case quote != 0 && c == '\\' && i+1 < len(text):
			out.WriteByte(c)
			i++
			c = text[i]
		case quote == c:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		}
		out.WriteByte(c)
	}
	return out.String(), nil
}

// escape writes everything but letters and digits as \uXXXX.
func escape(value string) string {
	var b strings.Builder
	for _, r := range value {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			b.WriteRune(r)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, u)
		}
	}
	return b.String()
}

// Select are the values that the path selects in the document, in its order.
func (p Path) Select(doc any) ([]any, error) {
	nodes := p.path.SelectLocated(doc)
	if len(nodes) > maxValues {
		return nil, fmt.Errorf("the path selects more than %d values", maxValues)
	}
	nodes.Sort() // the members of an object have no order of their own
	out := make([]any, 0, len(nodes))
	for v := range nodes.Nodes() {
		out = append(out, v)
	}
	return out, nil
}

// Number is a JSON number, or one in a text, as warehouses write large ones;
// null is none.
func Number(v any) (x float64, ok bool, err error) {
	var text string
	switch y := v.(type) {
	case nil:
		return 0, false, nil
	case json.Number:
		text = y.String()
	case string:
		text = y
	default:
		return 0, false, fmt.Errorf("it selects a %T, a number is wanted", v)
	}
	x, err = strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, false, fmt.Errorf("it selects %.40q, a number is wanted", text)
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, false, fmt.Errorf("it selects %v", x)
	}
	return x, true, nil
}
