package bulkhead

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/traffic"
)

// A wreck panics at whatever it is asked; what it throws holds a secret, unless
// the runtime throws.
type wreck struct{ runtime bool }

func (w wreck) sink() {
	if w.runtime {
		var hull []int
		_ = hull[len(hull)]
	}
	panic(errors.New("Authorization: Bearer hunter2"))
}

func (w wreck) Split(context.Context, string) (traffic.Split, error) {
	w.sink()
	return traffic.Split{}, nil
}

func (w wreck) Shift(context.Context, string, traffic.Split, traffic.Split) error {
	w.sink()
	return nil
}

func (w wreck) Describe(_ context.Context, endpoint string) (traffic.Description, error) {
	if endpoint == "recs" {
		w.sink()
	}
	return traffic.Description{ManualRollback: func(string) string { w.sink(); return "" }}, nil
}

func (w wreck) Endpoints(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		yield("recs", nil)
		w.sink()
	}
}

func (w wreck) Probe(context.Context, string, string, *http.Request) (*http.Response, error) {
	w.sink()
	return nil, nil //nolint:nilnil // never reached
}

func (w wreck) Notify(context.Context, notifier.Notice) (string, error) { w.sink(); return "", nil }

func (w wreck) Run(context.Context, func(context.Context, notifier.Answer) (notifier.Reply, error)) error {
	w.sink()
	return nil
}

// Read panics at the metric "hostile".
func (w wreck) Read(_ context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	rs := make([]analysis.Reading, len(qs))
	for i, q := range qs {
		if q.Metric.Name == "hostile" {
			w.sink()
		}
		rs[i] = analysis.Reading{Metric: q.Metric.Name, Status: analysis.StatusOK}
	}
	return rs, nil
}

// Every call of every kind of adapter that panics is an error of that call, which
// names the adapter; it is counted and logged with its stack, and what was thrown
// is shown only where the runtime threw it.
func TestContained(t *testing.T) {
	for _, runtime := range []bool{true, false} {
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		b, err := New(slog.New(slog.NewTextHandler(&log, nil)), reg)
		if err != nil {
			t.Fatal(err)
		}
		w, ctx := wreck{runtime}, t.Context()
		r := b.Router("edge", w)
		calls := map[string]func() error{
			"router edge: split":    func() error { _, err := r.Split(ctx, "recs"); return err },
			"router edge: shift":    func() error { return r.Shift(ctx, "recs", traffic.Split{}, traffic.Split{}) },
			"router edge: describe": func() error { _, err := r.Describe(ctx, "recs"); return err },
			"router edge: probe":    func() error { _, err := r.Probe(ctx, "recs", "", nil); return err }, //nolint:bodyclose // there is none
			"router edge: endpoints": func() error {
				var names []string
				var last error
				for name, err := range r.Endpoints(ctx) {
					names, last = append(names, name), err
				}
				if len(names) != 2 || names[0] != "recs" {
					t.Errorf("endpoints before the panic: got %q", names)
				}
				return last
			},
			"notifier hook: notify": func() error { _, err := b.Notifier("hook", w).Notify(ctx, notifier.Notice{}); return err },
			"inbox hook: run":       func() error { return b.Inbox("hook", w).Run(ctx, nil) },
			"trigger t: run": func() error {
				return b.Contain("trigger", "t", func(context.Context) error { w.sink(); return nil })(ctx)
			},
		}
		for want, call := range calls {
			err := call()
			if err == nil || !strings.HasPrefix(err.Error(), want+": the adapter panicked (") {
				t.Errorf("%s: got %v", want, err)
			}
		}
		if d, err := r.Describe(ctx, "other"); err != nil || d.ManualRollback("blue") != "" {
			t.Errorf("a command that panics: got %v, want none", err)
		}
		if got := testutil.CollectAndCount(reg, "belay_adapter_panics_total"); got != 4 {
			t.Errorf("series of panics: got %d, want those of a router, a notifier, an inbox and a trigger", got)
		}
		said := log.String()
		if strings.Count(said, "bulkhead_test.go") < len(calls) || strings.Contains(said, "hunter2") || runtime != strings.Contains(said, "index out of range") {
			t.Errorf("the log (runtime: %v): %s", runtime, said)
		}
	}
}

// The answer that makes a source panic is an error of its own reading, and of no
// other that was asked with it.
func TestContainedReading(t *testing.T) {
	b, err := New(slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	qs := make([]analysis.Query, 9)
	for i := range qs {
		qs[i].Metric.Name = "failures"
	}
	qs[5].Metric.Name = "hostile"
	rs, err := b.Source("pods", wreck{true}).Read(t.Context(), qs)
	if err != nil || len(rs) != len(qs) {
		t.Fatalf("got %d readings, %v", len(rs), err)
	}
	for i, r := range rs {
		if hostile := i == 5; (r.Status == analysis.StatusOK) == hostile || r.Metric != qs[i].Metric.Name {
			t.Errorf("reading %d: got %+v", i, r)
		}
	}
	if !strings.Contains(rs[5].Reason, "source pods: read: the adapter panicked (") {
		t.Errorf("the hostile reading says %q", rs[5].Reason)
	}
}

// A missing adapter says why at every call.
func TestMissing(t *testing.T) {
	why := errors.New("routers.edge.webhook.url: is no address")
	r := MissingRouter(why)
	_, split := r.Split(t.Context(), "recs")
	d, describe := r.Describe(t.Context(), "recs")
	_, probe := r.Probe(t.Context(), "recs", "", nil) //nolint:bodyclose // there is none
	var list error
	for _, err := range r.Endpoints(t.Context()) {
		list = err
	}
	_, notify := MissingNotifier(why).Notify(t.Context(), notifier.Notice{})
	for _, err := range []error{split, describe, probe, list, notify, r.Shift(t.Context(), "recs", traffic.Split{}, traffic.Split{})} {
		if !errors.Is(err, why) || errors.Is(err, traffic.ErrPermanent) || errors.Is(err, notifier.ErrPermanent) {
			t.Errorf("got %v, want that the config is why, which may pass", err)
		}
	}
	if d.ManualRollback == nil {
		t.Error("there is no function for the command by hand")
	}
	rs, err := MissingSource(why).Read(t.Context(), make([]analysis.Query, 2))
	if err != nil || len(rs) != 2 || rs[1].Status != analysis.StatusError || !strings.Contains(rs[1].Reason, why.Error()) {
		t.Errorf("readings: got %+v, %v", rs, err)
	}
}

// A panic of the core that an inbox called ends the process with its own stack: it
// is nobody else's error.
func TestCorePanic(t *testing.T) {
	if os.Getenv("BELAY_CORE_PANICS") != "" {
		b, err := New(slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		deliver := func(context.Context, notifier.Answer) (notifier.Reply, error) { panic("the core") }
		t.Fatal("the core's panic was recovered:", b.Inbox("hook", caller{}).Run(t.Context(), deliver))
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCorePanic$")
	cmd.Env = append(os.Environ(), "BELAY_CORE_PANICS=1")
	out, err := cmd.CombinedOutput()
	if bad, ok := errors.AsType[*exec.ExitError](err); !ok || bad.ExitCode() != 2 || !bytes.Contains(out, []byte("panic: the core")) || !bytes.Contains(out, []byte("TestCorePanic")) {
		t.Errorf("got %v, want exit code 2 and the core's stack: %s", err, out)
	}
}

// A caller is an inbox that delivers one answer.
type caller struct{}

func (caller) Run(ctx context.Context, deliver func(context.Context, notifier.Answer) (notifier.Reply, error)) error {
	_, err := deliver(ctx, notifier.Answer{})
	return err
}
