package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Read parses a file of at most so many values to a tree. The tree is nil when
// it cannot be used; features that are refused and duplicate keys are problems of a
// usable tree.
func Read(name string, data []byte, most int) (*Node, Problems) {
	src := &source{name: name}
	at := &Node{src: src, Line: 1, Col: 1}
	if len(data) > MaxBytes {
		return nil, Problems{ProblemAt(at, "", CodeBounds, fmt.Sprintf("the file is larger than %d KiB", MaxBytes>>10))}
	}
	if bytes.Count(data, []byte("\n")) > most {
		return nil, Problems{ProblemAt(at, "", CodeBounds, fmt.Sprintf("the file has more than %d lines", most))}
	}
	if marks(data) > most {
		return nil, Problems{ProblemAt(at, "", CodeBounds, tooMany(most))}
	}
	src.lines = strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	if ps, ok := characters(src, data); !ok {
		return nil, ps
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, Problems{ProblemAt(at, "", CodeSyntax, "the file is empty")}
	} else if err != nil {
		return nil, Problems{syntaxProblem(src, err)}
	}
	r := &reader{src: src, most: most}
	root := r.read(doc.Content[0], "", 0)
	var next yaml.Node
	switch err := dec.Decode(&next); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.problems = append(r.problems, syntaxProblem(src, err))
	default:
		end := &Node{src: src, Line: next.Line, Col: max(next.Column, 1)}
		r.problems = append(r.problems, ProblemAt(end, "", CodeSyntax, "a file holds one document").
			WithHint("put the second one into a file of its own"))
	}
	if r.tooMuch {
		return nil, r.problems
	}
	return root, r.problems
}

// marks counts what begins a value: a colon, a dash or a question mark before a
// blank, a comma, a bracket, a brace. There are at least half as many as values, and
// counting them costs next to nothing beside reading YAML. Those in texts and
// comments count too.
func marks(data []byte) int {
	n := 0
	for i, c := range data {
		switch c {
		case ',', '[', '{':
			n++
		case ':', '-', '?':
			if i+1 == len(data) || data[i+1] == ' ' || data[i+1] == '\t' || data[i+1] == '\n' || data[i+1] == '\r' {
				n++
			}
		}
	}
	return n
}

func tooMany(most int) string {
	return fmt.Sprintf("the file has more than %d values, or signs that begin one (: - ? , [ {)", most)
}

// reader turns YAML nodes into ours and refuses what policies do not have.
type reader struct {
	src      *source
	problems Problems
	nodes    int
	most     int // nodes
	tooMuch  bool
}

func (r *reader) read(y *yaml.Node, path string, depth int) *Node {
	n := &Node{src: r.src, Line: y.Line, Col: y.Column, Tag: y.ShortTag(), Value: y.Value}
	refuse := func(code, why, hint string) {
		if len(r.problems) > MaxProblems {
			return
		}
		r.problems = append(r.problems, ProblemAt(n, path, code, why).WithHint(hint))
	}
	switch r.nodes++; {
	case r.tooMuch:
		return n
	case depth > MaxDepth:
		refuse(CodeBounds, fmt.Sprintf("nested deeper than %d levels", MaxDepth), "")
		r.tooMuch = true
		return n
	case r.nodes > r.most:
		refuse(CodeBounds, tooMany(r.most), "")
		r.tooMuch = true
		return n
	}
	if y.Anchor != "" {
		refuse(CodeRefused, "anchors are not part of the language", "write the value out, or use extends")
	}
	if y.Style&yaml.TaggedStyle != 0 {
		refuse(CodeRefused, "tags are not part of the language", "remove "+Shorten(y.Tag))
	}
	switch y.Kind {
	case yaml.AliasNode:
		refuse(CodeRefused, "aliases are not part of the language", "write the value out, or use extends")
		n.Tag, n.Value = "!!str", "*"+y.Value
	case yaml.MappingNode:
		n.Shape = Mapping
		r.readMapping(n, y, path, depth)
	case yaml.SequenceNode:
		n.Shape = Sequence
		for i, item := range y.Content {
			n.Items = append(n.Items, r.read(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
	case yaml.ScalarNode, yaml.DocumentNode:
	}
	return n
}

func (r *reader) readMapping(n *Node, y *yaml.Node, path string, depth int) {
	seen := map[string]*Node{}
	for i := 0; i+1 < len(y.Content) && !r.tooMuch; i += 2 {
		yk, yv := y.Content[i], y.Content[i+1]
		k := &Node{src: r.src, Line: yk.Line, Col: yk.Column, Tag: yk.ShortTag(), Value: yk.Value}
		report := func(code, why, hint string) {
			if len(r.problems) > MaxProblems {
				return
			}
			r.problems = append(r.problems, ProblemAt(k, path, code, why).WithGot(yk.Value).WithHint(hint))
		}
		switch {
		case k.Tag == "!!merge":
			report(CodeRefused, "merge keys are not part of the language", "write the keys out, or use extends")
			continue
		case yk.Kind != yaml.ScalarNode || k.Tag == "!!null":
			report(CodeRefused, "a key is plain text", "")
			continue
		case yk.Anchor != "" || yk.Style&yaml.TaggedStyle != 0:
			report(CodeRefused, "anchors and tags are not part of the language", "")
		}
		if first := seen[k.Value]; first != nil {
			report(CodeDuplicate, fmt.Sprintf("the key is given twice; first on line %d", first.Line), "")
			continue
		}
		seen[k.Value] = k
		v := r.read(yv, Join(path, k.Value), depth+1)
		n.Keys, n.Items = append(n.Keys, k), append(n.Items, v)
	}
}

var yamlLine = regexp.MustCompile(`(?s)^(?:yaml: )?(?:unmarshal errors:\s*)?(?:line (\d+): )?(.*)$`)

// syntaxProblem describes what the YAML parser could not read.
func syntaxProblem(src *source, err error) Problem {
	m := yamlLine.FindStringSubmatch(err.Error())
	line, convErr := strconv.Atoi(m[1])
	if convErr != nil {
		line = 1
	}
	at := &Node{src: src, Line: max(line, 1), Col: 1}
	text := src.line(at.Line)
	at.Col = len(text) - len(strings.TrimLeft(text, " \t")) + 1
	p := ProblemAt(at, "", CodeSyntax, "this is not YAML: "+Shorten(m[2]))
	switch {
	case strings.Contains(text, "\t"):
		return p.WithHint("indent with spaces, not tabs")
	case strings.Contains(text, ": >="):
		return p.WithHint(`put limits into quotes: limit: ">= 0.98x stable"`)
	}
	return p
}
