// Package deploy holds how belayd is run; there is no code in it, only the test
// that what it says is so.
package deploy

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/belayd/belay/rollout/realtest"
)

// programs are belayd and belay.
func programs(t *testing.T) (belayd, belay string) {
	t.Helper()
	return realtest.Build(t, "belayd"), realtest.Build(t, "belay")
}

// read is a file of this folder, or beside it.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// files are all files of this folder but the tests.
func files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(name, "_test.go") {
			all[name] = read(t, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 15 {
		t.Fatalf("got %d files, want all of deploy", len(all))
	}
	return all
}

// The two examples pass belayd's own check, with files where their secrets and
// certificates would be.
func TestConfigs(t *testing.T) {
	belayd, belay := programs(t)
	for _, folder := range []string{"example", "kubernetes"} {
		home := t.TempDir()
		if err := os.CopyFS(home, os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(home, "belayd.yaml")
		text := strings.ReplaceAll(read(t, config), "/run/credentials/belayd.service/", "secrets/")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, secret := range map[string]string{"slack-bot": "xoxb-1-2-abcdefghijkl", "slack-app": "xapp-1-2-abcdefghijkl", "pagerduty": strings.Repeat("a", 32)} {
			write(t, filepath.Join(home, "secrets", name), secret)
		}
		certificates(t, filepath.Join(home, "tls"))
		// What Azure's webhook for workload identity puts into a pod.
		t.Setenv("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555")
		t.Setenv("AZURE_TENANT_ID", "11111111-2222-3333-4444-555555555555")
		t.Setenv("AZURE_FEDERATED_TOKEN_FILE", filepath.Join(home, "secrets", "azure"))
		out, err := exec.CommandContext(t.Context(), belayd, "check-config", config).CombinedOutput()
		if err != nil || !strings.Contains(string(out), ": ok: 1 policies") {
			t.Errorf("belayd check-config %s: %v\n%s", folder, err, out)
		}
		// What is checked is read: a config that is wrong is found.
		write(t, config, strings.Replace(text, "azureml-prod:", "elsewhere:", 1))
		if out, err := exec.CommandContext(t.Context(), belayd, "check-config", config).CombinedOutput(); err == nil {
			t.Errorf("check-config of a config without the policy's router: got ok\n%s", out)
		}
	}
	if out, err := exec.CommandContext(t.Context(), belay, "policy", "test", "example/policies/recommendations.test.yaml").CombinedOutput(); err != nil {
		t.Errorf("belay policy test: %v\n%s", err, out)
	}
	if read(t, "example/policies/recommendations.yaml") != read(t, "kubernetes/policies/recommendations.yaml") {
		t.Error("example and kubernetes have different policies: the test is about the first")
	}
}

var (
	metricName = regexp.MustCompile(`\bbelay_[a-z_]+`)
	golden     = regexp.MustCompile("(?m)^\\| (counter|gauge|histogram) \\| `(belay_[a-z_]+)\\{([^}]*)\\}`")
	label      = regexp.MustCompile(`(belay_[a-z_]+)\{([^}]*)\}`)
)

// metrics are belayd's own, with their labels, by the names under which they are
// scraped.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, m := range golden.FindAllStringSubmatch(read(t, "reference/metrics.md"), -1) {
		labels := append(strings.Split(m[3], ","), "job", "instance")
		all[m[2]] = labels
		if m[1] == "histogram" {
			all[m[2]+"_bucket"], all[m[2]+"_sum"], all[m[2]+"_count"] = append(labels, "le"), labels, labels
		}
	}
	if len(all) < 15 {
		t.Fatalf("got %d metrics, want belayd's", len(all))
	}
	return all
}

// Every metric and every label that a rule or a panel asks for is one of
// belayd's, and every one of belayd's is on the dashboard.
func TestMetrics(t *testing.T) {
	known := metrics(t)
	for name, text := range files(t) {
		for _, metric := range metricName.FindAllString(text, -1) {
			if known[metric] == nil {
				t.Errorf("%s: there is no metric %s", name, metric)
			}
		}
		for _, m := range label.FindAllStringSubmatch(strings.ReplaceAll(text, `\"`, `"`), -1) {
			for matcher := range strings.SplitSeq(m[2], ",") {
				key := strings.FieldsFunc(matcher, func(r rune) bool { return strings.ContainsRune("=!~ ", r) })
				if len(key) > 0 && !slices.Contains(known[m[1]], key[0]) {
					t.Errorf("%s: %s has no label %s; it has %v", name, m[1], key[0], known[m[1]])
				}
			}
		}
	}
	board := read(t, "grafana/belay.json")
	for metric := range known {
		if !strings.Contains(board, metric) && known[metric+"_bucket"] == nil && known[strings.TrimSuffix(strings.TrimSuffix(metric, "_sum"), "_count")+"_bucket"] == nil {
			t.Errorf("the dashboard does not show %s", metric)
		}
	}
}

// The dashboard is one that Grafana loads: no two panels have one id or overlap.
func TestDashboard(t *testing.T) {
	var board struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID      int                            `json:"id"`
			Title   string                         `json:"title"`
			GridPos struct{ X, Y, W, H int }       `json:"gridPos"`
			Targets []struct{ Expr, RefID string } `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/belay.json")), &board); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: want a title, a query and an id of its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q overlaps %q or leaves the grid", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	if board.UID != "belay" || len(board.Panels) < 10 {
		t.Errorf("got dashboard %q with %d panels", board.UID, len(board.Panels))
	}
}

// The alert rules are Prometheus', and fire for what they are about.
func TestRules(t *testing.T) {
	promtool := realtest.Program(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "prometheus/belay.rules.yaml"}, {"test", "rules", "prometheus/belay.test.yaml"}} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	rules := len(regexp.MustCompile(`(?m)^ +- alert: `).FindAllString(read(t, "prometheus/belay.rules.yaml"), -1))
	if want := fmt.Sprintf("value: %d}", rules); !strings.Contains(read(t, "prometheus/belay.test.yaml"), want) {
		t.Errorf("the test of the rules does not see all %d of them fire", rules)
	}
}

// The guide of who is on call names every alert, every cause of a page and every reason
// for which a rollout is held, as the rules and the core have them.
func TestOnCall(t *testing.T) {
	guide := read(t, "ONCALL.md")
	named := func(what, file, pattern string, value func(string) string) {
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, file), -1)
		if len(found) == 0 {
			t.Errorf("%s: found no %s", file, what)
		}
		for _, m := range found {
			if v := value(m[1]); !strings.Contains(guide, "`"+v+"`") {
				t.Errorf("ONCALL.md does not tell of the %s %q", what, v)
			}
		}
	}
	same := func(s string) string { return s }
	named("alert", "prometheus/belay.rules.yaml", `- alert: (\w+)`, same)
	named("page", "../rollout/page.go", `add\("([a-z]+)[/"]`, same)
	named("page", "../rollout/page.go", `PageCause\{ID: "([a-z]+)"`, same)

	reasons := read(t, "../rollout/decision/decision.go")
	constant := func(name string) string {
		m := regexp.MustCompile(`\b` + name + ` +Reason = "([a-z-]+)"`).FindStringSubmatch(reasons)
		if m == nil {
			t.Fatalf("decision.go: found no %s", name)
		}
		return m[1]
	}
	for _, file := range []string{"facts", "foreign", "gate", "measure", "shift"} {
		named("reason", "../rollout/"+file+".go", `(?:Hold\{Reason: |reason = |reason := |reason, rule := .*)decision\.(Reason[A-Z]\w+)`, constant)
	}
}

// Commands, flags, ports and paths that the files mention are those of the
// programs.
func TestNames(t *testing.T) {
	belayd, belay := programs(t)
	usage := func(program string, args ...string) string {
		out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, out)
		}
		return string(out)
	}
	known := map[string]string{"belayd": usage(belayd, "--help"), "belay": usage(belay, "--help")}
	all := files(t)

	flags := regexp.MustCompile(`--[a-z][a-z-]+`)
	for name, lines := range map[string][]string{
		"systemd/belayd.service":      grep(all["systemd/belayd.service"], "belayd --"),
		"container/Containerfile":     grep(all["container/Containerfile"], "CMD "),
		"kubernetes/statefulset.yaml": grep(all["kubernetes/statefulset.yaml"], "args:"),
		"README.md":                   regexp.MustCompile("(?m)(`|^)belayd [^`\n]*").FindAllString(all["README.md"], -1),
	} {
		if len(lines) == 0 {
			t.Errorf("%s: found no command", name)
		}
		for _, line := range lines {
			for _, f := range flags.FindAllString(line, -1) {
				if !strings.Contains(known["belayd"], f) {
					t.Errorf("%s: belayd has no flag %s:\n%s", name, f, known["belayd"])
				}
			}
		}
	}
	// `belay list --phase held`: the command, and its flags, are in its help.
	command := regexp.MustCompile("`belay ([a-z]+)( [a-z]+)?((?: [^`]*)?)`")
	seen := 0
	for name, text := range all {
		for _, m := range command.FindAllStringSubmatch(text, -1) {
			seen++
			help := usage(belay, m[1], "--help")
			if sub := strings.TrimSpace(m[2]); sub != "" && strings.Contains(help, "\n  "+sub+" ") {
				help = usage(belay, m[1], sub, "--help")
			}
			for _, f := range flags.FindAllString(m[3], -1) {
				if !strings.Contains(help, f) {
					t.Errorf("%s: belay %s%s has no flag %s:\n%s", name, m[1], m[2], f, help)
				}
			}
		}
	}
	if seen < 5 {
		t.Errorf("found %d commands of belay, want those of the alerts", seen)
	}

	openapi := read(t, "../rollout/api/openapi.yaml")
	port := regexp.MustCompile(`listen: [0-9.]+:(\d+)`).FindStringSubmatch(all["example/belayd.yaml"])
	if port == nil || !strings.Contains(read(t, "../cmd/internal/config/config.go"), `default:"127.0.0.1:`+port[1]+`"`) {
		t.Fatalf("got port %v, want belayd's default", port)
	}
	ports := regexp.MustCompile(`(?:containerPort: |EXPOSE |\bport: |prometheus.io/port: "|listen: [0-9.]+:)(\d+)`)
	paths := regexp.MustCompile(`path: (/[a-z]+)|(?:^|[\s"(` + "`" + `])(/(?:healthz|readyz|metrics|openapi\.yaml|v1/[a-z]+))\b`)
	for name, text := range all {
		text, _, _ := strings.Cut(text, "\n  egress:\n") // what belayd reaches listens elsewhere
		for _, m := range ports.FindAllStringSubmatch(text, -1) {
			if m[1] != port[1] {
				t.Errorf("%s: port %s, want %s", name, m[1], port[1])
			}
		}
		for _, m := range paths.FindAllStringSubmatch(text, -1) {
			path := m[1] + m[2]
			if strings.HasPrefix(path, "/var") || strings.HasPrefix(path, "/etc") {
				continue // of the store's file
			}
			if path != "/metrics" && !strings.Contains(openapi, "\n  "+path+":") {
				t.Errorf("%s: belayd has no path %s", name, path)
			}
		}
	}
}

// grep is the lines that hold a word.
func grep(text, word string) (out []string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			out = append(out, line)
		}
	}
	return out
}

// Unit, image and manifests agree with the program about what matters: exit
// codes, the watchdog, the folder of the store, the user, the version of Go.
func TestAgreement(t *testing.T) {
	unit, image, pod := read(t, "systemd/belayd.service"), read(t, "container/Containerfile"), read(t, "kubernetes/statefulset.yaml")
	main := read(t, "../cmd/belayd/main.go")
	for _, code := range []string{"exitUsage   = 64", "exitBroken  = 75", "exitInvalid = 78"} {
		if !strings.Contains(main, code) {
			t.Errorf("cmd/belayd has no %s any more; the unit's RestartPreventExitStatus is written against it", code)
		}
	}
	// Wrong usage alone is no reason to come back: 2 is how the Go runtime ends a
	// program that panics.
	if got := grep(unit, "RestartPreventExitStatus="); !slices.Equal(got, []string{"RestartPreventExitStatus=64\n"}) || !strings.Contains(unit, "\nRestart=always\n") {
		t.Errorf("the unit does not start belayd again after everything but wrong usage: %q", got)
	}
	if regexp.MustCompile(`= 2\b`).MatchString(main) {
		t.Error("cmd/belayd exits with 2, which is how the Go runtime ends a program that panics")
	}
	if !strings.Contains(read(t, "../cmd/belayd/notify.go"), "WATCHDOG=1") || !strings.Contains(unit, "Type=notify") || !strings.Contains(unit, "WatchdogSec=") {
		t.Error("unit and program do not agree about notify and watchdog")
	}
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))
	if !strings.Contains(image, "golang:"+goVersion[1]+"\n") {
		t.Errorf("the image is not built with go %s", goVersion[1])
	}
	belayd := filepath.Join(t.TempDir(), "belayd") // as the image builds it
	build := exec.CommandContext(t.Context(), "go", "build", "-o", belayd, "../cmd/belayd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	file, err := elf.Open(belayd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 || file.Section(".interp") != nil {
		t.Errorf("belayd is not static: it needs %v, %v", libraries, err)
	}
	for _, user := range []string{"USER 65532:65532", "CGO_ENABLED=0", "FROM scratch"} {
		if !strings.Contains(image, user) {
			t.Errorf("the image has no %s", user)
		}
	}
	for _, want := range []string{"runAsUser: 65532", "runAsNonRoot: true", "readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false", "drop: [ALL]", "replicas: 1"} {
		if !strings.Contains(pod, want) {
			t.Errorf("the pod has no %s", want)
		}
	}
	for _, name := range []string{"example/belayd.yaml", "kubernetes/belayd.yaml"} {
		if !strings.Contains(read(t, name), "path: /var/lib/belay/") {
			t.Errorf("%s: the store is not in /var/lib/belay", name)
		}
	}
}

// Every resource of the kustomization is there, is YAML, and refers to what the
// others make.
func TestKubernetes(t *testing.T) {
	var k struct {
		Resources          []string
		ConfigMapGenerator []struct {
			Name  string
			Files []string
		} `yaml:"configMapGenerator"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "kubernetes/kustomization.yaml")), &k); err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{"belay-secrets": true, "belay-tls": true} // made by the operator: see the README
	for _, g := range k.ConfigMapGenerator {
		made[g.Name] = true
		for _, f := range g.Files {
			read(t, filepath.Join("kubernetes", f))
		}
	}
	kinds := map[string]bool{}
	for _, f := range k.Resources {
		var doc struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
			Metadata   struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(read(t, filepath.Join("kubernetes", f))), &doc); err != nil || doc.APIVersion == "" || doc.Metadata.Name != "belay" {
			t.Errorf("%s: got %+v, %v, want something named belay", f, doc, err)
		}
		kinds[doc.Kind] = true
	}
	for _, kind := range []string{"Namespace", "ServiceAccount", "StatefulSet", "Service", "NetworkPolicy", "PodDisruptionBudget"} {
		if !kinds[kind] {
			t.Errorf("there is no %s", kind)
		}
	}
	pod, readme := read(t, "kubernetes/statefulset.yaml"), read(t, "README.md")
	for _, m := range regexp.MustCompile(`(?:secretName|configMap: \{name): ([a-z-]+)`).FindAllStringSubmatch(pod, -1) {
		if !made[m[1]] {
			t.Errorf("the pod mounts %s, which nobody makes", m[1])
		}
		if strings.Contains(m[0], "secretName") && !strings.Contains(readme, m[1]) {
			t.Errorf("the README does not say how to make %s", m[1])
		}
	}
	if kubectl, err := exec.LookPath("kubectl"); err == nil { // where it is there, it is the judge
		if out, err := exec.CommandContext(t.Context(), kubectl, "kustomize", "kubernetes").CombinedOutput(); err != nil || strings.Count(string(out), "\nkind: ") < 7 {
			t.Errorf("kubectl kustomize: %v\n%s", err, out)
		}
	}
}

// What bounds belayd where it runs: its own memory limit is below the one that
// kills it; the disruption budget and the network policy are about its pod, and no
// way out leads to a cloud's metadata or, unnamed, into the cluster.
func TestManifestBounds(t *testing.T) {
	for _, x := range []struct{ file, limit string }{
		{"kubernetes/statefulset.yaml", `limits: \{memory: (\d+)Gi\}`},
		{"systemd/belayd.service", `(?m)^MemoryMax=(\d+)G$`},
	} {
		text := read(t, x.file)
		own := regexp.MustCompile(`GOMEMLIMIT(?:, value: |=)(\d+)MiB`).FindStringSubmatch(text)
		limit := regexp.MustCompile(x.limit).FindStringSubmatch(text)
		if own == nil || limit == nil {
			t.Errorf("%s: GOMEMLIMIT %q and limit %q, want both", x.file, own, limit)
			continue
		}
		mib, errOwn := strconv.Atoi(own[1])
		gib, errLimit := strconv.Atoi(limit[1])
		if errOwn != nil || errLimit != nil || mib >= gib<<10 {
			t.Errorf("%s: GOMEMLIMIT is %d MiB with a limit of %d GiB", x.file, mib, gib)
		}
	}
	var budget struct {
		Spec struct {
			MaxUnavailable *int `yaml:"maxUnavailable"`
			Selector       struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
		}
	}
	var policy struct {
		Spec struct {
			PolicyTypes []string `yaml:"policyTypes"`
			Egress      []struct {
				To []struct {
					IPBlock *struct {
						CIDR   string
						Except []string
					} `yaml:"ipBlock"`
				}
				Ports []map[string]any
			}
		}
	}
	for file, into := range map[string]any{"poddisruptionbudget.yaml": &budget, "networkpolicy.yaml": &policy} {
		if err := yaml.Unmarshal([]byte(read(t, "kubernetes/"+file)), into); err != nil {
			t.Fatal(err)
		}
	}
	app := budget.Spec.Selector.MatchLabels["app.kubernetes.io/name"]
	if budget.Spec.MaxUnavailable == nil || *budget.Spec.MaxUnavailable != 0 || app == "" ||
		!strings.Contains(read(t, "kubernetes/kustomization.yaml"), "{app.kubernetes.io/name: "+app+",") {
		t.Errorf("the disruption budget: got %+v, want that it keeps the pod", budget)
	}
	if !slices.Contains(policy.Spec.PolicyTypes, "Egress") || len(policy.Spec.Egress) == 0 {
		t.Errorf("the network policy bounds no way out: %+v", policy)
	}
	for _, rule := range policy.Spec.Egress {
		if len(rule.To) == 0 || len(rule.Ports) == 0 {
			t.Errorf("a way out to anywhere, or to any port: %+v", rule)
		}
		for _, to := range rule.To {
			for _, inside := range []string{"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} {
				if to.IPBlock != nil && to.IPBlock.CIDR == "0.0.0.0/0" && !slices.Contains(to.IPBlock.Except, inside) {
					t.Errorf("a way out leads to %s", inside)
				}
			}
		}
	}
}

// The configuration for Azure passes belayd's own check with what workload identity
// puts into a pod, in every cloud, and the key's file is the one that Key Vault's
// recipe mounts.
func TestAzureConfig(t *testing.T) {
	belayd, _ := programs(t)
	home := t.TempDir()
	t.Setenv("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555")
	t.Setenv("AZURE_TENANT_ID", "11111111-2222-3333-4444-555555555555")
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", filepath.Join(home, "token"))
	for name, secret := range map[string]string{"mnt/scoring/recs-key": "key", "run/secrets/pagerduty": strings.Repeat("a", 32)} {
		write(t, filepath.Join(home, name), secret)
	}
	write(t, filepath.Join(home, "policies", "recs.yaml"), read(t, "kubernetes/policies/recommendations.yaml"))
	text := read(t, "azure/belayd.yaml")
	for _, dir := range []string{"/mnt/", "/run/", "/etc/belay/", "/var/lib/belay/"} {
		text = strings.ReplaceAll(text, dir, home+map[string]string{"/mnt/": "/mnt/", "/run/": "/run/"}[dir]+"/")
	}
	for _, cloud := range []string{"", "government", "china"} {
		said := strings.ReplaceAll(text, "credential: workload", "credential: workload"+map[bool]string{true: ", cloud: " + cloud}[cloud != ""])
		said = regexp.MustCompile(`(?m)^( +)credential: workload, cloud: (\w+)$`).ReplaceAllString(said, "${1}credential: workload\n${1}cloud: $2")
		config := filepath.Join(home, "belayd.yaml")
		write(t, config, said)
		out, _ := exec.CommandContext(t.Context(), belayd, "check-config", config).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			// The policy is another deployment's: what it names is not the matter here.
			if !strings.Contains(line, "recs.yaml") && !strings.Contains(line, "|") && strings.Contains(line, "belayd.yaml:") && !strings.Contains(line, ": ok") {
				t.Errorf("cloud %q: %s", cloud, line)
			}
		}
	}
	key, recipe := read(t, "azure/belayd.yaml"), read(t, "azure/scoring-key.yaml")
	if !strings.Contains(key, "keyFile: /mnt/scoring/recs-key") || !strings.Contains(recipe, "objectName: recs-key") || !strings.Contains(recipe, "at /mnt/scoring:") {
		t.Error("the key that belayd reads is not the one that the recipe mounts")
	}
}

// The roles are the same in Bicep and JSON, and none of them can see keys, change
// or delete deployments, or do more than it says.
func TestAzureRoles(t *testing.T) {
	bicep := read(t, "azure/roles.bicep")
	const ml = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/"
	want := map[string][]string{
		"Belay Reader":  {ml + "read", ml + "deployments/read"},
		"Belay Traffic": {ml + "read", ml + "write"},
		"Belay Metrics": {"Microsoft.Insights/metrics/read"},
		"Belay Logs": {"Microsoft.OperationalInsights/workspaces/read", "Microsoft.OperationalInsights/workspaces/query/read",
			"Microsoft.OperationalInsights/workspaces/query/*/read"},
		"Belay App Insights": {"Microsoft.OperationalInsights/workspaces/read", "Microsoft.OperationalInsights/workspaces/query/read",
			"Microsoft.OperationalInsights/workspaces/query/AppRequests/read"},
		"Belay Prober": {ml + "score/action"},
	}
	inBicep := regexp.MustCompile(`name: '(Belay [^']+)'\s+description: '[^']+'\s+actions: \[\s+((?:'[^']+'\s+)+)\]`)
	found := map[string][]string{}
	for _, m := range inBicep.FindAllStringSubmatch(bicep, -1) {
		for a := range strings.FieldsSeq(m[2]) {
			found[m[1]] = append(found[m[1]], strings.Trim(a, "'"))
		}
	}
	for name, actions := range want {
		if !slices.Equal(found[name], actions) {
			t.Errorf("%s in Bicep: got %v, want %v", name, found[name], actions)
		}
		var role struct {
			Name                             string
			IsCustom                         bool
			Actions, DataActions, NotActions []string
			AssignableScopes                 []string
		}
		file := "azure/" + strings.ReplaceAll(strings.ToLower(name), " ", "-") + ".json"
		if err := json.Unmarshal([]byte(read(t, file)), &role); err != nil {
			t.Fatal(err)
		}
		if role.Name != name || !role.IsCustom || !slices.Equal(role.Actions, actions) || len(role.DataActions) != 0 || len(role.AssignableScopes) != 1 {
			t.Errorf("%s: got %+v, want the actions %v", file, role, actions)
		}
	}
	if len(found) != len(want) {
		t.Errorf("got %d roles in Bicep, want %d", len(found), len(want))
	}
}
