package demo

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed policy.yaml.tmpl
var policyTemplate string

//go:embed belayd.yaml.tmpl
var configTemplate string

// Files are where the demo's parts are kept.
type Files struct {
	Dir         string
	Policy      string
	Config      string
	RequestLog  string
	Pages       string
	PagerSecret string
	ARMToken    string // of the Azure router
	Writes      string // that reached the Azure router's resource manager
	Store       string
	JetStream   string
}

func filesIn(dir string) Files {
	return Files{
		Dir:         dir,
		Policy:      filepath.Join(dir, "policies", PolicyName+".yaml"),
		Config:      filepath.Join(dir, "belayd.yaml"),
		RequestLog:  filepath.Join(dir, "requests.log"),
		Pages:       filepath.Join(dir, "pages.log"),
		PagerSecret: filepath.Join(dir, "pager.secret"),
		ARMToken:    filepath.Join(dir, "arm.token"),
		Writes:      filepath.Join(dir, "arm-writes.jsonl"),
		Store:       filepath.Join(dir, "belay.db"),
		JetStream:   filepath.Join(dir, "jetstream"),
	}
}

// addresses are what the config file must know of the world.
type addresses struct {
	Endpoint, Pager, NATS   string
	ResourceManager         string // "" without the Azure router
	StableModel, OtherModel string
}

// duration is d as policies write it.
func duration(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', -1, 64) + "ms"
}

// policyText is the demo's policy.
func policyText(o Options) (string, error) {
	return render("policy", policyTemplate, map[string]any{
		"Policy": PolicyName, "Router": routerName, "Endpoint": Endpoint, "Source": sourceName, "Pager": notifierName,
		"Azure": o.Router == RouterAzureML, "Ask": o.Answers != nil, "Gate": gateName,
	}, o.Speed)
}

// configText is belayd's config for the demo.
func configText(f Files, a addresses) (string, error) {
	return render("config", configTemplate, map[string]any{
		"Files": f, "Addr": a, "Router": routerName, "Endpoint": Endpoint, "Source": sourceName, "Pager": notifierName,
		"Stable": Stable, "Candidate": Candidate, "Stream": streamName, "Subject": subjectRoot + ".>",
		"Subscription": armSubscription, "ResourceGroup": armResourceGroup, "Workspace": armWorkspace,
	}, 1)
}

// render executes a template; its function `scaled` divides a duration by the
// speed.
func render(name, text string, data map[string]any, speed Speed) (string, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"scaled": func(s string) (string, error) {
			d, err := time.ParseDuration(s)
			return duration(speed.scale(d)), err
		},
	}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("parse the %s template: %w", name, err)
	}
	var out strings.Builder
	if err := t.Execute(&out, data); err != nil {
		return "", fmt.Errorf("write the %s: %w", name, err)
	}
	return out.String(), nil
}

// writeFile writes text below the demo's folder, for this user only.
func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}
