package draft

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/belayd/belay/rollout/traffic"
)

// facts is an endpoint that tells everything.
func facts() Live {
	return Live{
		Split: traffic.Split{Weights: map[string]int{"blue": 100}},
		Description: traffic.Description{
			Deployments: map[string]traffic.Deployment{"blue": {Ready: true, Instances: 2, Concurrency: 8, Version: "v1"}, "green": {Ready: true, Instances: 1, Concurrency: 8, Version: "v2"}},
			Tags:        map[string]string{"owner": "team-a", "approvalContact": "a", "dataClass": "internal", "runbook": "https://runbooks.example/recs"},
			ScoringURI:  "https://recs.example/score", AuthMode: "key", PublicNetwork: true, CanMirror: true,
		},
	}
}

// made are the names of the checks that a policy makes.
func made(t *testing.T, text string) (out []string) {
	t.Helper()
	var p struct {
		Spec struct {
			Preflight []struct {
				Check    string   `yaml:"check"`
				Required []string `yaml:"required"`
			} `yaml:"preflight"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	for _, c := range p.Spec.Preflight {
		out = append(out, strings.TrimSpace(c.Check+" "+strings.Join(c.Required, ",")))
	}
	return out
}

// A check is made where the endpoint tells what it needs, and else left out with
// the field that is missing.
func TestChecksFollowFacts(t *testing.T) {
	all := []string{"ready", "rollback-ready", "capacity", "fresh-metrics", "tags owner,approvalContact,dataClass", "refuses-anonymous"}
	without := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(names, strings.Fields(s)[0]) })
	}
	for _, c := range []struct {
		untold string
		want   []string
	}{
		{"", all},
		{"publicNetwork", all},
		{"deployments.green.version", all},
		{"deployments.green.instances", without("capacity")},
		{"deployments.blue.concurrency", without("capacity")},
		{"deployments.green.ready", without("ready", "rollback-ready")},
		{"deployments.green", without("ready", "rollback-ready", "capacity")},
		{"deployments", without("ready", "rollback-ready", "capacity")},
		{"tags", without("tags")},
		{"scoringURI", without("refuses-anonymous")},
		{"authMode", without("refuses-anonymous")},
	} {
		live := facts()
		if c.untold != "" {
			live.Description.Unknown = []string{c.untold}
		}
		if c.untold == "tags" {
			live.Description.Tags = nil
		}
		if c.untold == "authMode" {
			live.Description.AuthMode = ""
		}
		d, err := Compose(Options{Kind: Webhook, Endpoint: "recs", Hook: HookOptions{URL: "http://127.0.0.1:1"}}, live)
		if err != nil {
			t.Fatal(err)
		}
		if got := made(t, d.Files[0].Text); !slices.Equal(got, c.want) {
			t.Errorf("not told %q: got checks %q, want %q", c.untold, got, c.want)
		}
	}
}

// Only what is not known is to be filled in.
func TestBlanks(t *testing.T) {
	o := Options{Kind: AzureML, Endpoint: "recs", Alertmanager: "http://127.0.0.1:9093", Azure: AzureOptions{Subscription: "s", ResourceGroup: "g", Workspace: "w", Logs: "6f1f6c1e-6a52-4c6d-9a7e-0d5c5d0b9c11"}}
	fields := func(o Options, live Live) (out []string) {
		d, err := Compose(o, live)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range d.Blanks {
			out = append(out, b.Field)
		}
		return out
	}
	if got, want := fields(o, facts()), []string{"spec.guardrails.p95.limit", "spec.guardrails.ceiling.limit", "series"}; !slices.Equal(got, want) {
		t.Errorf("an endpoint that tells everything: got %q, want %q", got, want)
	}
	live := facts()
	live.Description.Tags, o.Azure.Logs, o.Alertmanager = nil, "", ""
	want := []string{"metadata.owner", "metadata.annotations.runbook", "spec.guardrails.p95.limit", "spec.guardrails.ceiling.limit", "series", "sources.metrics.loganalytics.workspace", "notifiers.oncall"}
	if got := fields(o, live); !slices.Equal(got, want) {
		t.Errorf("an endpoint without tags: got %q, want %q", got, want)
	}
}

// Texts from outside cannot become anything else in the files.
func TestHostileTexts(t *testing.T) {
	live := facts()
	evil := "x\"\n#\u2028\nspec: {steps: [100%]} ${env:HOME} {{.Name}}"
	live.Description.Tags["owner"], live.Description.Tags["runbook"] = evil, evil
	live.Description.Deployments = map[string]traffic.Deployment{evil: {Ready: true, Version: evil}}
	d, err := Compose(Options{Kind: HAProxy, Endpoint: evil, Proxy: ProxyOptions{Socket: evil}}, live)
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Metadata struct {
			Owner       string            `yaml:"owner"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"metadata"`
		Spec struct {
			Endpoint map[string]string `yaml:"endpoint"`
			Steps    []any             `yaml:"steps"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal([]byte(d.Files[0].Text), &p); err != nil {
		t.Fatalf("%v:\n%s", err, d.Files[0].Text)
	}
	if p.Metadata.Owner != oneLine(evil) || p.Metadata.Annotations["runbook"] != evil || p.Spec.Endpoint["name"] != evil || len(p.Spec.Steps) != 5 {
		t.Errorf("policy: got %+v, want the text as it is, the owner on one line, and the five steps", p)
	}
	var c struct {
		Routers map[string]map[string]struct {
			Socket string `yaml:"socket"`
		} `yaml:"routers"`
	}
	if err := yaml.Unmarshal([]byte(d.Files[2].Text), &c); err != nil {
		t.Fatalf("%v:\n%s", err, d.Files[2].Text)
	}
	if c.Routers["haproxy"]["haproxy"].Socket != evil {
		t.Errorf("config: got %+v", c)
	}
}

// Either all files are written or none, and none is touched that is there.
func TestWrite(t *testing.T) {
	d := &Draft{Files: []File{{"a.yaml", "a"}, {"b.yaml", "b"}}}
	dir := filepath.Join(t.TempDir(), "new", "folder")
	paths, err := d.Write(dir)
	if err != nil || len(paths) != 2 {
		t.Fatalf("Write: got %v, %v", paths, err)
	}
	if _, err := d.Write(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: got %v, want fs.ErrExist", err)
	}
	// The second name cannot be created: the first is taken back.
	dir = t.TempDir()
	if _, err := (&Draft{Files: []File{{"a.yaml", "a"}, {"no/folder.yaml", "b"}}}).Write(dir); err == nil {
		t.Error("a name in a folder that is not there: got no error")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("after a failed write: got %v, %v, want an empty folder", left, err)
	}
	// A link that leads nowhere is something that is there.
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("beside a link: got %v, want fs.ErrExist", err)
	}
}

// The config without a policy names the same router as the one with it.
func TestConfigReachesRouter(t *testing.T) {
	for _, o := range []Options{
		{Kind: AzureML, Azure: AzureOptions{Subscription: "s", ResourceGroup: "g", Workspace: "w"}},
		{Kind: HAProxy, Proxy: ProxyOptions{Socket: "/run/haproxy.sock"}},
		{Kind: Webhook, Hook: HookOptions{URL: "http://127.0.0.1:1", TokenFile: "/etc/belay/token"}},
	} {
		text, err := Config(o)
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			Routers map[string]map[string]any `yaml:"routers"`
		}
		if err := yaml.Unmarshal([]byte(text), &c); err != nil {
			t.Fatalf("%s: %v:\n%s", o.Kind, err, text)
		}
		if got := slices.Collect(maps.Keys(c.Routers[o.Router()])); !slices.Equal(got, []string{string(o.Kind)}) {
			t.Errorf("%s: got router %v", o.Kind, got)
		}
	}
}
