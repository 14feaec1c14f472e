package daemon

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A sharedGatherer gathers once at a time, for all who wait meanwhile: many
// readers, and those that do not read, cost no more than one.
type sharedGatherer struct {
	prometheus.Gatherer

	mu    sync.Mutex
	began time.Time
	was   []*dto.MetricFamily
	err   error
}

// Gather implements prometheus.Gatherer: it returns what was so after it was
// called. Nobody may change that.
func (g *sharedGatherer) Gather() ([]*dto.MetricFamily, error) {
	called := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.began.After(called) {
		g.began = time.Now()
		g.was, g.err = g.Gatherer.Gather()
	}
	return g.was, g.err
}

// registerBuildInfo says which code runs.
func registerBuildInfo(reg prometheus.Registerer, version string) error {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "belay", Name: "build_info", Help: "1, with the version that runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	info.Set(1)
	if err := reg.Register(info); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// reloadMetrics are what the reloads are watched by.
type reloadMetrics struct {
	successful, at prometheus.Gauge
	waits          *prometheus.GaugeVec
}

func newReloadMetrics(reg prometheus.Registerer) (*reloadMetrics, error) {
	m := &reloadMetrics{
		successful: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "belay", Name: "config_last_reload_successful",
			Help: "1 when the config and the policies as their files are now are in force, 0 when an older set is."}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "belay", Name: "config_last_reload_success_timestamp_seconds",
			Help: "When the config or the policies were last taken over."}),
		waits: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "belay", Name: "config_restart_required",
			Help: "1 for a field of the config that was changed and that only a restart takes over."}, []string{"field"}),
	}
	if err := errors.Join(reg.Register(m.successful), reg.Register(m.at), reg.Register(m.waits)); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

// judged notes how a reading went.
func (m *reloadMetrics) judged(ok bool) {
	if ok {
		m.successful.Set(1)
	} else {
		m.successful.Set(0)
	}
}

// taken notes that a set came into force.
func (m *reloadMetrics) taken() { m.at.SetToCurrentTime() }

// await notes what waits for a restart now, and what waited before. A field that
// goes on waiting is there all the while.
func (m *reloadMetrics) await(fields, before []string) {
	for _, f := range fields {
		m.waits.WithLabelValues(f).Set(1)
	}
	for _, f := range before {
		if !slices.Contains(fields, f) {
			m.waits.DeleteLabelValues(f)
		}
	}
}
