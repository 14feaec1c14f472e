package policies_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
)

// The defaults in the types are constants: all of them can be read.
func TestDefaultsOfTheLanguage(t *testing.T) {
	var d policies.Document
	tree, ps := document.Read("t", []byte("spec: {endpoint: {}, approvals: [{}], windows: {}, steps: [5%], guardrails: [{}], preflight: [{expect: {}}]}"), policies.MaxPolicyNodes)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	if _, ps := document.DecodeTree(tree, &d, true); len(ps) > 0 {
		t.Errorf("got problems in defaults:\n%s", ps.Text())
	}
}

// However much is wrong with a file, a hundred problems are named, quickly, and it
// stays wrong; YAML of more values than any policy has is not read.
func TestProblemsAreBounded(t *testing.T) {
	lines := func(n int, line string) string {
		var b strings.Builder
		b.WriteString("apiVersion: belay/v1\nkind: RolloutPolicy\n")
		for i := range n {
			fmt.Fprintf(&b, line, i)
		}
		return b.String()
	}
	for name, x := range map[string]struct {
		text string
		want int
		last string
	}{
		"a few unknown keys":    {lines(3, "key%d: 1\n"), 5, ""},
		"many unknown keys":     {lines(3900, "key%d: 1\n"), document.MaxProblems, "more than this is wrong"},
		"long unknown keys":     {lines(2000, "key%099d: 1\n"), document.MaxProblems, "more than this is wrong"},
		"one key many times":    {lines(1900, "extends: [a%d]\n"), document.MaxProblems, "more than this is wrong"},
		"anchors":               {lines(3900, "key%d: &a 1\n"), document.MaxProblems, "more than this is wrong"},
		"more lines than any":   {lines(4000, "key%d: 1\n"), 1, "more than 4000 lines"},
		"a list of many values": {lines(1, "extends: [x%d") + strings.Repeat(",1", 30_000) + "]\n", 1, "more than 4000 values"},
		"pairs in a list":       {`{"extends":["a":1` + strings.Repeat(`,"b":1`, 2100) + "]}", 1, "more than 4000 values"},
		"a text of many lines":  {"spec: |\n" + strings.Repeat("\n", 5000), 1, "more than 4000 lines"},
	} {
		fsys := fstest.MapFS{"p.yaml": {Data: []byte(x.text)}}
		began := time.Now()
		_, ps := policies.Parse(fsys, "p.yaml", nil)
		if took := time.Since(began); took > 5*time.Second { // a tenth of a second where nothing else runs
			t.Errorf("%s: took %s", name, took)
		}
		if !ps.HasErrors() || len(ps) != x.want || !strings.Contains(ps[len(ps)-1].Why, x.last) {
			t.Errorf("%s: got %d problems of which the last is %q, want %d and %q", name, len(ps), ps[len(ps)-1].Why, x.want, x.last)
		}
	}
}
