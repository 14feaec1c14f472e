// Package loganalytics is a source that counts log rows in an Azure Log
// Analytics workspace: AmlOnlineEndpointTrafficLog of Azure ML's managed
// endpoints, the tables of Application Insights, or any other with TimeGenerated.
//
//	sources:
//	  logs: {loganalytics: {workspace: 01234567-89ab-cdef-0123-456789abcdef}}
//
// A metric's expressions are KQL:
//   - A total, a mean's count and a histogram's rows are tabular expressions
//     whose rows are the events: a table and its filters, with the condition
//     `| where COLUMN =~ "${endpoint}"` (or ==) as a stage of its own, by which
//     questions of many endpoints become one. They must keep TimeGenerated.
//   - bad and good are the total's expression with one or more `| where` added, or a
//     predicate on its rows alone; a mean's sum and sumOfSquares are numbers made
//     of one row.
//   - A histogram's series ends in `| extend value = LATENCY`, a number made of one row.
//   - deployment and instance name a column, or are an expression; deployments are
//     compared without regard to case, as Azure does.
//   - A value's query is a whole query that gives one row with one number. It
//     may use belay_from and belay_to, the bounds of the interval.
//
// The metrics of Azure ML's managed endpoints, where 424 is a failing model and
// 408 its time-out; 429 says that there are too few instances:
//
//		failures:
//		  counts:
//		    total: 'AmlOnlineEndpointTrafficLog | where EndpointName =~ "${endpoint}"'
//	    bad: 'AmlOnlineEndpointTrafficLog | where EndpointName =~ "${endpoint}" | where
//
// ResponseCode >= 500 or ResponseCode in (408, 424)'
//
//	    deployment: DeploymentName
//	saturation:
//	  counts: {total: …, bad: 'ResponseCode == 429', deployment: DeploymentName}
//	latency:
//	  histogram:
//	    series: 'AmlOnlineEndpointTrafficLog | where EndpointName =~ "${endpoint}" | extend value = TotalDurationMs'
//	    unit: ms
//	    deployment: DeploymentName
//
// (subtract RequestThrottlingDelayMs and ResponseThrottlingDelayMs where a full bandwidth must
// not blame the model)
// and a business figure out of workspace-based Application Insights:
//
//	revenue:
//	  mean:
//	    count: 'AppEvents | where Name == "order" | where tostring(Properties.endpoint) == "${endpoint}"'
//	    sum: 'todouble(Measurements.amount)'
//	    sumOfSquares: 'todouble(Measurements.amount) * todouble(Measurements.amount)'
//	    deployment: tostring(Properties.deployment)
//
// The rules:
//   - Counts are exact, and so are latencies at the cuts: rows are compared
//     with the cut itself. percentile() is an estimate and is never used.
//   - All questions about the same rows and the same interval are one query,
//     over up to 200 endpoints; names go in as a declared query parameter.
//   - Rows arrive late, in 3 to 10 minutes: the interval ends Lag before now, at a whole
//     Step. Nothing is asked until a step is over.
//   - Logs do not tell an idle deployment from one that is gone: a deployment is fresh while it
//     has a row in the last FreshWithin of the interval.
//   - A partial answer (200 with an error), a table that is too long, a number
//     that is none are errors. 429 is retried twice at most, and heeded.
//
// The identity needs a role like Log Analytics Reader on the workspace. A new diagnostic
// setting takes up to an hour to bring its first rows.
package loganalytics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/azure"
)

// DefaultLag is how long rows may take to arrive, where the configuration does not say.
const DefaultLag = 10 * time.Minute

// Config says which workspace to ask.
type Config struct {
	// Workspace is the workspace's id, a GUID.
	Workspace string `yaml:"workspace" required:"true" doc:"The workspace's id, a GUID."`
	// Credential gives tokens for Audience; it is required.
	Credential azcore.TokenCredential
	// Client makes the requests; it is required and stays the caller's.
	Client *http.Client
	// Endpoint and Audience are the service's; https://api.loganalytics.io when
	// empty.
	Endpoint string `yaml:"endpoint" doc:"The service's address, where it is not the cloud's."`
	Audience string `yaml:"audience" doc:"The token's audience, where it is not the cloud's."`
	// Lag is how long rows may take to arrive; 10 min when zero.
	Lag time.Duration `yaml:"lag" doc:"How long rows may take to arrive; 10m when missing."`
	// Step is what intervals are multiples of; 1 min when zero.
	Step time.Duration
	// FreshWithin is how long ago a deployment's last row may be; 5 min when
	// zero.
	FreshWithin time.Duration
	// MaxLookback bounds the length of an interval; 6 h when zero.
	MaxLookback time.Duration
	// Timeout bounds one query, retries included; 60 s when zero.
	Timeout time.Duration
	// MaxBytes bounds one answer; 16 MiB when zero.
	MaxBytes int64
	// Parallel is how many queries are under way for one Read; 3 when zero. The
	// service allows one user five.
	Parallel int
}

// chunk is how many endpoints one query names.
const chunk = 200

// Source asks one workspace. It is safe for concurrent use.
type Source struct {
	cfg    Config
	client *azure.Client
	url    string
}

var _ analysis.Source = (*Source)(nil)

var guid = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

// New returns a source. It starts nothing and asks nobody.
func New(cfg Config) (*Source, error) {
	const public = "https://api.loganalytics.io"
	cfg.Endpoint, cfg.Audience = cmp.Or(cfg.Endpoint, public), cmp.Or(cfg.Audience, public)
	cfg.Lag = cmp.Or(cfg.Lag, DefaultLag)
	cfg.Step = cmp.Or(cfg.Step, time.Minute)
	cfg.FreshWithin = cmp.Or(cfg.FreshWithin, 5*time.Minute)
	cfg.MaxLookback = cmp.Or(cfg.MaxLookback, 6*time.Hour)
	cfg.Timeout = cmp.Or(cfg.Timeout, time.Minute)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 16<<20)
	cfg.Parallel = cmp.Or(cfg.Parallel, 3)
	if !guid.MatchString(cfg.Workspace) {
		return nil, errors.New("new loganalytics source: workspace: the workspace's id, a GUID, is wanted")
	}
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("new loganalytics source: endpoint: an https address is wanted")
	}
	client, err := azure.New(azure.Config{
		Audience: cfg.Audience, Credential: cfg.Credential, Client: cfg.Client, Timeout: cfg.Timeout,
		MaxBytes: cfg.MaxBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("new loganalytics source: %w", err)
	}
	return &Source{cfg: cfg, client: client, url: u.JoinPath("v1/workspaces", cfg.Workspace, "query").String()}, nil
}

// Read asks one query for all questions about the same rows. Its error is the
// context's.
func (s *Source) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	now := time.Now()
	b := &batch{queries: map[string]*query{}}
	questions := make([]*question, len(qs))
	for i, q := range qs {
		x := newQuestion(q)
		x.from, x.to = s.bounds(q.From, q.To, now)
		questions[i] = x
		if x.err == nil && x.to.After(x.from) {
			b.add(x, s.cfg.FreshWithin)
		}
	}
	s.run(ctx, b)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("loganalytics: %w", err)
	}
	out := make([]analysis.Reading, len(qs))
	for i, x := range questions {
		out[i] = x.answer()
	}
	return out, nil
}

// bounds are the part of the interval whose rows have surely arrived.
func (s *Source) bounds(from, to, now time.Time) (time.Time, time.Time) {
	if t := now.Add(-s.cfg.Lag); t.Before(to) {
		to = t
	}
	to = to.Truncate(s.cfg.Step)
	if t := to.Add(-s.cfg.MaxLookback); from.Before(t) {
		from = t
	}
	if to.Before(from) {
		to = from
	}
	return from, to
}

// run asks the batch's queries, some at a time.
func (s *Source) run(ctx context.Context, b *batch) {
	free := make(chan struct{}, s.cfg.Parallel)
	var wg sync.WaitGroup
	for _, q := range b.order {
		for _, part := range q.parts() {
			free <- struct{}{}
			wg.Go(func() {
				defer func() { <-free }()
				part.table, part.err = s.ask(ctx, part)
			})
		}
	}
	wg.Wait()
}

// ask sends one query.
func (s *Source) ask(ctx context.Context, p *part) (*table, error) {
	in := map[string]string{"query": p.text, "timespan": timespan(p.from, p.to)}
	wait := fmt.Sprintf("wait=%d", int(s.cfg.Timeout.Seconds()))
	var out response
	if err := s.client.Post(ctx, s.url, http.Header{"Prefer": {wait}}, in, &out); err != nil {
		return nil, err
	}
	return out.table()
}

// timespan is what the service looks through: a little more than is counted.
func timespan(from, to time.Time) string {
	const format = "2006-01-02T15:04:05.000Z"
	return from.Add(-time.Second).UTC().Format(format) + "/" + to.Add(time.Second).UTC().Format(format)
}
