package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/belayd/belay/cmd/internal/draft"
	"github.com/belayd/belay/cmd/internal/importer"
)

// importLong is what both kinds of import say of themselves.
const importLong = "What has no counterpart, or one that means something else, is named with file, line and why, on " +
	"standard error;\n" +
	"nothing is dropped in silence. What nobody could know begins with fill-in. The policies pass belay policy check;\n" +
	"with --dir each is a file there, and nothing is overwritten. Render charts first: helm template, kustomize build."

func importCommand() *command {
	return &command{
		name: "import", short: "Make policies of what another tool is configured with. Needs no belayd.",
		sub: []*command{
			importFrom(importer.Argo, "Make policies of Rollouts and AnalysisTemplates of Argo Rollouts.",
				"belay import argo rollout.yaml analysis.yaml --source prom --router mesh --dir policies"),
			importFrom(importer.Flagger, "Make policies of Canaries and MetricTemplates of Flagger.",
				"kustomize build . | belay import flagger - --source prom > policies.yaml"),
		},
	}
}

func importFrom(tool importer.Tool, short, example string) *command {
	return &command{
		name: string(tool), args: "FILE…", short: short, long: importLong, min: 1, max: -1, examples: []string{example},
		setup: func(f *flags) run {
			o := importer.Options{Tool: tool}
			f.StringVar(&o.Owner, "owner", "", "`WHO` answers for the policies, where no label owner or team says so")
			f.StringVar(&o.Router, "router", "", "`NAME` of the router in belayd's config")
			f.StringVar(&o.Source, "source", "", "`NAME` of the metric source in belayd's config")
			dir := f.file("dir", "`FOLDER` for the policies, made when missing (standard output)")
			output := f.choice("output", "how to print", "table", "json", "yaml")
			return func(_ context.Context, e *env, args []string) error {
				return e.importFiles(o, args, *dir, *output)
			}
		},
	}
}

// importFiles reads, converts, and writes or prints.
func (e *env) importFiles(o importer.Options, names []string, dir, output string) error {
	var files []importer.File
	for _, name := range names {
		text, err := e.readInput(name)
		if err != nil {
			return err
		}
		files = append(files, importer.File{Name: name, Text: text})
	}
	got, err := importer.Import(o, files)
	if err != nil {
		return &codeError{exitInvalid, err}
	}
	if output != "table" {
		return e.print(output, got, nil, nil)
	}
	for _, n := range got.Notes {
		fmt.Fprintln(e.stderr, n)
	}
	if len(got.Policies) == 0 {
		return &codeError{exitInvalid, fmt.Errorf("found no object that says how to release; %s", wanted[o.Tool])}
	}
	if dir == "" {
		for i, p := range got.Policies {
			if i > 0 {
				fmt.Fprintln(e.stdout, "---")
			}
			fmt.Fprint(e.stdout, p.Text)
		}
		return nil
	}
	var d draft.Draft
	for _, p := range got.Policies {
		d.Files = append(d.Files, draft.File{Name: p.Name, Text: p.Text})
	}
	paths, err := d.Write(dir)
	for _, path := range paths {
		fmt.Fprintln(e.stdout, path)
	}
	return err
}

// wanted are the objects that say how to release.
var wanted = map[importer.Tool]string{
	importer.Argo:    "want a Rollout of argoproj.io",
	importer.Flagger: "want a Canary of flagger.app",
}

// maxInput bounds one file of an import.
const maxInput = 4 << 20

// readInput reads a file, or standard input by the name "-".
func (e *env) readInput(name string) (string, error) {
	r := e.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if s, err := f.Stat(); err == nil && !s.Mode().IsRegular() {
			return "", fmt.Errorf("%s: want a file, not a folder or a device", name)
		}
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return string(b), nil
}
