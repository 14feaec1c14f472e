package demo

import (
	"os"
	"path/filepath"
	"strings"
)

// Program is how the command line is called again: by its name, or, where the go
// command built it for one run, by that.
func Program() string {
	path, err := os.Executable()
	if err != nil || strings.Contains(path, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/belay"
	}
	return os.Args[0]
}
