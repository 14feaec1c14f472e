package policies

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/belayd/belay/policies/document"
)

// maxFiles bounds how many files one policy may be made of.
const maxFiles = 16

// A loader reads a policy and merges it over what it extends.
type loader struct {
	fsys     fs.FS
	problems document.Problems
	// open are the files under way, from the policy down; reads counts all.
	open  []string
	reads int
	// bases are the trees that lock something, as they stood before the files
	// that extend them were merged over them.
	bases []lockedBase
}

// A lockedBase is a file that lets others only tighten what it locks.
type lockedBase struct {
	name  string
	tree  *document.Node
	paths []*document.Node
}

// load returns the merged tree of a file, nil when it cannot be used, and the
// file's own text when it extends nothing.
func (l *loader) load(name string) (tree *document.Node, text string) {
	data, err := document.ReadFile(l.fsys, name)
	if err != nil {
		l.problems = append(l.problems, document.ProblemAt(document.Start(name), "", document.CodeFile, err.Error()))
		return nil, ""
	}
	l.reads++
	tree, ps := document.Read(name, data, MaxPolicyNodes)
	l.problems = append(l.problems, ps...)
	if tree == nil {
		return nil, ""
	}
	if tree.Shape != document.Mapping {
		l.problems = append(l.problems, document.ProblemAt(tree, "", document.CodeSyntax,
			"a policy is a mapping").WithGot(tree.Text()))
		return nil, ""
	}
	l.open = append(l.open, name)
	defer func() { l.open = l.open[:len(l.open)-1] }()
	bases := tree.Child("extends")
	if bases == nil || bases.Shape != document.Sequence || len(bases.Items) == 0 {
		l.lock(name, tree)
		return tree, string(data)
	}
	var merged *document.Node
	for i, b := range bases.Items {
		base := l.base(name, b, fmt.Sprintf("extends[%d]", i))
		if base == nil {
			continue
		}
		// What identifies a base is not inherited.
		base.Remove("kind")
		base.Child("metadata").Drop("name")
		merged = merge(merged, base, "")
	}
	tree.Remove("extends")
	merged = merge(merged, tree, "")
	l.lock(name, merged)
	return merged, ""
}

// base loads one file of an extends list.
func (l *loader) base(from string, b *document.Node, at string) *document.Node {
	report := func(why string) *document.Node {
		l.problems = append(l.problems, document.ProblemAt(b, at, document.CodeFile, why).WithGot(b.Text()))
		return nil
	}
	if b.Shape != document.Scalar || b.Value == "" {
		return report("must be the name of a file")
	}
	name := path.Join(path.Dir(from), b.Value)
	switch {
	case path.IsAbs(b.Value) || !fs.ValidPath(name):
		return report("must lie in the policy's folder or below it")
	case slices.Contains(l.open, name):
		return report("files extend each other in a circle: " + strings.Join(append(slices.Clone(l.open), name), " → "))
	case l.reads >= maxFiles:
		return report(fmt.Sprintf("a policy is made of at most %d files", maxFiles))
	}
	if _, err := fs.Stat(l.fsys, name); errors.Is(err, fs.ErrNotExist) {
		return report("there is no such file")
	} else if err != nil {
		return report("the file cannot be read: " + document.Cause(err).Error())
	}
	tree, _ := l.load(name)
	return tree
}

// lock remembers what a file locks.
func (l *loader) lock(name string, tree *document.Node) {
	locked := tree.Child("locked")
	if locked == nil || locked.Shape != document.Sequence || len(locked.Items) == 0 {
		return
	}
	l.bases = append(l.bases, lockedBase{name: name, tree: tree.Clone(), paths: locked.Items})
}

// merge puts over on top of base: mappings by key, guardrails and approvals by
// name, the lists of locked paths together; everything else is replaced. Both
// trees may be changed.
func merge(base, over *document.Node, at string) *document.Node {
	switch {
	case base == nil:
		return over
	case base.Shape == document.Mapping && over.Shape == document.Mapping:
		for i, k := range over.Keys {
			bk, bv := base.Entry(k.Value)
			if bk == nil {
				base.Set(k, over.Items[i])
				continue
			}
			base.Set(k, merge(bv, over.Items[i], document.Join(at, k.Value)))
		}
		base.MoveTo(over)
		return base
	case base.Shape == document.Sequence && over.Shape == document.Sequence &&
		(at == "spec.guardrails" || at == "spec.approvals"):
		return mergeByName(base, over, at)
	case base.Shape == document.Sequence && over.Shape == document.Sequence && at == "locked":
		base.Items = append(base.Items, over.Items...)
		return base
	}
	return over
}

func mergeByName(base, over *document.Node, at string) *document.Node {
	for _, item := range over.Items {
		name := item.Child("name")
		i := -1
		if name != nil {
			i = slices.IndexFunc(base.Items, func(b *document.Node) bool {
				n := b.Child("name")
				return n != nil && n.Value == name.Value
			})
		}
		// A name given twice in one file is not merged but reported later.
		if i < 0 || base.Items[i].SameFile(item) {
			base.Items = append(base.Items, item)
			continue
		}
		base.Items[i] = merge(base.Items[i], item, fmt.Sprintf("%s[%d]", at, i))
	}
	base.MoveTo(over)
	return base
}
