package policies

import (
	"embed"
	"path"
	"slices"
	"strings"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/policies/document"
)

//go:embed builtin/*.yaml
var builtinFiles embed.FS

// A Builtin is a ready-made metric definition.
type Builtin struct {
	// Sources are the kinds of metric sources that can answer it.
	Sources []string `yaml:"sources" required:"true"`
	// About says what it measures and what has to be in place.
	About  string        `yaml:"about" required:"true"`
	Metric builtinMetric `yaml:"metric" required:"true"`
}

// builtinMetric is a Metric without its source.
type builtinMetric struct {
	Counts    *Counts    `yaml:"counts" oneof:"kind"`
	Histogram *Histogram `yaml:"histogram" oneof:"kind"`
	Mean      *Mean      `yaml:"mean" oneof:"kind"`
	Value     *Value     `yaml:"value" oneof:"kind"`
}

// metric is the definition as the judge and the sources know it, without name
// and source.
func (b Builtin) metric() analysis.Metric {
	m := b.Metric
	return Metric{Counts: m.Counts, Histogram: m.Histogram, Mean: m.Mean, Value: m.Value}.metric("")
}

// Definition is the metric as a source knows it, under a name and for a source.
func (b Builtin) Definition(name, source string) analysis.Metric {
	m := b.metric()
	m.Name, m.Source = name, source
	return m
}

// builtinFamily is one file of definitions.
type builtinFamily struct {
	Family string `yaml:"family" required:"true"`
	About  string `yaml:"about" required:"true"`
	// Source is how belayd's config declares the source that the metrics are for, where
	// that takes more than its kind.
	Source  document.Raw       `yaml:"source"`
	Metrics map[string]Builtin `yaml:"metrics" required:"true"`
}

// Builtins lists the ready-made metrics as FAMILY/NAME, sorted.
func Builtins() []string {
	var out []string
	entries, _ := builtinFiles.ReadDir("builtin") // embedded: it is there
	for _, e := range entries {
		family := strings.TrimSuffix(e.Name(), ".yaml")
		f, _ := readFamily(family)
		for name := range f.Metrics {
			out = append(out, family+"/"+name)
		}
	}
	slices.Sort(out)
	return out
}

// Recipes are the families that come with the declaration of their source: what
// stands under a source's name in belayd's config.
func Recipes() map[string]document.Raw {
	out := map[string]document.Raw{}
	for _, ref := range Builtins() {
		family, _, _ := strings.Cut(ref, "/")
		if f, ok := readFamily(family); ok && f.Source != "" {
			out[family] = f.Source
		}
	}
	return out
}

// FindBuiltin returns the ready-made metric FAMILY/NAME.
func FindBuiltin(ref string) (Builtin, bool) {
	family, name, ok := strings.Cut(ref, "/")
	if !ok || strings.ContainsAny(family, `/\.`) {
		return Builtin{}, false
	}
	f, ok := readFamily(family)
	if !ok {
		return Builtin{}, false
	}
	b, ok := f.Metrics[name]
	return b, ok
}

// readFamily reads an embedded file; a test holds all of them to the rules.
func readFamily(family string) (builtinFamily, bool) {
	name := path.Join("builtin", family+".yaml")
	data, err := builtinFiles.ReadFile(name)
	if err != nil {
		return builtinFamily{}, false
	}
	var f builtinFamily
	if document.Decode(name, data, &f).HasErrors() {
		return builtinFamily{}, false
	}
	return f, true
}
