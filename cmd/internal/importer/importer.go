// Package importer makes policies out of what other progressive-delivery tools are
// configured with: `belay import argo|flagger FILES…`.
//
// The rules of the package:
//   - Nothing is dropped in silence: what has no counterpart, or one that means something
//     else, is a Note with file, line, path and why. What stands in an object and was not
//     understood is noted as well.
//   - What it writes is a policy that `belay policy check` takes. What nobody could know
//     is a value that is valid and begins with fill-in, and a note.
//   - It panics on no input and reads at most 4 MiB of it. Templates of Helm that stand
//     outside of quotes are no YAML, and that is said.
//
// What the objects mean is from their published references: "Rollout Specification" and
// "Analysis" (argo-rollouts.readthedocs.io), "How it works", "Metrics Analysis" and
// "Webhooks" (docs.flagger.app).
package importer

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Tool is the tool whose objects are read.
type Tool string

// The tools.
const (
	Argo    Tool = "argo"
	Flagger Tool = "flagger"
)

// Options are what the objects do not say.
type Options struct {
	Tool Tool
	// Owner answers for the policies, Router moves the traffic, Source is asked for the
	// metrics of Prometheus; each is a fill-in where it is "".
	Owner, Router, Source string
}

// A File is one that was read or is to be written.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// A Note says what became of something that has no counterpart, or one that differs.
type Note struct {
	File string `json:"file"`
	Line int    `json:"line"`
	// Path is where in the object: spec.strategy.canary.steps[3].experiment.
	Path string `json:"path"`
	Why  string `json:"why"`
}

func (n Note) String() string { return fmt.Sprintf("%s:%d: %s: %s", n.File, n.Line, n.Path, n.Why) }

// A Result is what came out: one policy for each Rollout or Canary, by the order of the
// files, and the notes by file and line.
type Result struct {
	Policies []File `json:"policies"`
	Notes    []Note `json:"notes"`
}

// maxBytes bounds what is read, maxNotes what is said of it.
const (
	maxBytes = 4 << 20
	maxNotes = 500
)

// Import reads the files and makes the policies. Its error says what cannot be read at all.
func Import(o Options, files []File) (Result, error) {
	o.Owner, o.Router, o.Source = cmp.Or(o.Owner, "fill-in-owner"), cmp.Or(o.Router, "fill-in-router"),
		cmp.Or(o.Source, "fill-in-source")
	im := &importer{options: o, templates: map[string]*object{}}
	var problems []error
	size := 0
	for _, f := range files {
		if size += len(f.Text); size > maxBytes {
			return Result{}, fmt.Errorf("%s: the files have more than %d MiB together; import fewer at a time", f.Name,
				maxBytes>>20)
		}
		if err := im.read(f); err != nil {
			problems = append(problems, err)
		}
	}
	if problems != nil {
		return Result{}, errors.Join(problems...)
	}

	for _, x := range im.objects {
		im.convert(x)
	}
	for _, x := range im.objects {
		x.leftovers(im)
	}
	slices.SortStableFunc(im.result.Notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line))
	})
	if n := len(im.result.Notes); n > maxNotes {
		im.result.Notes = append(im.result.Notes[:maxNotes], Note{Why: fmt.Sprintf("and %d more", n-maxNotes)})
	}
	return im.result, nil
}

// An importer is one import under way.
type importer struct {
	options Options
	objects []*object
	// templates are the metric definitions by kind and name.
	templates map[string]*object
	result    Result
	names     map[string]int
}

// read takes the objects of one file in.
func (im *importer) read(f File) error {
	d := yaml.NewDecoder(strings.NewReader(f.Text))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			hint := ""
			if strings.Contains(f.Text, "{{") {
				hint = "; render templates first: helm template, or kustomize build"
			}
			return fmt.Errorf("%s: %w%s", f.Name, err, hint)
		}
		if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
			continue
		}
		im.add(f.Name, doc.Content[0])
	}
}

// add takes one object in; a List holds several.
func (im *importer) add(file string, n *yaml.Node) {
	x := &object{file: file, used: map[*yaml.Node]bool{}}
	x.root = field{x: x, n: n}
	x.kind, x.name = x.root.at("kind").text(), x.root.at("metadata").at("name").text()
	if x.kind == "List" {
		for _, item := range x.root.at("items").items() {
			if item.n.Kind == yaml.MappingNode {
				im.add(file, item.n)
			}
		}
		return
	}
	im.objects = append(im.objects, x)
	switch x.kind {
	case "AnalysisTemplate", "ClusterAnalysisTemplate", "MetricTemplate":
		im.templates[x.kind+"/"+x.name] = x
	}
}

// convert makes what an object becomes.
func (im *importer) convert(x *object) {
	group, _, _ := strings.Cut(x.root.at("apiVersion").text(), "/")
	switch {
	case im.options.Tool == Argo && group == "argoproj.io" && x.kind == "Rollout":
		im.rollout(x)
	case im.options.Tool == Argo && group == "argoproj.io" && strings.HasSuffix(x.kind, "AnalysisTemplate"),
		im.options.Tool == Flagger && group == "flagger.app" && x.kind == "MetricTemplate":
		x.isTemplate = true
	case im.options.Tool == Flagger && group == "flagger.app" && x.kind == "Canary":
		im.canary(x)
	default:
		x.whole(im, fmt.Sprintf("a %s of %s is none of %s's objects that say how to release; it is left alone",
			cmp.Or(x.kind, "document"), cmp.Or(group, "no group"), im.options.Tool))
	}
}

// note says something of a place.
func (im *importer) note(at field, why string) {
	if len(im.result.Notes) < 10*maxNotes {
		im.result.Notes = append(im.result.Notes, Note{File: at.x.file, Line: at.line(),
			Path: cmp.Or(at.path, at.x.kind), Why: why})
	}
}

// finish writes the policy.
func (im *importer) finish(p *policy) {
	if im.names == nil {
		im.names = map[string]int{}
	}
	im.names[p.name]++
	if n := im.names[p.name]; n > 1 {
		p.name = fmt.Sprintf("%s-%d", p.name, n)
	}
	var b bytes.Buffer
	p.write(&b)
	im.result.Policies = append(im.result.Policies, File{Name: p.name + ".yaml", Text: b.String()})
}

// name makes a policy's name, or one in it, of any text.
func name(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 {
			b.WriteByte('-')
		}
	}
	out := strings.Trim(b.String(), "-")
	for strings.Contains(out, "--") {
		out = strings.ReplaceAll(out, "--", "-")
	}
	if len(out) > 60 {
		out = strings.Trim(out[:60], "-")
	}
	return cmp.Or(out, "fill-in-name")
}

// duration reads Kubernetes' durations, 90s, 5m, 1h30m, and bare seconds.
func duration(s string) (time.Duration, bool) {
	if s != "" && strings.Trim(s, "0123456789") == "" {
		s += "s"
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d > 0 && d <= 30*24*time.Hour
}
