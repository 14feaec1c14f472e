package policies

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxFiles bounds how many files one policy may be made of.
const maxFiles = 16

// A loader reads a policy and merges it over what it extends.
type loader struct {
	fsys     fs.FS
	problems Problems
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
	tree  *node
	paths []*node
}

// load returns the merged tree of a file, nil when it cannot be used, and the
// file's own text when it extends nothing.
func (l *loader) load(name string) (tree *node, text string) {
	data, err := readFile(l.fsys, name)
	if err != nil {
		l.problems = append(l.problems, problemAt(start(name), "", CodeFile, err.Error()))
		return nil, ""
	}
	l.reads++
	tree, ps := readTree(name, data, MaxPolicyNodes)
	l.problems = append(l.problems, ps...)
	if tree == nil {
		return nil, ""
	}
	if tree.shape != mapping {
		l.problems = append(l.problems, problemAt(tree, "", CodeSyntax, "a policy is a mapping").got(tree.text()))
		return nil, ""
	}
	l.open = append(l.open, name)
	defer func() { l.open = l.open[:len(l.open)-1] }()
	bases := tree.child("extends")
	if bases == nil || bases.shape != sequence || len(bases.items) == 0 {
		l.lock(name, tree)
		return tree, string(data)
	}
	var merged *node
	for i, b := range bases.items {
		base := l.base(name, b, fmt.Sprintf("extends[%d]", i))
		if base == nil {
			continue
		}
		// What identifies a base is not inherited.
		base.remove("kind")
		base.child("metadata").drop("name")
		merged = merge(merged, base, "")
	}
	tree.remove("extends")
	merged = merge(merged, tree, "")
	l.lock(name, merged)
	return merged, ""
}

// base loads one file of an extends list.
func (l *loader) base(from string, b *node, at string) *node {
	report := func(why string) *node {
		l.problems = append(l.problems, problemAt(b, at, CodeFile, why).got(b.text()))
		return nil
	}
	if b.shape != scalar || b.value == "" {
		return report("must be the name of a file")
	}
	name := path.Join(path.Dir(from), b.value)
	switch {
	case path.IsAbs(b.value) || !fs.ValidPath(name):
		return report("must lie in the policy's folder or below it")
	case slices.Contains(l.open, name):
		return report("files extend each other in a circle: " + strings.Join(append(slices.Clone(l.open), name), " → "))
	case l.reads >= maxFiles:
		return report(fmt.Sprintf("a policy is made of at most %d files", maxFiles))
	}
	if _, err := fs.Stat(l.fsys, name); errors.Is(err, fs.ErrNotExist) {
		return report("there is no such file")
	} else if err != nil {
		return report("the file cannot be read: " + reason(err).Error())
	}
	tree, _ := l.load(name)
	return tree
}

// lock remembers what a file locks.
func (l *loader) lock(name string, tree *node) {
	locked := tree.child("locked")
	if locked == nil || locked.shape != sequence || len(locked.items) == 0 {
		return
	}
	l.bases = append(l.bases, lockedBase{name: name, tree: tree.clone(), paths: locked.items})
}

// merge puts over on top of base: mappings by key, guardrails and approvals by
// name, the lists of locked paths together; everything else is replaced. Both
// trees may be changed.
func merge(base, over *node, at string) *node {
	switch {
	case base == nil:
		return over
	case base.shape == mapping && over.shape == mapping:
		for i, k := range over.keys {
			bk, bv := base.entry(k.value)
			if bk == nil {
				base.set(k, over.items[i])
				continue
			}
			base.set(k, merge(bv, over.items[i], join(at, k.value)))
		}
		base.moveTo(over)
		return base
	case base.shape == sequence && over.shape == sequence && (at == "spec.guardrails" || at == "spec.approvals"):
		return mergeByName(base, over, at)
	case base.shape == sequence && over.shape == sequence && at == "locked":
		base.items = append(base.items, over.items...)
		return base
	}
	return over
}

func mergeByName(base, over *node, at string) *node {
	for _, item := range over.items {
		name := item.child("name")
		i := -1
		if name != nil {
			i = slices.IndexFunc(base.items, func(b *node) bool {
				n := b.child("name")
				return n != nil && n.value == name.value
			})
		}
		// A name given twice in one file is not merged but reported later.
		if i < 0 || base.items[i].sameFile(item) {
			base.items = append(base.items, item)
			continue
		}
		base.items[i] = merge(base.items[i], item, fmt.Sprintf("%s[%d]", at, i))
	}
	base.moveTo(over)
	return base
}

// readFile reads a bounded file.
func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", reason(err))
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", reason(err))
	}
	return data, nil
}

// reason is the cause of a file error without the operation and the path.
func reason(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
