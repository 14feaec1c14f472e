package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

func versionCommand() *command {
	return &command{
		name: "version", short: "Print the version.",
		setup: func(f *flags) run {
			output := f.choice("output", "how to print", "table", "json", "yaml", "name")
			return func(_ context.Context, e *env, _ []string) error {
				v := struct {
					SchemaVersion int    `json:"schemaVersion"`
					Version       string `json:"version"`
					Go            string `json:"go"`
					Platform      string `json:"platform"`
				}{1, version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
				line := func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "belay %s (%s, %s)\n", v.Version, v.Go, v.Platform)
					return err
				}
				return e.print(*output, v, line, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, v.Version)
					return err
				})
			}
		},
	}
}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "devel"
}
