package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/belayd/belay/cmd/internal/bulkhead"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/notary"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/events"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/trigger"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/mem"
)

// described is a Registerer that writes down what is registered.
type described struct{ lines []string }

var desc = regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]*)", .*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

// Register implements prometheus.Registerer.
func (d *described) Register(c prometheus.Collector) error {
	kind := "gauge"
	switch c.(type) {
	case *prometheus.CounterVec, prometheus.Counter:
		if _, gauge := c.(prometheus.Gauge); !gauge {
			kind = "counter"
		}
	case prometheus.Histogram, *prometheus.HistogramVec:
		kind = "histogram"
	}
	ch := make(chan *prometheus.Desc, 64)
	c.Describe(ch)
	close(ch)
	for x := range ch {
		m := desc.FindStringSubmatch(x.String())
		if m == nil {
			return fmt.Errorf("cannot read %s", x)
		}
		labels := strings.FieldsFunc(m[4], func(r rune) bool { return r == ',' })
		for constant := range strings.SplitSeq(m[3], ",") {
			if name, _, ok := strings.Cut(constant, "="); ok {
				labels = append(labels, name)
			}
		}
		slices.Sort(labels)
		if strings.HasSuffix(m[1], "_total") {
			kind = "counter" // of a collector of several
		}
		d.lines = append(d.lines, fmt.Sprintf("| %s | `%s{%s}` | %s |", kind, m[1], strings.Join(labels, ","), strings.ReplaceAll(m[2], "|", `\|`)))
	}
	return nil
}

// MustRegister implements prometheus.Registerer.
func (d *described) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := d.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister implements prometheus.Registerer.
func (d *described) Unregister(prometheus.Collector) bool { return false }

// page compares a page of the reference with what the code says.
func page(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("..", "..", "..", "deploy", "reference", name)
	goldentest.Check(t, file, got)
}

// The reference of the config is what the types say, and the schema that editors use
// accepts the examples.
func TestConfigReference(t *testing.T) {
	text, err := document.Reference(config.Schema(), "What belayd's config file may say, generated from the types that read it; `belayd config-schema` prints the\n"+
		"same as a JSON Schema for editors. Nothing that is secret stands in it: each `…File` names a file of mode 0600 or stricter.\n"+
		"`deploy/example/belayd.yaml` is a file to begin with.")
	if err != nil {
		t.Fatal(err)
	}
	page(t, "configuration.md", string(text))
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(config.SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(config.SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob("../../../deploy/*/belayd.yaml")
	if err != nil || len(examples) < 3 {
		t.Fatalf("examples: got %q, %v, want some", examples, err)
	}
	for _, file := range examples {
		b, err := os.ReadFile(file)
		var v any
		if err = errors.Join(err, yaml.Unmarshal(b, &v)); err != nil {
			t.Fatal(err)
		}
		b, err = json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		v.(map[string]any)["listne"] = "x"
		if schema.Validate(v) == nil {
			t.Errorf("%s with a field that there is not: got no error", file)
		}
	}
}

// TestMetricsGolden pins every metric that belayd has of its own: name, kind,
// labels and help. Dashboards and alert rules are written against them.
func TestMetricsGolden(t *testing.T) {
	var d described
	if err := registerBuildInfo(&d, "v1"); err != nil {
		t.Fatal(err)
	}
	if _, err := newReloadMetrics(&d); err != nil {
		t.Fatal(err)
	}
	if _, err := bulkhead.New(slog.New(slog.DiscardHandler), &d); err != nil {
		t.Fatal(err)
	}
	d.MustRegister(triggerList(func() []*trigger.Trigger { return nil }))
	s := mem.New()
	d.MustRegister(notary.New(s, nil, nil))
	e, err := engine.New(engine.Config{Store: s, Leaser: store.Always{}, Owner: "one", Logger: slog.New(slog.DiscardHandler), Registerer: &d})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := events.Open(t.Context(), events.Config{Sink: "nats", URL: "nats://127.0.0.1:1", SubjectPrefix: "belay.events", Rollouts: e, Store: s, Log: slog.New(slog.DiscardHandler), Registerer: &d}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.New(api.Config{Engine: e, Catalog: &Catalog{}, Log: slog.New(slog.DiscardHandler), Registerer: &d}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(d.lines)
	got := "# belayd's metrics\n\nWhat `/metrics` shows, generated from what belayd registers. `deploy/prometheus` and `deploy/grafana` use them.\n\n" +
		"| kind | metric and labels | meaning |\n|---|---|---|\n" + strings.Join(d.lines, "\n") + "\n"
	page(t, "metrics.md", got)
	// The names that are fixed, because people write them down.
	for _, name := range []string{"rollouts{phase}", "rollout_weight{deployment,endpoint}", "guardrail_value{deployment,endpoint,guardrail}",
		"guardrail_limit{deployment,endpoint,guardrail}", "guardrail_verdict{deployment,endpoint,guardrail,verdict}", "guardrail_evidence{deployment,endpoint,guardrail}",
		"rollbacks_total{reason}", "decision_seconds{}", "source_reads_total{outcome,source}", "source_queries_total{source}",
		"router_calls_total{outcome,router}", "notifications_total{notifier,outcome}", "store_append_seconds{}", "lease_trusted_seconds{}", "build_info{goversion,version}"} {
		if !strings.Contains(got, "`belay_"+name+"`") {
			t.Errorf("there is no metric belay_%s", name)
		}
	}
}

// Readers who come while the metrics are gathered share the next ones; nobody gets
// any from before they asked, and each gets the format that they take.
func TestMetricsPage(t *testing.T) {
	const readers = 100
	var gathers atomic.Int32
	began, release := make(chan struct{}, 1), make(chan struct{})
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "belay_gathers", Help: "So many."}, func() float64 {
		select {
		case began <- struct{}{}:
		default:
		}
		<-release
		return float64(gathers.Add(1))
	}))
	page := newMetricsPage(reg)
	read := func(accept string) *httptest.ResponseRecorder {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		req.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		page.ServeHTTP(w, req)
		return w
	}
	var all sync.WaitGroup
	all.Go(func() { read("") })
	<-began
	for range readers {
		all.Go(func() {
			if w := read(""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "belay_gathers ") {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
	time.Sleep(500 * time.Millisecond) // most of them wait by then
	close(release)
	all.Wait()
	if n := gathers.Load(); n > readers/2 {
		t.Errorf("%d readers at once: gathered %d times, want about 2", readers, n)
	}
	before := gathers.Load()
	if w := read(""); !strings.Contains(w.Body.String(), fmt.Sprintf("belay_gathers %d\n", before+1)) {
		t.Errorf("a reader afterwards: got %s, want it gathered anew", w.Body)
	}
	if w := read("application/openmetrics-text"); !strings.Contains(w.Header().Get("Content-Type"), "openmetrics") || !strings.Contains(w.Body.String(), "# EOF") {
		t.Errorf("OpenMetrics: got %s %s", w.Header(), w.Body)
	}
}

// Between two times of gathering there is a rest, however many ask.
func TestMetricsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const took = 20 * time.Millisecond
		var at []time.Time
		reg := prometheus.NewRegistry()
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "belay_gathers", Help: "So many."}, func() float64 {
			at = append(at, time.Now())
			time.Sleep(took)
			return float64(len(at))
		}))
		page := newMetricsPage(reg)
		for range 3 {
			page.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
		}
		for i := range at[1:] {
			if every := at[i+1].Sub(at[i]); every != took+metricsRestMax {
				t.Errorf("gathering %d: got it after %s, want %s", i+1, every, took+metricsRestMax)
			}
		}
	})
}
