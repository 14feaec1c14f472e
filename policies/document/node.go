package document

// NodeKind is what a node is.
type NodeKind int

const (
	Scalar NodeKind = iota
	Mapping
	Sequence
)

// String is the shape for people.
func (s NodeKind) String() string {
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

// A Node is a YAML value that knows where it came from.
type Node struct {
	Shape NodeKind
	// Tag is YAML's resolved tag of a scalar: !!str, !!int, !!null, …
	Tag   string
	Value string
	// Keys[i] names items[i] in a mapping; a sequence has items only.
	Keys  []*Node
	Items []*Node

	src       *source
	Line, Col int
	// Origin says where a value came from that stands in no file: "default".
	Origin string
}

// Child returns the value of a key, nil when there is none.
func (n *Node) Child(key string) *Node {
	_, v := n.Entry(key)
	return v
}

func (n *Node) Entry(key string) (k, v *Node) {
	if n == nil || n.Shape != Mapping {
		return nil, nil
	}
	for i, k := range n.Keys {
		if k.Value == key {
			return k, n.Items[i]
		}
	}
	return nil, nil
}

// Set replaces or appends a key.
func (n *Node) Set(k, v *Node) {
	for i, old := range n.Keys {
		if old.Value == k.Value {
			n.Keys[i], n.Items[i] = k, v
			return
		}
	}
	n.Keys, n.Items = append(n.Keys, k), append(n.Items, v)
}

// Remove drops a key.
func (n *Node) Remove(key string) {
	for i, k := range n.Keys {
		if k.Value == key {
			n.Keys = append(n.Keys[:i:i], n.Keys[i+1:]...)
			n.Items = append(n.Items[:i:i], n.Items[i+1:]...)
			return
		}
	}
}

// Clone copies the tree; positions and origins stay.
func (n *Node) Clone() *Node {
	if n == nil {
		return nil
	}
	c := *n
	c.Keys, c.Items = make([]*Node, len(n.Keys)), make([]*Node, len(n.Items))
	for i := range n.Keys {
		c.Keys[i] = n.Keys[i].Clone()
	}
	for i := range n.Items {
		c.Items[i] = n.Items[i].Clone()
	}
	return &c
}

// Word is the text of a key's value; "" when there is none.
func (n *Node) Word(key string) string {
	if v := n.Child(key); v != nil {
		return v.Value
	}
	return ""
}

// Drop removes a key; a nil node has none.
func (n *Node) Drop(key string) {
	if n != nil {
		n.Remove(key)
	}
}

// MoveTo says that the node stands where another one does.
func (n *Node) MoveTo(at *Node) { n.src, n.Line, n.Col = at.src, at.Line, at.Col }

// File is the name of the file in which the node stands; "" when it stands in none.
func (n *Node) File() string {
	if n == nil || n.src == nil {
		return ""
	}
	return n.src.name
}

// SameFile reports whether both nodes come from one file.
func (n *Node) SameFile(as *Node) bool { return n.src == as.src }

// Start is the beginning of a file, for problems of the whole.
func Start(name string) *Node { return &Node{src: &source{name: name}, Line: 1, Col: 1} }

// Text is the node on one line, for "got".
func (n *Node) Text() string {
	switch n.Shape {
	case Mapping:
		return "a mapping"
	case Sequence:
		return "a list"
	case Scalar:
	}
	return n.Value
}

// Derived is a scalar that stands in no file; it takes its place from at.
func Derived(at *Node, value, origin string) *Node {
	n := &Node{Tag: "!!str", Value: value, Origin: origin}
	if at != nil {
		n.src, n.Line, n.Col = at.src, at.Line, at.Col
	}
	return n
}
