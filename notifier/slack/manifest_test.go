package slack

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slack-go/slack"
	"go.yaml.in/yaml/v3"
)

// TestManifest: the app that is shipped has the scopes of the package's comment and the
// command that the package answers, and nothing that Slack's manifest has not.
func TestManifest(t *testing.T) {
	f, err := os.Open("../../deploy/slack/manifest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var m slack.Manifest
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(&m); err != nil {
		t.Fatalf("decode the manifest: got %v, want no error", err)
	}

	source, err := os.ReadFile("slack.go")
	if err != nil {
		t.Fatal(err)
	}
	_, comment, _ := strings.Cut(string(source), "needs the scopes")
	comment, _, _ = strings.Cut(comment, "\npackage")
	want := regexp.MustCompile(`\b(?:[a-z]+:[a-z.]+|commands)\b`).FindAllString(comment, -1)
	got := slices.Clone(m.OAuthConfig.Scopes.Bot)
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scopes (-package +manifest):\n%s", diff)
	}

	if c := m.Features.SlashCommands; len(c) != 1 || c[0].Command != "/belay" {
		t.Fatalf("slash commands: got %+v, want /belay", c)
	}
	for _, verb := range regexp.MustCompile("`/belay ([a-z]+)").FindAllStringSubmatch(usage, -1) {
		if !strings.Contains(m.Features.SlashCommands[0].UsageHint, verb[1]) {
			t.Errorf("usage hint: got %q, want %s in it", m.Features.SlashCommands[0].UsageHint, verb[1])
		}
	}
	if !m.Settings.SocketModeEnabled || m.Settings.Interactivity == nil || !m.Settings.Interactivity.IsEnabled {
		t.Errorf("settings: got %+v, want Socket Mode and interactivity", m.Settings)
	}
}
