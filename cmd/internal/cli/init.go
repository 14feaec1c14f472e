package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/daemon"
	"github.com/belayd/belay/cmd/internal/draft"
	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/policies/policytest"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/traffic"
)

// initTimeout bounds all that is asked of an endpoint.
const initTimeout = time.Minute

// initLong is what all kinds of init say of themselves.
const initLong = "It reads the live endpoint and changes nothing there. The folder gets three files, commented, " +
	"that pass\n" +
	"belay policy check, belay policy test and belayd check-config as they are. Nothing is overwritten.\n" +
	"What the endpoint does not tell is named by field, and so is what must be filled in."

func initCommand() *command {
	return &command{
		name: "init", short: "Draft a policy, a test and a config out of a live endpoint. Needs no belayd.",
		sub: []*command{initAzureML(), initHAProxy(), initWebhook()},
	}
}

// draftFlags are those of every kind of init.
type draftFlags struct {
	endpoint, owner, dir, alerts, output *string
}

func (f *flags) draft() draftFlags {
	return draftFlags{
		endpoint: f.String("endpoint", "", "`NAME` of the endpoint; may be left out when there is one"),
		owner:    f.String("owner", "", "`WHO` answers for the policy (the endpoint's tag owner)"),
		dir:      f.file("dir", "`FOLDER` for the files, made when missing (the present one)"),
		alerts:   f.String("alertmanager", "", "`URL` of the Alertmanager that calls people"),
		output:   f.choice("output", "how to print", "table", "json", "yaml"),
	}
}

// options are what the flags say.
func (d draftFlags) options(kind draft.Kind) draft.Options {
	return draft.Options{Kind: kind, Endpoint: *d.endpoint, Owner: *d.owner, Alertmanager: *d.alerts}
}

func initAzureML() *command {
	return &command{
		name: "azureml", short: "Draft for an online endpoint of Azure Machine Learning.", long: initLong,
		examples: []string{"belay init azureml --subscription ID --resource-group ml --workspace prod --endpoint " +
			"recs --dir policies"},
		setup: func(f *flags) run {
			common := f.draft()
			var a draft.AzureOptions
			f.StringVar(&a.Subscription, "subscription", "", "the subscription's `ID`")
			f.StringVar(&a.ResourceGroup, "resource-group", "", "`NAME` of the workspace's resource group")
			f.StringVar(&a.Workspace, "workspace", "", "`NAME` of the workspace")
			f.StringVar(&a.Logs, "logs", "", "`ID` of the Log Analytics workspace that has the traffic log")
			f.StringVar(&a.ResourceManager, "resource-manager", "", "`URL` of the resource manager in another cloud")
			credential := f.choice("credential", "as whom Azure is asked", "default", "workload", "managed", "cli",
				"file")
			tokenFile := f.file("token-file", "with --credential file: a `FILE` in which somebody else keeps a valid token")
			return func(ctx context.Context, e *env, _ []string) error {
				if a.Subscription == "" || a.ResourceGroup == "" || a.Workspace == "" {
					return usageError("want --subscription, --resource-group and --workspace")
				}
				if (*credential == "file") != (*tokenFile != "") {
					return usageError("--token-file: goes with --credential file")
				}
				o := common.options(draft.AzureML)
				o.Azure, o.Azure.Credential = a, *credential
				var err error
				if o.Azure.TokenFile, err = absolute(*tokenFile); err != nil {
					return err
				}
				return e.draft(ctx, *common.dir, *common.output, o)
			}
		},
	}
}

func initHAProxy() *command {
	return &command{
		name: "haproxy", short: "Draft for a backend, or a map, of a HAProxy.", long: initLong,
		examples: []string{
			"belay init haproxy --socket /run/haproxy/admin.sock --endpoint recs",
			"belay init haproxy --socket /run/haproxy/admin.sock --endpoint recs --map /etc/haproxy/recs.map",
		},
		setup: func(f *flags) run {
			common := f.draft()
			socket := f.file("socket", "`PATH` of the runtime socket, or host:port")
			mapFile := f.String("map", "", "the map's `FILE` as HAProxy names it, where deployments are backends")
			prometheus := f.String("prometheus", "", "`URL` of the Prometheus that has HAProxy's metrics")
			return func(ctx context.Context, e *env, _ []string) error {
				switch {
				case *socket == "":
					return usageError("want --socket")
				case *mapFile != "" && *common.endpoint == "":
					return usageError("--endpoint: a map has no name of its own; say what the endpoint is called")
				}
				o := common.options(draft.HAProxy)
				o.Prometheus, o.Proxy = *prometheus, draft.ProxyOptions{Socket: *socket, Map: *mapFile}
				return e.draft(ctx, *common.dir, *common.output, o)
			}
		},
	}
}

func initWebhook() *command {
	return &command{
		name: "webhook", args: "URL", short: "Draft for an endpoint that keeps the webhook router's contract.",
		long: initLong, min: 1, max: 1,
		examples: []string{"belay init webhook http://127.0.0.1:8080", "belay init webhook " +
			"https://edge.example/traffic --endpoint recs --token-file edge.token --dir policies"},
		setup: func(f *flags) run {
			common := f.draft()
			tokenFile := f.file("token-file", "`FILE` that holds a bearer token for URL")
			prometheus := f.String("prometheus", "", "`URL` of the Prometheus that has the servers' metrics")
			return func(ctx context.Context, e *env, args []string) error {
				o := common.options(draft.Webhook)
				o.Prometheus, o.Hook.URL = *prometheus, args[0]
				var err error
				if o.Hook.TokenFile, err = absolute(*tokenFile); err != nil {
					return err
				}
				return e.draft(ctx, *common.dir, *common.output, o)
			}
		},
	}
}

// absolute is a file's name for a config that stands in another folder; "" stays.
func absolute(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	return filepath.Abs(file)
}

// draft reads the endpoint, writes the files and says what is left to do.
func (e *env) draft(ctx context.Context, dir, output string, o draft.Options) error {
	ctx, cancel := context.WithTimeout(ctx, initTimeout)
	defer cancel()
	router, err := openRouter(o)
	if err != nil {
		return err
	}
	if o.Endpoint == "" {
		if o.Endpoint, err = onlyEndpoint(ctx, router); err != nil {
			return err
		}
	}
	live, err := readLive(ctx, router, o.Endpoint)
	if err != nil {
		return err
	}
	d, err := draft.Compose(o, live)
	if err != nil {
		return err
	}
	if dir == "" {
		dir = "."
	}
	paths, err := d.Write(dir)
	if err != nil {
		return err
	}
	if err := checkDraft(dir, d); err != nil {
		return err
	}
	return e.printDraft(output, dir, o, live, d, paths)
}

// openRouter builds the router by the config that will be written, as belayd
// does.
func openRouter(o draft.Options) (_ traffic.Router, err error) {
	text, err := draft.Config(o)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "belay-init-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "belayd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	c, err := config.Read(file)
	if err != nil {
		return nil, err
	}
	return c.OpenRouter(o.Router())
}

// readLive reads what the endpoint shows and tells.
func readLive(ctx context.Context, router traffic.Router, endpoint string) (live draft.Live, err error) {
	if live.Description, err = router.Describe(ctx, endpoint); err != nil {
		return live, err
	}
	live.Split, err = router.Split(ctx, endpoint)
	return live, err
}

// checkDraft holds what was written against the rules that it must keep. The
// files stay: their text is what shows the mistake.
func checkDraft(dir string, d *draft.Draft) error {
	report, ok := daemon.CheckConfig(filepath.Join(dir, d.Config))
	if !ok {
		return fmt.Errorf("the drafted files are not valid; this is a mistake of belay's: %s", report)
	}
	c, err := config.Read(filepath.Join(dir, d.Config))
	if err != nil {
		return err
	}
	r, ps := policytest.Run(folder.At(dir), d.Test, c.Environment(), func(string) bool { return true })
	if r == nil {
		return fmt.Errorf("the drafted test is not valid; this is a mistake of belay's: %s", below(dir, ps).Text())
	}
	if !r.Passed() {
		return fmt.Errorf("the drafted test %s fails; this is a mistake of belay's", filepath.Join(dir, d.Test))
	}
	return nil
}

// A drafted is what init prints as JSON.
type drafted struct {
	SchemaVersion int                 `json:"schemaVersion"`
	Endpoint      rollout.EndpointRef `json:"endpoint"`
	Weights       map[string]int      `json:"weights"`
	Files         []string            `json:"files"`
	Unknown       []string            `json:"untold"`
	FillIn        []draft.Blank       `json:"fillIn"`
	Notes         []string            `json:"notes"`
}

// printDraft says what was read, written, not told, and is left to do.
func (e *env) printDraft(output, dir string, o draft.Options, live draft.Live, d *draft.Draft, paths []string) error {
	out := drafted{SchemaVersion: api.SchemaVersion, Endpoint: rollout.EndpointRef{Router: o.Router(),
		Name: o.Endpoint}, Weights: live.Split.Weights,
		Files: paths, Unknown: append([]string{}, live.Description.Unknown...), FillIn: d.Blanks,
		Notes: append([]string{}, d.Notes...)}
	return e.print(output, out, func(w io.Writer) error {
		t := &table{}
		t.add("read", safe(fmt.Sprintf("%s/%s: %s", o.Router(), o.Endpoint, live.Split.String())))
		for _, p := range paths {
			t.add("wrote", safe(p))
		}
		for _, field := range out.Unknown {
			t.add("not told", safe(field))
		}
		for _, b := range out.FillIn {
			t.add("fill in", safe(fmt.Sprintf("%s: %s: %s", b.File, b.Field, b.Why)))
		}
		for _, n := range out.Notes {
			t.add(e.paint(yellow, "note"), safe(n))
		}
		config := filepath.Join(dir, d.Config)
		t.add("next", safe(fmt.Sprintf("belay policy check %s --config %s", filepath.Join(dir, d.Policy), config)))
		t.add("next", safe(fmt.Sprintf("belay policy test %s --config %s", filepath.Join(dir, d.Test), config)))
		t.add("next", safe("belayd check-config "+config))
		return t.print(w)
	}, nil)
}
