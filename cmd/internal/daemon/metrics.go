package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/belayd/belay/cmd/internal/serve"
)

// A metricsPage gathers and writes the metrics once at a time, for all who wait
// meanwhile, and then rests: many readers, and those that do not read, cost a small
// part of one processor.
type metricsPage struct {
	from http.Handler

	mu   sync.Mutex
	rest time.Time                  // until then nothing is gathered
	last map[expfmt.Format]*written // of the few formats that there are
}

// The rest is so many times what gathering took, and metricsRestMax at most.
const metricsRest, metricsRestMax = 9, 100 * time.Millisecond

// newMetricsPage shows what the gatherer gathers.
func newMetricsPage(from prometheus.Gatherer) *metricsPage {
	// Compression would cost each reader that does not read its own buffers.
	options := promhttp.HandlerOpts{EnableOpenMetrics: true, DisableCompression: true}
	return &metricsPage{from: promhttp.HandlerFor(from, options), last: map[expfmt.Format]*written{}}
}

// ServeHTTP implements http.Handler: it shows what was so after it was called.
func (p *metricsPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve.EndTurn(r.Context()) // one does it for all
	called, format := time.Now(), expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	p.mu.Lock()
	page := p.last[format]
	if page == nil || !page.began.After(called) {
		time.Sleep(time.Until(p.rest))
		page = &written{began: time.Now(), header: http.Header{}, status: http.StatusOK}
		p.from.ServeHTTP(page, r)
		p.last[format] = page
		p.rest = time.Now().Add(min(metricsRest*time.Since(page.began), metricsRestMax))
	}
	p.mu.Unlock()
	if serve.TakeTurn(r.Context()) != nil {
		panic(http.ErrAbortHandler) // the reader has gone
	}
	maps.Copy(w.Header(), page.header)
	w.WriteHeader(page.status)
	// figures of our own; and where the reader has gone there is nobody to tell
	_, _ = w.Write(page.body.Bytes()) //nolint:gosec
}

// A written answer is kept; nobody changes it once it is written.
type written struct {
	began  time.Time
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *written) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *written) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *written) Write(b []byte) (int, error) { return a.body.Write(b) }

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
