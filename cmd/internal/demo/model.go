package demo

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// playHeader is the response header in which a model server says how the play
// that it started ended; the endpoint copies it into its request log.
const playHeader = "X-Play"

// tookHeader is the response header in which a model server says how long its model
// took, in seconds; the endpoint copies that too.
const tookHeader = "X-Took"

// bucketBounds are the histogram's bounds at speed 1. The policy's limit is one
// of them, so that the share of slower requests is known exactly.
var bucketBounds = []time.Duration{
	25 * time.Millisecond, 50 * time.Millisecond, 75 * time.Millisecond, 100 * time.Millisecond,
	150 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond, latencyLimit,
	600 * time.Millisecond, time.Second, 2 * time.Second,
}

// condition is how well a model server does at the moment.
type condition struct {
	failures float64 // share of requests answered 500
	slowdown float64 // factor on the latency
	watched  float64 // share of plays that are completed
	silent   bool    // its series are gone from /metrics
}

var healthy = condition{failures: failureShare, slowdown: 1, watched: watchedShare}

// under is the condition of a candidate that suffers from the fault.
func (f Fault) under() condition {
	c := healthy
	switch f {
	case FaultFailures:
		c.failures = 0.20
	case FaultLatency:
		c.slowdown = 5
	case FaultBusiness:
		c.watched = 0.60
	case FaultNoData:
		c.silent = true
	case FaultNone, FaultForeignChange:
	}
	return c
}

// A modelServer is one deployment's server: it answers /score after a while and tells
// on /metrics how it did. What it tells is what was drawn, however much longer a busy
// machine made the request wait: a demo is about the candidate, not about the machine.
type modelServer struct {
	name   string
	median time.Duration
	now    atomic.Pointer[condition]
	// wait lets the time of a request pass.
	wait func(ctx context.Context, d time.Duration) error

	// scrape is held for reading while one request's counters move together and
	// for writing while they are gathered: a scrape never sees half a request.
	scrape    sync.RWMutex
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	latency   prometheus.Observer
	started   prometheus.Counter
	completed prometheus.Counter
}

// newModelServer returns a healthy model server with its own metrics.
func newModelServer(name, version string, speed Speed) *modelServer {
	m := &modelServer{
		name:     name,
		wait:     pause,
		median:   time.Duration(float64(speed.scale(latencyP95)) / math.Exp(1.6449*latencySigma)),
		registry: prometheus.NewRegistry(),
	}
	m.now.Store(&healthy)
	labels := prometheus.Labels{"endpoint": Endpoint, "deployment": name}
	bounds := make([]float64, len(bucketBounds))
	for i, b := range bucketBounds {
		bounds[i] = speed.scale(b).Seconds()
	}
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total", Help: "Requests answered, by status code.", ConstLabels: labels,
	}, []string{"code"})
	latency := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "http_request_duration_seconds", Help: "Time to answer a request.", ConstLabels: labels, Buckets: bounds,
	})
	m.latency = latency
	m.started = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "plays_started_total", Help: "Recommended titles that somebody started to watch.", ConstLabels: labels,
	})
	m.completed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "plays_completed_total", Help: "Recommended titles that somebody watched to the end.",
		ConstLabels: labels,
	})
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "model_info", Help: "The version that is served.",
		ConstLabels: prometheus.Labels{"deployment": name, "version": version},
	})
	info.Set(1)
	m.registry.MustRegister(m.requests, latency, m.started, m.completed, info)
	m.requests.WithLabelValues("200")
	return m
}

// set changes how well the server does from now on.
func (m *modelServer) set(c condition) { m.now.Store(&c) }

// handler serves /score and /metrics.
func (m *modelServer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/score", m.score)
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.GathererFunc(m.gather), promhttp.HandlerOpts{}))
	return mux
}

// score answers one request as the server's condition has it.
func (m *modelServer) score(w http.ResponseWriter, r *http.Request) {
	c := *m.now.Load()
	took := m.draw(c.slowdown)
	if err := m.wait(r.Context(), took); err != nil {
		return // whoever asked has gone
	}
	code, play := http.StatusOK, "abandoned"
	if rand.Float64() < c.failures {
		code, play = http.StatusInternalServerError, "none"
	} else if rand.Float64() < c.watched {
		play = "completed"
	}
	m.count(code, play, took)
	w.Header().Set(playHeader, play)
	w.Header().Set(tookHeader, strconv.FormatFloat(took.Seconds(), 'f', -1, 64))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if code == http.StatusOK {
		_, _ = w.Write([]byte(`{"titles":["t-101","t-204","t-377"]}` + "\n"))
	} else {
		_, _ = w.Write([]byte(`{"error":"the model crashed"}` + "\n"))
	}
}

// draw is one latency: lognormal around the median.
func (m *modelServer) draw(slowdown float64) time.Duration {
	return time.Duration(float64(m.median) * slowdown * math.Exp(latencySigma*rand.NormFloat64()))
}

// count moves all of one request's counters at once.
func (m *modelServer) count(code int, play string, took time.Duration) {
	m.scrape.RLock()
	defer m.scrape.RUnlock()
	m.requests.WithLabelValues(strconv.Itoa(code)).Inc()
	m.latency.Observe(took.Seconds())
	if play != "none" {
		m.started.Inc()
	}
	if play == "completed" {
		m.completed.Inc()
	}
}

// gather reads the counters between two requests. A silent server still
// answers, without the series that guardrails are made of.
func (m *modelServer) gather() ([]*dto.MetricFamily, error) {
	m.scrape.Lock()
	defer m.scrape.Unlock()
	all, err := m.registry.Gather()
	if err != nil || !m.now.Load().silent {
		return all, err
	}
	var left []*dto.MetricFamily
	for _, f := range all {
		if f.GetName() == "model_info" {
			left = append(left, f)
		}
	}
	return left, nil
}
