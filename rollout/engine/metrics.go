package engine

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/traffic"
)

// metrics are the engine's own figures. Their labels are bounded by the
// configuration (routers, sources, notifiers) and by the rollouts in memory.
type metrics struct {
	rollbacks     *prometheus.CounterVec
	finished      *prometheus.CounterVec
	lasted        *prometheus.HistogramVec
	decision      prometheus.Histogram
	sourceReads   *prometheus.CounterVec
	sourceQueries *prometheus.CounterVec
	routerCalls   *prometheus.CounterVec
	notifications *prometheus.CounterVec
	append        prometheus.Histogram
	gauges        *gauges
}

// gauges are the figures that are read from the engine that was made last, when they
// are gathered.
type gauges struct{ engine atomic.Pointer[Engine] }

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "belay", Name: name, Help: help}, labels)
	}
	m := &metrics{
		rollbacks: counter("rollbacks_total", "Rollbacks that were decided, by reason.", "reason"),
		finished:  counter("rollouts_finished_total", "Rollouts that ended, by endpoint and outcome.", "endpoint", "outcome"),
		lasted: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "belay", Name: "rollout_duration_seconds",
			Help:    "From a rollout's start to its end, by outcome.",
			Buckets: []float64{60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 259200, 604800}}, []string{"outcome"}),
		sourceReads: counter("source_reads_total",
			"Reads of metric sources, by outcome (ok, partial, error).", "source", "outcome"),
		sourceQueries: counter("source_queries_total", "Distinct questions put to metric sources.", "source"),
		routerCalls: counter("router_calls_total",
			"Calls of routers, by outcome (ok, busy, foreign, permanent, transient).", "router", "outcome"),
		notifications: counter("notifications_total",
			"Messages handed to notifiers, by outcome (delivered, failed, throttled, refused).", "notifier", "outcome"),
		decision: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "belay", Name: "decision_seconds",
			Help:    "From the reading that breached to the traffic call that rolls back.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}),
		gauges: &gauges{},
		append: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "belay", Name: "store_append_seconds",
			Help:    "Time of one append to the store.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	if reg == nil {
		return m, nil
	}
	err := errors.Join(shared(reg, &m.rollbacks), shared(reg, &m.finished), shared(reg, &m.lasted),
		shared(reg, &m.sourceReads), shared(reg, &m.sourceQueries),
		shared(reg, &m.routerCalls), shared(reg, &m.notifications), shared(reg, &m.decision), shared(reg, &m.append),
		shared(reg, &m.gauges))
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

// shared registers a collector, or takes the one that an engine before has registered:
// what it has counted goes on.
func shared[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	err := reg.Register(*c)
	if known, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if before, ok := known.ExistingCollector.(C); ok {
			*c = before
			return nil
		}
	}
	return err
}

// follow makes the figures those of an engine. The series of adapters that it does not
// have end: what one of them answers later is not counted any more.
func (m *metrics) follow(e *Engine) {
	before := m.gauges.engine.Swap(e)
	if before == nil {
		return
	}
	for name := range before.routers {
		if e.routers[name] == nil {
			m.routerCalls.DeletePartialMatch(prometheus.Labels{"router": name})
		}
	}
	for name := range before.sources {
		if e.sources[name] == nil {
			m.sourceReads.DeletePartialMatch(prometheus.Labels{"source": name})
			m.sourceQueries.DeletePartialMatch(prometheus.Labels{"source": name})
		}
	}
	for name := range before.notifiers {
		if e.notifiers[name] == nil {
			m.notifications.DeletePartialMatch(prometheus.Labels{"notifier": name})
		}
	}
}

// counts reports whether calls of an adapter are counted: those that there are.
func (m *metrics) counts(n AdapterName) bool {
	e := m.gauges.engine.Load()
	return e != nil && e.has(n)
}

// ended counts a rollout that has just ended.
func (m *metrics) ended(p *rollout.Plan, s *rollout.State) {
	m.finished.WithLabelValues(p.Endpoint.Router+"/"+p.Endpoint.Name, string(s.Phase)).Inc()
	m.lasted.WithLabelValues(string(s.Phase)).Observe(max(0, s.PhaseSince.Sub(s.Created).Seconds()))
}

// routerCall counts a call of a router by its outcome.
func (m *metrics) routerCall(name string, err error) {
	outcome := "ok"
	var busy *traffic.BusyError
	switch {
	case err == nil:
	case errors.As(err, &busy):
		outcome = "busy"
	case errors.Is(err, traffic.ErrForeignChange):
		outcome = "foreign"
	case errors.Is(err, traffic.ErrPermanent), errors.Is(err, traffic.ErrNotFound):
		outcome = "permanent"
	default:
		outcome = "transient"
	}
	if m.counts(AdapterName{KindRouter, name}) {
		m.routerCalls.WithLabelValues(name, outcome).Inc()
	}
}

// notified counts a delivery by its outcome.
func (m *metrics) notified(name string, err error) {
	outcome := "failed"
	var later *notifier.RetryError
	switch {
	case err == nil:
		outcome = "delivered"
	case errors.Is(err, notifier.ErrPermanent):
		outcome = "refused"
	case errors.As(err, &later):
		outcome = "throttled"
	}
	if m.counts(AdapterName{KindNotifier, name}) {
		m.notifications.WithLabelValues(name, outcome).Inc()
	}
}

// sourceRead counts a read of a source by its outcome.
func (m *metrics) sourceRead(name, outcome string) {
	if m.counts(AdapterName{KindSource, name}) {
		m.sourceReads.WithLabelValues(name, outcome).Inc()
	}
}

// sourceAsked counts the questions put to a source.
func (m *metrics) sourceAsked(name string, questions int) {
	if m.counts(AdapterName{KindSource, name}) {
		m.sourceQueries.WithLabelValues(name).Add(float64(questions))
	}
}

// The gauges are read from the rollouts in memory when they are scraped.
var (
	rolloutsDesc = desc("rollouts", "Open rollouts that this replica carries, by phase.", "phase")
	phaseDesc    = desc("rollout_phase", "1 for the present phase of the rollout that has the endpoint.",
		"endpoint", "phase")
	weightDesc  = desc("rollout_weight", "Confirmed weight of a deployment, in percent.", "endpoint", "deployment")
	trustedDesc = desc("lease_trusted_seconds",
		"The least time that any of the leases held may still be acted on, at most an hour.")
	quarantinedDesc = desc("rollouts_unreadable", "Rollouts left alone because this version cannot read them.")
	valueDesc       = desc("guardrail_value", "A guardrail's estimate.", "endpoint", "guardrail", "deployment")
	verdictDesc     = desc("guardrail_verdict",
		"1 for the guardrail's present verdict.", "endpoint", "guardrail", "deployment", "verdict")
	evidenceDesc = desc("guardrail_evidence",
		"Natural logarithm of the evidence for a breach.", "endpoint", "guardrail", "deployment")
	limitDesc = desc("guardrail_limit",
		"A guardrail's limit: an absolute figure, or the factor on stable's.", "endpoint", "guardrail", "deployment")
	unpagedDesc = desc("pages_undelivered",
		"Pages of rollouts carried here, and ends of pages, that the notifier did not take when it was last tried.",
		"notifier")
	untakenDesc = desc("pages_untaken", "Pages of rollouts carried here that no notifier has taken.")

	engineMetrics = []*prometheus.Desc{
		unpagedDesc, untakenDesc, rolloutsDesc, phaseDesc, weightDesc, trustedDesc, quarantinedDesc,
		valueDesc, verdictDesc, evidenceDesc, limitDesc,
	}
)

// desc describes one of Belay's gauges.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("belay_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (*gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range engineMetrics {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	if e := g.engine.Load(); e != nil {
		e.collect(ch)
	}
}

// collect writes the gauges.
func (e *Engine) collect(ch chan<- prometheus.Metric) {
	e.mu.Lock()
	runners := make([]*runner, 0, len(e.runners))
	for _, l := range e.runners {
		runners = append(runners, l)
	}
	trusted, leases, quarantined := time.Hour, 0, len(e.quarantined)
	for _, at := range e.endpoints {
		if at.lease != nil {
			leases++
			trusted = min(trusted, max(0, time.Until(at.lease.Trusted())))
		}
	}
	e.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if leases > 0 {
		gauge(trustedDesc, trusted.Seconds())
	}
	gauge(quarantinedDesc, float64(quarantined))
	e.collectPages(
		func(name string, pages int) { gauge(unpagedDesc, float64(pages), name) },
		func(pages int) { gauge(untakenDesc, float64(pages)) })
	phases := map[rollout.Phase]int{}
	shown := map[rollout.EndpointRef]bool{}
	for _, l := range runners {
		l.mu.Lock()
		s, gone := l.s, l.gone
		l.mu.Unlock()
		if gone {
			continue
		}
		phases[s.Phase]++
		// Of the rollouts of one endpoint only the one that has it has figures.
		ref := l.plan.Endpoint
		if !s.Claimed || shown[ref] {
			continue
		}
		shown[ref] = true
		gauge(phaseDesc, 1, ref.Router+"/"+ref.Name, string(s.Phase))
		if s.Confirmed != nil {
			l.collect(&s, gauge)
		}
	}
	for _, p := range rollout.Phases {
		if !p.Terminal() {
			gauge(rolloutsDesc, float64(phases[p]), string(p))
		}
	}
}

// collect writes the figures of one rollout.
func (l *runner) collect(s *rollout.State, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	name := l.plan.Endpoint.Router + "/" + l.plan.Endpoint.Name
	candidate := l.plan.Release.Candidate
	gauge(weightDesc, float64(s.Confirmed.Weights[candidate]), name, candidate)
	if s.Stable != candidate {
		gauge(weightDesc, float64(s.Confirmed.Weights[s.Stable]), name, s.Stable)
	}
	seen := map[string]bool{}
	for _, v := range s.Verdicts {
		if seen[v.Guardrail] {
			continue
		}
		seen[v.Guardrail] = true
		if v.Candidate.Known {
			gauge(valueDesc, v.Candidate.Value, name, v.Guardrail, candidate)
		}
		if v.Stable.Known && s.Stable != candidate {
			gauge(valueDesc, v.Stable.Value, name, v.Guardrail, s.Stable)
		}
		gauge(verdictDesc, 1, name, v.Guardrail, candidate, string(v.Outcome))
		gauge(evidenceDesc, v.LogE, name, v.Guardrail, candidate)
	}
	for _, g := range l.plan.Panel.Guardrails {
		gauge(limitDesc, l.plan.Panel.Shown(&g), name, g.Name, candidate)
	}
}
