package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What belayd ends with tells a supervisor whether to start it again: 2 is the Go
// runtime's, for a panic, and nothing else's.
func TestExitCodes(t *testing.T) {
	config := filepath.Join(t.TempDir(), "belayd.yaml")
	for _, c := range []struct {
		name, text string
		args       []string
		want       int
	}{
		{"help", "", []string{"--help"}, exitOK},
		{"no config", "", nil, exitUsage},
		{"an unknown flag", "", []string{"--confg", config}, exitUsage},
		{"an unknown level", "", []string{"--config", config, "--log-level", "loud"}, exitUsage},
		{"a second argument", "", []string{"--config", config, "more"}, exitUsage},
		{"check-config without a file", "", []string{"check-config"}, exitUsage},
		{"backup without a file", "", []string{"backup", "--config", config}, exitUsage},
		{"no YAML", "{", []string{"--config", config}, exitInvalid},
		{"no YAML to check", "{", []string{"check-config", config}, exitInvalid},
		{"no store", "policies: [x.yaml]\n", []string{"--config", config}, exitInvalid},
	} {
		if err := os.WriteFile(config, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if got := run(c.args, &out, &out); got != c.want || got == 2 {
			t.Errorf("%s: got exit code %d, want %d: %s", c.name, got, c.want, out.String())
		}
	}
}
