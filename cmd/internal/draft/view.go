package draft

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/belayd/belay/rollout/traffic"
)

//go:embed *.tmpl
var templates embed.FS

// A view is what the templates see.
type view struct {
	Options
	Live
	// Name is the policy's; Source and Notifier are names of the config.
	Name, Source, Notifier string
	// WithPolicy: there is a policy file for the config to name.
	WithPolicy bool
	Owner      string
	OwnerTold  bool
	Runbook    string
	// Kubernetes: an Azure endpoint that writes no traffic log.
	Kubernetes bool
	// Histogram: latencies are a histogram, so that quantiles can be judged.
	Histogram bool
	// Interval, Settle and Bake suit how late the metrics come.
	Interval, Settle, Bake, LongBake, FreshWithin, NoDataAfter, NoDataRollback string
	Checks                                                                     []check
	Deployments                                                                []described
	// Backends is a regular expression of all deployments that are backends.
	Backends string
	// PrometheusURL and AlertmanagerURL are those given, or this machine's.
	PrometheusURL, AlertmanagerURL string
}

// A check is a preflight check, or why it is left out.
type check struct {
	Text    string
	Missing string // the fields that are not told; "" when it is made
}

// described is a deployment in a comment.
type described struct{ Name, Text string }

// The tags that a launch checklist asks for.
var checklist = []string{"owner", "approvalContact", "dataClass"}

// unfit is what a policy's name cannot have.
var unfit = regexp.MustCompile(`[^a-z0-9-]+`)

func newView(o Options, live Live) *view {
	tags := live.Description.Tags
	v := &view{
		Options: o, Live: live, Source: sourceName, Notifier: notifierName, WithPolicy: o.Endpoint != "" &&
			live.Split.Weights != nil,
		Name:     cmp.Or(strings.Trim(unfit.ReplaceAllString(strings.ToLower(o.Endpoint), "-"), "-"), "endpoint"),
		Runbook:  tags["runbook"],
		Interval: "15s", Settle: "1m", Bake: "30m", LongBake: "1h", FreshWithin: "5m",
		NoDataAfter: "2m", NoDataRollback: "10m",
		Histogram: o.Kind != HAProxy,
	}
	if len(v.Name) > 60 {
		v.Name = strings.TrimRight(v.Name[:60], "-")
	}
	v.Owner = strings.TrimSpace(oneLine(cmp.Or(o.Owner, tags["owner"])))
	v.OwnerTold = v.Owner != ""
	v.Owner = cmp.Or(v.Owner, "fill-in-who-answers")
	if o.Kind == AzureML {
		v.Interval, v.Settle, v.Bake, v.LongBake = "1m", "5m", "45m", "90m"
		v.FreshWithin, v.NoDataAfter, v.NoDataRollback = "20m", "20m", "30m"
		v.Kubernetes = v.WithPolicy && !live.Description.CanMirror
	}
	v.PrometheusURL, v.AlertmanagerURL = cmp.Or(o.Prometheus, localSource), cmp.Or(o.Alertmanager, localAlerts)
	v.Azure.Logs = cmp.Or(o.Azure.Logs, zeroGUID)
	v.Azure.Credential = cmp.Or(o.Azure.Credential, "default")
	v.Checks = checks(live, v.FreshWithin)
	var names []string
	for _, name := range slices.Sorted(maps.Keys(live.Description.Deployments)) {
		names = append(names, regexp.QuoteMeta(name))
		v.Deployments = append(v.Deployments, described{name, v.describe(name)})
	}
	v.Backends = strings.Join(names, "|")
	return v
}

// describe is what is known of a deployment, on a line.
func (v *view) describe(name string) string {
	d, field := v.Description.Deployments[name], "deployments."+name
	parts := []string{fmt.Sprintf("%d%% of the traffic", v.Split.Weights[name])}
	if told(v.Live, field+".ready") {
		parts = append(parts, map[bool]string{true: "ready", false: "not ready"}[d.Ready])
	}
	if told(v.Live, field+".instances") {
		text := "1 instance"
		if d.Instances != 1 {
			text = fmt.Sprintf("%d instances", d.Instances)
		}
		if told(v.Live, field+".concurrency") {
			text += fmt.Sprintf(" × %d requests at a time", d.Concurrency)
		}
		parts = append(parts, text)
	}
	if told(v.Live, field+".version") {
		parts = append(parts, "version "+d.Version)
	}
	return oneLine(strings.Join(parts, ", "))
}

// checks are those of the launch checklist that the endpoint's facts allow.
func checks(live Live, within string) []check {
	facts := func(of ...string) string {
		var missing []string
		for _, field := range of {
			if !told(live, field) {
				missing = append(missing, field)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(live.Description.Deployments)) {
			for _, field := range of {
				if at := "deployments." + name + "." + strings.TrimPrefix(field, "*."); strings.HasPrefix(field,
					"*.") && !told(live, at) {
					missing = append(missing, at)
				}
			}
		}
		return oneLine(strings.Join(missing, ", "))
	}
	var required []string
	for _, tag := range checklist {
		if live.Description.Tags[tag] != "" {
			required = append(required, tag)
		}
	}
	tags := check{fmt.Sprintf("{check: tags, required: [%s]}", strings.Join(required, ", ")), facts("tags")}
	if len(required) == 0 {
		tags = check{fmt.Sprintf("{check: tags, required: [%s]}", strings.Join(checklist, ", ")),
			cmp.Or(tags.Missing, "tags."+strings.Join(checklist, ", tags."))}
	}
	anonymous := check{"{check: refuses-anonymous}", facts("scoringURI")}
	if anonymous.Missing == "" && live.Description.AuthMode == "" {
		anonymous.Missing = "authMode"
	}
	return []check{
		{"{check: ready}", facts("deployments", "*.ready")},
		{"{check: rollback-ready}", facts("deployments", "*.ready")},
		{"{check: capacity, headroom: 30%}", facts("deployments", "*.instances", "*.concurrency")},
		{"{check: fresh-metrics, within: " + within + "}", ""},
		tags, anonymous,
		{"{check: invoke, request: {file: smoke/request.json}, expect: {status: 200}}",
			cmp.Or(facts("scoringURI"), "a sample request in smoke/request.json")},
	}
}

// All reports whether one deployment has all the traffic.
func (v *view) All() bool { return len(traffic.Positive(v.Split.Weights)) == 1 }

// Left are the checks that are left out, Made those that are not.
func (v *view) Left() (out []check) {
	return slices.DeleteFunc(slices.Clone(v.Checks), func(c check) bool { return c.Missing == "" })
}

// Made are the checks that are made.
func (v *view) Made() (out []check) {
	return slices.DeleteFunc(slices.Clone(v.Checks), func(c check) bool { return c.Missing != "" })
}

// render executes a template.
func (v *view) render(name string) (string, error) {
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"q": quote, "line": oneLine}).ParseFS(
		templates, "*.tmpl")
	if err != nil {
		return "", fmt.Errorf("draft %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.ExecuteTemplate(&out, name+".yaml.tmpl", v); err != nil {
		return "", fmt.Errorf("draft %s: %w", name, err)
	}
	return out.String(), nil
}

// quote is a text as YAML reads it back, whatever is in it.
func quote(s string) (string, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(s)
	return strings.TrimSuffix(out.String(), "\n"), err
}

// oneLine is a text from outside where a policy or a comment has one line: it cannot
// end it.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff {
			return ' '
		}
		return r
	}, s)
}
