package policies

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

// The bounds of input.
const (
	// MaxBytes is the largest file that is read.
	MaxBytes = 256 << 10
	// MaxDepth is how deep mappings and lists may be nested.
	MaxDepth = 32
	// MaxNodes is how many values, and lines, a config may have.
	MaxNodes = 20_000
)

// shape is what a node is.
type shape int

const (
	scalar shape = iota
	mapping
	sequence
)

// String is the shape for people.
func (s shape) String() string {
	return [...]string{"a single value", "a mapping", "a list"}[s]
}

// A source is a file, kept for excerpts.
type source struct {
	name  string
	lines []string
}

// line returns the n-th line, from 1; "" when there is none.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// A node is a YAML value that knows where it came from.
type node struct {
	shape shape
	// tag is YAML's resolved tag of a scalar: !!str, !!int, !!null, …
	tag   string
	value string
	// keys[i] names items[i] in a mapping; a sequence has items only.
	keys  []*node
	items []*node

	src       *source
	line, col int
	// origin says where a value came from that stands in no file: "default".
	origin string
}

// child returns the value of a key, nil when there is none.
func (n *node) child(key string) *node {
	_, v := n.entry(key)
	return v
}

func (n *node) entry(key string) (k, v *node) {
	if n == nil || n.shape != mapping {
		return nil, nil
	}
	for i, k := range n.keys {
		if k.value == key {
			return k, n.items[i]
		}
	}
	return nil, nil
}

// set replaces or appends a key.
func (n *node) set(k, v *node) {
	for i, old := range n.keys {
		if old.value == k.value {
			n.keys[i], n.items[i] = k, v
			return
		}
	}
	n.keys, n.items = append(n.keys, k), append(n.items, v)
}

// remove drops a key.
func (n *node) remove(key string) {
	for i, k := range n.keys {
		if k.value == key {
			n.keys = append(n.keys[:i:i], n.keys[i+1:]...)
			n.items = append(n.items[:i:i], n.items[i+1:]...)
			return
		}
	}
}

// clone copies the tree; positions and origins stay.
func (n *node) clone() *node {
	if n == nil {
		return nil
	}
	c := *n
	c.keys, c.items = make([]*node, len(n.keys)), make([]*node, len(n.items))
	for i := range n.keys {
		c.keys[i] = n.keys[i].clone()
	}
	for i := range n.items {
		c.items[i] = n.items[i].clone()
	}
	return &c
}

// word is the text of a key's value; "" when there is none.
func (n *node) word(key string) string {
	if v := n.child(key); v != nil {
		return v.value
	}
	return ""
}

// drop removes a key; a nil node has none.
func (n *node) drop(key string) {
	if n != nil {
		n.remove(key)
	}
}

// moveTo says that the node stands where another one does.
func (n *node) moveTo(at *node) { n.src, n.line, n.col = at.src, at.line, at.col }

// file is the name of the file in which the node stands; "" when it stands in none.
func (n *node) file() string {
	if n == nil || n.src == nil {
		return ""
	}
	return n.src.name
}

// sameFile reports whether both nodes come from one file.
func (n *node) sameFile(as *node) bool { return n.src == as.src }

// start is the beginning of a file, for problems of the whole.
func start(name string) *node { return &node{src: &source{name: name}, line: 1, col: 1} }

// text is the node on one line, for "got".
func (n *node) text() string {
	switch n.shape {
	case mapping:
		return "a mapping"
	case sequence:
		return "a list"
	case scalar:
	}
	return n.value
}

// derived is a scalar that stands in no file; it takes its place from at.
func derived(at *node, value, origin string) *node {
	n := &node{tag: "!!str", value: value, origin: origin}
	if at != nil {
		n.src, n.line, n.col = at.src, at.line, at.col
	}
	return n
}

// readTree parses a file of at most so many values to a tree. The tree is nil when
// it cannot be used; features that are refused and duplicate keys are problems of a
// usable tree.
func readTree(name string, data []byte, most int) (*node, Problems) {
	src := &source{name: name}
	at := &node{src: src, line: 1, col: 1}
	if len(data) > MaxBytes {
		return nil, Problems{problemAt(at, "", CodeBounds, fmt.Sprintf("the file is larger than %d KiB", MaxBytes>>10))}
	}
	if bytes.Count(data, []byte("\n")) > most {
		return nil, Problems{problemAt(at, "", CodeBounds, fmt.Sprintf("the file has more than %d lines", most))}
	}
	if marks(data) > most {
		return nil, Problems{problemAt(at, "", CodeBounds, tooMany(most))}
	}
	src.lines = strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	if ps, ok := characters(src, data); !ok {
		return nil, ps
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, Problems{problemAt(at, "", CodeSyntax, "the file is empty")}
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
		end := &node{src: src, line: next.Line, col: max(next.Column, 1)}
		r.problems = append(r.problems, problemAt(end, "", CodeSyntax, "a file holds one document").
			hint("put the second one into a file of its own"))
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

func (r *reader) read(y *yaml.Node, path string, depth int) *node {
	n := &node{src: r.src, line: y.Line, col: y.Column, tag: y.ShortTag(), value: y.Value}
	refuse := func(code, why, hint string) {
		if len(r.problems) > MaxProblems {
			return
		}
		r.problems = append(r.problems, problemAt(n, path, code, why).hint(hint))
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
		refuse(CodeRefused, "tags are not part of the language", "remove "+shorten(y.Tag))
	}
	switch y.Kind {
	case yaml.AliasNode:
		refuse(CodeRefused, "aliases are not part of the language", "write the value out, or use extends")
		n.tag, n.value = "!!str", "*"+y.Value
	case yaml.MappingNode:
		n.shape = mapping
		r.readMapping(n, y, path, depth)
	case yaml.SequenceNode:
		n.shape = sequence
		for i, item := range y.Content {
			n.items = append(n.items, r.read(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
	case yaml.ScalarNode, yaml.DocumentNode:
	}
	return n
}

func (r *reader) readMapping(n *node, y *yaml.Node, path string, depth int) {
	seen := map[string]*node{}
	for i := 0; i+1 < len(y.Content) && !r.tooMuch; i += 2 {
		yk, yv := y.Content[i], y.Content[i+1]
		k := &node{src: r.src, line: yk.Line, col: yk.Column, tag: yk.ShortTag(), value: yk.Value}
		report := func(code, why, hint string) {
			if len(r.problems) > MaxProblems {
				return
			}
			r.problems = append(r.problems, problemAt(k, path, code, why).got(yk.Value).hint(hint))
		}
		switch {
		case k.tag == "!!merge":
			report(CodeRefused, "merge keys are not part of the language", "write the keys out, or use extends")
			continue
		case yk.Kind != yaml.ScalarNode || k.tag == "!!null":
			report(CodeRefused, "a key is plain text", "")
			continue
		case yk.Anchor != "" || yk.Style&yaml.TaggedStyle != 0:
			report(CodeRefused, "anchors and tags are not part of the language", "")
		}
		if first := seen[k.value]; first != nil {
			report(CodeDuplicate, fmt.Sprintf("the key is given twice; first on line %d", first.line), "")
			continue
		}
		seen[k.value] = k
		v := r.read(yv, join(path, k.value), depth+1)
		n.keys, n.items = append(n.keys, k), append(n.items, v)
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
	at := &node{src: src, line: max(line, 1), col: 1}
	text := src.line(at.line)
	at.col = len(text) - len(strings.TrimLeft(text, " \t")) + 1
	p := problemAt(at, "", CodeSyntax, "this is not YAML: "+shorten(m[2]))
	switch {
	case strings.Contains(text, "\t"):
		return p.hint("indent with spaces, not tabs")
	case strings.Contains(text, ": >="):
		return p.hint(`put limits into quotes: limit: ">= 0.98x stable"`)
	}
	return p
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_/%-]+$`)

// join appends a key to a path.
func join(path, key string) string {
	if !plainKey.MatchString(key) {
		return path + "[" + strconv.Quote(shorten(key)) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// Locate says where a document that Decode reads has the value at a path, written
// as problems name it ("routers.edge", "triggers[1].nats.url"); where there is none,
// the nearest value around it. ok is false when not even the path's first part is
// there.
func Locate(data []byte, path string) (line, col int, ok bool) {
	n, _ := readTree("", data, MaxNodes)
	for part := range strings.SplitSeq(strings.ReplaceAll(path, "[", ".["), ".") {
		k, v := n.entry(part)
		if index, list := strings.CutPrefix(part, "["); list {
			if i, err := strconv.Atoi(strings.TrimSuffix(index, "]")); err == nil && n != nil && n.shape == sequence && i >= 0 && i < len(n.items) {
				k, v = n.items[i], n.items[i]
			}
		}
		if v == nil {
			break
		}
		n, line, col, ok = v, k.line, k.col, true
	}
	return line, col, ok
}
