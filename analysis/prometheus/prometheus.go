// Package prometheus is a source that asks a Prometheus, or a server that
// speaks its query API: Thanos, Mimir, VictoriaMetrics, Azure Managed Prometheus.
//
//		sources:
//		  prom:
//		    prometheus:
//		      url: http://127.0.0.1:9090
//		      scrapeInterval: 15s                                  # seen in the samples when missing
//		      dialect: metricsql                                   # VictoriaMetrics: promql when missing
//		      http: {authorization: {credentials_file: /etc/belay/prometheus-token}}
//
//		metrics:
//		  failures:
//		    source: prom
//		    counts:
//		      total: 'http_requests_total{endpoint="${endpoint}"}'
//		      bad: 'http_requests_total{endpoint="${endpoint}",code=~"5..|424|408"}'
//		      deployment: deployment
//		      instance: instance
//		  latency:
//		    source: prom
//	    histogram: {series: 'http_request_duration_seconds{endpoint="${endpoint}"}', unit: s,
//
// deployment: deployment, instance: instance}
//
//	cpu:
//	  source: prom
//	  value: {query: 'max(container_cpu_usage{deployment="${deployment}"})'}
//
// The rules:
//   - Counters, histograms and means are selectors, name{label="x"}, never
//     expressions. They are read as raw samples, by an instant query of a bare
//     range selector, and differenced here, series by series, with true
//     timestamps; increase() and rate() extrapolate and are not exact. A value
//     is any expression that gives one number for a deployment.
//   - Questions are merged: endpoint="${endpoint}", or "${endpoint}-x", becomes one matcher
//     over many endpoints, and where no endpoint is named, deployment="${deployment}" or
//     =~"${stable}|${candidate}" one over many deployments; a bad series that is a part of
//
// its total is picked out of the
//
//	  total's answer, and of a histogram only the buckets next to the cuts are
//	  asked for. Answers are handed out by labels. What is under way is not asked
//	  again, and what does not fit into one answer is asked in halves.
//	- A reading ends where the data ends: at the newest instant that all live series
//	  of both deployments have reached. A series that has missed a sample is asked
//	  about: the server says whether it has ended. One that has not is waited for
//	  as long as such series took to come before, at first three scrape intervals and
//	  1 s; what comes later still counts when it comes, from the last sample
//	  that was counted. The scrape interval is seen in the timestamps.
//	- Between two samples further apart than five minutes (or four scrape
//	  intervals) nothing is counted. A deployment without a sample for three
//	  scrape intervals is not fresh.
//	- Series are told from missing ones by the labels job and instance. A new series
//	  counts from its second sample unless its birth is proved: its target
//	  was scraped without it just before, and other series of the target went on. One
//	  without an instance label never is.
//	- What no counter does is an error that names its cause: one that falls at every
//	  other scrape (several workers behind one port, or a gauge), the same counter
//	  read by two servers, one series that counts for both deployments, a
//	  histogram whose name and bounds contradict its unit.
//	- Warnings, an answer that is partial, too large, no JSON, cut off, or from
//	  a server whose clock is more than 30 s off, and numbers that are NaN,
//	  infinite or negative make the reading an error.
//	- ${window} in a value's expression is the interval asked for, or four
//	  scrape intervals if that is longer.
//	- What its targets declare a gauge is no counter: that is asked once an hour, and a
//	  server that does not tell types refuses nothing.
//
// What differs between servers, each row with a test (TestDialects, TestReal…) and
// the reference that its answers were written from:
//
//	said or done                                  taken as                        reference
//
// infos                                         remarks, passed over
// prometheus.io/docs/prometheus/latest/querying/api
// "PromQL info: …" among the warnings           remarks, passed over            Prometheus
// 2.48 to 2.53, util/annotations
//
//	"PromQL warning: …" among the warnings        an error of the query           the same
//
// any other warning                             a partial answer: an error
// thanos.io/tip/components/query.md, partial response
// isPartial: true                               a partial answer: an error
// docs.victoriametrics.com, cluster availability
//
//	M3-Results-Limited, a header                  a partial answer: an error      m3db.io/docs, resource limits
//	application/stream+json for raw samples       JSON                            VictoriaMetrics 1.79 (tried)
//	one NaN between raw samples, or at their end  a marker, which ends a series   VictoriaMetrics before 1.107
//	NaN again and again                           an error                        -
//	no query found in a POST; 403, 405, 501       GET is tried, and kept          Prometheus' and VictoriaMetrics' words
//	414, 431                                      asked in halves                 RFC 9110, RFC 6585
//	a tenant's header, missing                    an error; http_headers sends it grafana.com/docs/mimir, X-Scope-OrgID
//	name and name_total                           either finds the other          OpenMetrics 1.0, counters
//	name and name_bucket, of a histogram          the same                        -
//	quoted names refused                          an error that says the cure     Prometheus before 3.0
//	range selectors closed or open on the left    more is asked for than is used  Prometheus 2 and 3
//
// A pair of Prometheus servers that both write to one store counts everything
// twice unless the store merges them: Thanos does with dedup=true (its default),
// Mimir with its HA tracker, VictoriaMetrics with -dedup.minScrapeInterval, which
// may be at most as long as the scrape interval. Such a pair is an error where its
// samples show it. Azure Managed Prometheus takes questions with exactly one
// metric name, which is all that this package asks.
//
// Native histograms are read as they are; where a deployment has classic buckets
// as well, those are used. Of a native histogram with custom bounds only the
// bounds of buckets that hold something are known.
//
// The package writes nothing and keeps no cursor. It remembers scrape intervals and
// bucket bounds, which saves questions, and up to which sample each series was
// counted, so that late ones count: after a restart it counts from the cursor.
package prometheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
)

// Config says how to ask.
type Config struct {
	// URL is the server's, without /api/v1/query.
	URL string `yaml:"url" required:"true" doc:"Its address, without /api/v1."`
	// Client makes the requests: its transport carries credentials and TLS. It is
	// required and stays the caller's.
	Client *http.Client
	// Timeout bounds one request; 30 s when zero.
	Timeout time.Duration `yaml:"timeout" default:"10s" doc:"Bound of one request."`
	// ScrapeInterval is the longest scrape interval of the metrics; it is taken from the
	// samples when zero.
	ScrapeInterval time.Duration `yaml:"scrapeInterval" doc:"The longest scrape interval of the metrics; read from the samples when missing."`
	// Lag is the least age of what is read, where the source is known to correct its
	// samples afterwards. Without it a reading ends where the data does.
	Lag time.Duration `yaml:"lag" doc:"The least age of what is read, for a source that corrects its samples; without it a reading ends where the data ends."`
	// MaxBytes bounds one answer; 64 MiB when zero.
	MaxBytes int64
	// MaxSeries bounds the series of one answer; 100,000 when zero.
	MaxSeries int
	// MaxLookback bounds how far back is asked; 1 h when zero. A reading that
	// begins later than its question says so in From.
	MaxLookback time.Duration
	// Chunk is how many endpoints one request names; 200 when zero.
	Chunk int
	// Parallel is how many requests are under way for one Read; 4 when zero.
	Parallel int
	// MetricsQL: expressions that Prometheus' parser does not read are sent as they
	// are, with plain names only put in.
	MetricsQL bool
	// Get asks by GET from the first. A server or a proxy that takes no POST, or
	// drops its body, is found out and asked by GET without it.
	Get bool
	// Params are added to every request.
	Params url.Values
}

const (
	// minGap is the least time over which a counter is carried.
	minGap = 5 * time.Minute
	// scraping is how long after its timestamp a sample can be read, where nothing is late.
	scraping = 500 * time.Millisecond
	// guess is the scrape interval as long as no series has two samples.
	guess = time.Minute
)

// Source asks one server. It is safe for concurrent use.
type Source struct {
	cfg     Config
	api     *api
	layouts *layouts
	ledger  *ledger
	types   types

	mu sync.Mutex
	// steps are the scrape intervals that were seen, by metric name.
	steps map[string]time.Duration
	// chunks are how many endpoints fit into one answer, by metric name, where
	// that is fewer than the configuration says.
	chunks map[string]int
	// stored are the names that the server has for counters whose _total is written
	// otherwise, sought when such a name was last looked for.
	stored map[string]string
	sought map[string]time.Time
}

var _ analysis.Source = (*Source)(nil)

// New returns a source. It starts nothing and asks nobody.
func New(cfg Config) (*Source, error) {
	if cfg.Client == nil {
		return nil, errors.New("new prometheus source: no HTTP client")
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("new prometheus source: url: an http or https address is wanted")
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 64<<20)
	cfg.MaxSeries = cmp.Or(cfg.MaxSeries, 100_000)
	cfg.MaxLookback = cmp.Or(cfg.MaxLookback, time.Hour)
	cfg.Chunk = cmp.Or(cfg.Chunk, 200)
	cfg.Parallel = cmp.Or(cfg.Parallel, 4)
	return &Source{
		cfg:     cfg,
		api:     &api{cfg: cfg, base: u.JoinPath("api/v1/query"), flying: map[string]*flight{}},
		layouts: newLayouts(),
		ledger:  newLedger(),
		steps:   map[string]time.Duration{},
		chunks:  map[string]int{},
		stored:  map[string]string{},
		sought:  map[string]time.Time{},
	}, nil
}

// Read asks all questions in as few requests as it can. Its error is the
// context's.
func (s *Source) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	now := time.Now()
	b := &batch{s: s, now: now, groups: map[string]*group{}}
	cache := selectorCache{}
	for i := range qs {
		x := newQuestion(qs[i], s.cfg.MaxLookback, cache)
		if x.err == nil && x.Metric.Value == nil {
			x.id = s.ledger.question(x)
			x.counted = s.ledger.find(x.id, x.From)
		}
		b.questions = append(b.questions, x)
	}
	b.findLayouts(ctx)
	b.merge()
	b.fetch(ctx, b.requests(nil))
	if others := b.otherNames(); len(others) > 0 {
		b.fetch(ctx, others)
	}
	b.learn()
	b.pictures()
	b.markers(ctx)
	if more := b.lacking(); len(more) > 0 {
		b.fetch(ctx, b.requests(more))
		b.learn()
	}
	b.values(ctx)
	b.gauges(ctx)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	out := make([]analysis.Reading, len(qs))
	for i, q := range b.questions {
		out[i] = b.answer(q)
	}
	return out, nil
}

// step is the scrape interval of a metric; known is false where it is a guess.
func (s *Source) step(name string) (d time.Duration, known bool) {
	if s.cfg.ScrapeInterval > 0 {
		return s.cfg.ScrapeInterval, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.steps[name]; ok {
		return d, true
	}
	return guess, false
}

// learnStep remembers the scrape interval of a metric.
func (s *Source) learnStep(name string, d time.Duration) {
	const most = 10_000
	if d <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.steps) >= most {
		clear(s.steps)
	}
	s.steps[name] = d
}

// chunk is how many endpoints one request for the metric names.
func (s *Source) chunk(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.chunks[name], s.cfg.Chunk)
}

// shrink halves the chunk: n endpoints were too many for one answer.
func (s *Source) shrink(name string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.chunks[name]; now == 0 || n/2 < now {
		s.chunks[name] = max(n/2, 1)
	}
}

// gap is the longest time over which a counter is carried.
func gap(step time.Duration) time.Duration { return max(minGap, 4*step) }

// stale is how old a deployment's newest sample may be.
func stale(step time.Duration) time.Duration { return 3*step + time.Second }
