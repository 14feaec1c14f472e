package document

import (
	"regexp"
	"strconv"
	"strings"
)

// An Index finds the node of a path, to report problems of meaning at.
type Index map[string]*Node

// Nearest is the node of the path or of the closest one above it; nil when there is
// not even a root.
func (x Index) Nearest(path string) *Node {
	for {
		if n, ok := x[path]; ok {
			return n
		}
		if path == "" {
			return nil
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_/%-]+$`)

// Join appends a key to a path.
func Join(path, key string) string {
	if !plainKey.MatchString(key) {
		return path + "[" + strconv.Quote(Shorten(key)) + "]"
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
	n, _ := Read("", data, MaxNodes)
	for part := range strings.SplitSeq(strings.ReplaceAll(path, "[", ".["), ".") {
		k, v := n.Entry(part)
		if index, list := strings.CutPrefix(part, "["); list {
			if i, err := strconv.Atoi(strings.TrimSuffix(index, "]")); err == nil && n != nil && n.Shape == Sequence &&
				i >= 0 && i < len(n.Items) {
				k, v = n.Items[i], n.Items[i]
			}
		}
		if v == nil {
			break
		}
		n, line, col, ok = v, k.Line, k.Col, true
	}
	return line, col, ok
}
