// Package scrape is a source without a Prometheus: it reads the /metrics of
// the deployments themselves.
//
//	sources:
//	  pods:
//	    scrape:
//	      targets:
//	        recs:
//	          blue: ["http://10.0.0.1:9100/metrics", "http://10.0.0.2:9100/metrics"]
//	          green: ["dns+http://green.recs.svc:9100/metrics"]
//
//	metrics:
//	  failures:
//	    source: pods
//	    counts: {total: 'http_requests_total', bad: 'http_requests_total{code=~"5..|424|408"}', deployment: deployment}
//	  latency:
//	    source: pods
//	    histogram: {series: http_request_duration_seconds, unit: s, deployment: deployment}
//
// The rules:
//   - Every endpoint lists, by deployment, the addresses of its instances: URLs,
//     or dns+http://name:port/metrics, whose name is resolved before every scrape
//     and stands for all its addresses. Certificates name hosts, not addresses,
//     so there is no dns+https.
//   - A metric's expressions are plain selectors, name{label="x",code=~"5..|424"};
//     a value's may be wrapped in max(…), min(…), sum(…) or avg(…). The
//     deployment is known from the target; where a series carries the metric's
//     deployment label nonetheless, it belongs to the deployment it names (one
//     exporter may speak for several).
//   - A series that would count for both deployments is an error. A counter is the
//     same with _total given or not.
//   - A target is scraped when it is asked about, once for everybody who asks
//     about the same instant. A scrape made within two seconds after the instant asked
//     for is stamped with that instant. A target whose exposition carries timestamps of its
//     own that are more than five minutes old gives nothing new: it is not fresh.
//   - It cannot look back. The samples of the last minutes are kept, of the
//     metrics that are being asked for and no others. The first reading of a
//     metric is empty (From equals To), and one that reaches back to before the first
//     scrape says so in From.
//   - A deployment none of whose targets gives the series is not fresh. A target
//     that does not answer, answers nonsense or too much makes the whole reading an
//     error: part of a deployment is not the deployment.
//   - Text, OpenMetrics and protobuf are read, native histograms by protobuf.
//     A counter that says when it was created counts from zero at its first
//     sample, if it is young; another one counts from its second.
//
// The source uses the HTTP client it is given for everything, and never says
// more of a target than its host and port: paths, parameters and user names may be secret.
// It does not discover targets, and it does not store anything on disk.
package scrape

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/series"
)

// Config says what to scrape.
type Config struct {
	// Targets are the URLs of the instances by endpoint and deployment.
	Targets map[string]map[string][]string `yaml:"targets" required:"true" doc:"Addresses by endpoint and deployment."`
	// Timeout bounds one scrape; 5 s when zero.
	Timeout time.Duration `yaml:"timeout" default:"5s" doc:"Bound of one scrape."`
	// Client makes the requests; it is required and stays the caller's.
	Client *http.Client
	// MaxBytes bounds one answer after decompression; 16 MiB when zero.
	MaxBytes int64
	// MaxSeries bounds the series kept of one target; 5,000 when zero.
	MaxSeries int
	// Parallel is the number of scrapes under way at a time; 16 when zero.
	Parallel int
	// LookupHost resolves the names of dns+http targets; the system's resolver
	// when nil.
	LookupHost func(ctx context.Context, host string) ([]string, error)
}

const (
	// keep is how long samples stay in memory, and keepScrapes how many.
	keep        = 15 * time.Minute
	keepScrapes = 256
	// slack is how late a scrape may be and still stand for the instant asked for.
	slack = 2 * time.Second
)

// Source reads /metrics. It is safe for concurrent use.
type Source struct {
	cfg Config

	mu      sync.Mutex
	targets map[string]*target
}

var _ analysis.Source = (*Source)(nil)

// New returns a source. It starts nothing and asks nobody.
func New(cfg Config) (*Source, error) {
	if cfg.Client == nil {
		return nil, errors.New("new scrape source: no HTTP client")
	}
	for _, endpoint := range slices.Sorted(maps.Keys(cfg.Targets)) {
		for _, deployment := range slices.Sorted(maps.Keys(cfg.Targets[endpoint])) {
			urls := cfg.Targets[endpoint][deployment]
			if len(urls) == 0 {
				return nil, fmt.Errorf("new scrape source: targets.%s.%s: no address", endpoint, deployment)
			}
			for i, u := range urls {
				if _, err := parseTarget(u); err != nil {
					return nil, fmt.Errorf("new scrape source: targets.%s.%s[%d]: %w", endpoint, deployment, i, err)
				}
			}
		}
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 16<<20)
	cfg.MaxSeries = cmp.Or(cfg.MaxSeries, 5_000)
	cfg.Parallel = cmp.Or(cfg.Parallel, 16)
	if cfg.LookupHost == nil {
		cfg.LookupHost = net.DefaultResolver.LookupHost
	}
	return &Source{cfg: cfg, targets: map[string]*target{}}, nil
}

// Read scrapes the targets of the questions' endpoints, each at most once, and
// answers from what was seen. Its error is the context's.
func (s *Source) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	now := time.Now()
	asks := make([]ask, len(qs))
	var stamp time.Time
	for i, q := range qs {
		asks[i] = newAsk(q)
		if t := stampFor(q.To, now); t.After(stamp) {
			stamp = t
		}
	}
	all := s.scrapeAll(ctx, asks, stamp.UnixMilli())
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	out := make([]analysis.Reading, len(qs))
	for i := range asks {
		out[i] = s.answer(&asks[i], all)
	}
	return out, nil
}

// stampFor is the instant that a scrape made now stands for.
func stampFor(to, now time.Time) time.Time {
	if to.After(now) || now.Sub(to) > slack {
		return now
	}
	return to
}

// place is one deployment of one endpoint.
type place struct{ endpoint, deployment string }

// seen is what the targets of a place gave.
type seen struct {
	snaps []snapshot
	err   error
}

// scrapeAll scrapes the targets of all places that are asked about.
func (s *Source) scrapeAll(ctx context.Context, asks []ask, stamp int64) map[place]*seen {
	names := map[place]map[string]bool{}
	for _, a := range asks {
		for _, d := range a.deployments() {
			p := place{a.q.Names.Endpoint, d}
			if names[p] == nil {
				names[p] = map[string]bool{}
			}
			for _, n := range a.names() {
				names[p][n] = true
			}
		}
	}
	all := make(map[place]*seen, len(names))
	free := make(chan struct{}, s.cfg.Parallel)
	var wg sync.WaitGroup
	for p, want := range names {
		x := &seen{}
		all[p] = x
		wg.Go(func() { s.scrapePlace(ctx, p, want, stamp, free, x) })
	}
	wg.Wait()
	return all
}

// scrapePlace scrapes the targets of one deployment, in parallel.
func (s *Source) scrapePlace(
	ctx context.Context, p place, want map[string]bool, stamp int64, free chan struct{}, x *seen,
) {
	as, err := s.addresses(ctx, p)
	if err != nil {
		x.err = err
		return
	}
	x.snaps = make([]snapshot, len(as))
	errs := make([]error, len(as))
	var wg sync.WaitGroup
	for i, a := range as {
		t := s.target(a)
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			x.snaps[i], errs[i] = t.at(ctx, s.cfg, stamp, want)
		})
	}
	wg.Wait()
	bad := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(bad) > 0 {
		x.err = fmt.Errorf("%d of %d targets of %s gave no answer: %w", len(bad), len(as), p.deployment, bad[0])
	}
}

// target is the memory of one address.
func (s *Source) target(a address) *target {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.targets[a.url]
	if t == nil {
		t = newTarget(a)
		s.targets[a.url] = t
	}
	t.asked = time.Now()
	if len(s.targets) > 64 {
		s.forget()
	}
	return t
}

// forget drops the targets that nobody asked about for long: addresses that a
// name no longer has. The lock is held.
func (s *Source) forget() {
	for k, t := range s.targets {
		if time.Since(t.asked) > keep {
			delete(s.targets, k)
		}
	}
}

// answer makes the reading of one question from what its places gave.
func (s *Source) answer(a *ask, all map[place]*seen) analysis.Reading {
	if a.err != nil {
		return analysis.FailedReading(a.q, a.err)
	}
	var snaps []snapshot
	for _, d := range a.deployments() {
		x := all[place{a.q.Names.Endpoint, d}]
		if x.err != nil {
			return analysis.FailedReading(a.q, x.err)
		}
		snaps = append(snaps, x.snaps...)
	}
	from, to := interval(a.q, snaps)
	r := analysis.Reading{Metric: a.q.Metric.Name, From: from, To: to, Status: analysis.StatusOK, Next: to.Add(slack)}
	var sets [2][][]*series.Series
	for i, d := range a.deployments() {
		var err error
		if sets[i], err = a.sets(d, all[place{a.q.Names.Endpoint, d}].snaps); err != nil {
			return analysis.FailedReading(a.q, fmt.Errorf("%s: %w", d, err))
		}
		if !a.counters() {
			continue
		}
		if err = series.Counters(slices.Concat(sets[i]...)); err != nil {
			return analysis.FailedReading(a.q, err)
		}
	}
	for i := range sets[1] {
		if err := series.Shared(sets[0][i], sets[1][i], [2]string{a.q.Names.Stable, a.q.Names.Candidate}); err != nil {
			return analysis.FailedReading(a.q, err)
		}
	}
	for i, d := range a.deployments() {
		x, err := a.sample(sets[i], all[place{a.q.Names.Endpoint, d}].snaps, from, to)
		if err != nil {
			return analysis.FailedReading(a.q, fmt.Errorf("%s: %w", d, err))
		}
		if d == a.q.Names.Stable {
			r.Stable = x
		}
		if d == a.q.Names.Candidate {
			r.Candidate = x
		}
		if !x.Fresh && r.Reason == "" {
			r.Reason = fmt.Sprintf("no target of %s gives %s", d, strings.Join(a.names(), " or "))
		}
	}
	return r
}

// interval is the part of the question's interval that was seen: from the first
// scrape of all targets to the last. It is empty the first time. Addresses that
// come and go under one name do not begin it anew.
func interval(q analysis.Query, snaps []snapshot) (from, to time.Time) {
	var since, come int64
	last := q.To.UnixMilli()
	for _, x := range snaps {
		last = min(last, x.lastBy(q.To.UnixMilli()))
		since = max(since, x.floor)
		switch {
		case !x.dynamic:
			since = max(since, x.since)
		case come == 0 || x.since < come:
			come = x.since
		}
	}
	from, to = q.From, q.To
	if t := time.UnixMilli(max(since, come)).UTC(); t.After(from) {
		from = t
	}
	if t := time.UnixMilli(last).UTC(); t.Before(to) {
		to = t
	}
	if from.After(q.To) {
		from = q.To
	}
	if to.Before(from) {
		to = from
	}
	return from, to
}
