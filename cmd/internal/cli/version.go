package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/belayd/belay/cmd/internal/version"
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
				}{1, version.Of(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
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
