// Package azuremonitor is a source that reads the platform metrics of Azure
// ML's online endpoints: one figure a minute, without a diagnostic setting. It
// is a tripwire and an estimate of the traffic, not a basis for statistics.
//
//	sources:
//	  azure: {azuremonitor: {region: westeurope, subscription: …, resourceGroup: ml-prod, workspace: recommendations}}
//
// A metric's expressions are selectors of a platform metric by its dimensions,
// with = != =~ and !~. RequestsPerMinute has deployment, statusCode,
// statusCodeClass and modelStatusCode; RequestLatency and RequestLatency_P50,
// _P90, _P95 and _P99 have deployment:
//
//	failures:
//	  counts:
//	    total: RequestsPerMinute
//	    bad: 'RequestsPerMinute{statusCode=~"5..|408|424"}'
//	    deployment: deployment
//	slow:
//	  value: {query: 'RequestLatency_P95{deployment="${deployment}"}'}   # milliseconds
//	cpu:
//	  value: {query: 'max(CpuUtilizationPercentage{instanceId=~".+"})'}  # of the busiest instance
//
// Deployments have metrics of their own, read from the deployment itself:
// CpuUtilizationPercentage, CpuMemoryUtilizationPercentage,
// GpuUtilizationPercentage, GpuMemoryUtilizationPercentage and GpuEnergyJoules by
// instanceId, DiskUtilization by instanceId and disk, and DeploymentCapacity, the number of
// instances, by instanceId and State. Where a matcher names a dimension, max(…),
// min(…), avg(…) or sum(…) makes one number of the series.
//
// The rules:
//   - Counts are sums of per-minute averages, the only form in which the service gives them.
//   - A value is the mean of the interval's minutes, all weighted alike. The mean of per-minute
//     p95s is not a p95: use it with a threshold, never as a quantile. There are
//     no histograms and no means.
//   - A minute is only read when Lag has gone by since its end; the interval is
//     whole minutes. A minute that the service says nothing about is not zero: a
//     deployment of which it says nothing at all is not fresh.
//   - Up to 50 endpoints of one workspace are one request, by the batch API, which does not
//     spend the subscription's quota of management reads.
//   - The service cuts series off in silence at `top`, which is 10 by itself:
//     it is always set, and an answer with that many series is an error.
//
// The endpoint is the rollout's, in the configured workspace. The identity
// needs Microsoft.Insights/metrics/read on the subscription.
package azuremonitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/azure"
	"github.com/belayd/belay/analysis/promql"
)

// DefaultLag is how long a minute's figure may take to arrive, where the configuration does not say.
const DefaultLag = 3 * time.Minute

// Config says whose metrics to read.
type Config struct {
	// Region is where the workspace is: westeurope.
	Region string `yaml:"region" required:"true" doc:"Where the workspace is: westeurope."`
	// Subscription, ResourceGroup and Workspace name the Azure ML workspace whose
	// endpoints are rolled out.
	Subscription  string `yaml:"subscription" doc:"The subscription's id; that of the azureml routers when missing."`
	ResourceGroup string `yaml:"resourceGroup" doc:"The workspace's resource group; that of the azureml routers when missing."`
	Workspace     string `yaml:"workspace" doc:"The Azure ML workspace; that of the azureml routers when missing."`
	// Credential gives tokens for Audience; it is required.
	Credential azcore.TokenCredential
	// Client makes the requests; it is required and stays the caller's.
	Client *http.Client
	// Endpoint and Audience are the service's; by default
	// https://<region>.metrics.monitor.azure.com and
	// https://metrics.monitor.azure.com.
	Endpoint string `yaml:"endpoint" doc:"The service's address, where it is not the cloud's."`
	Audience string `yaml:"audience" doc:"The token's audience, where it is not the cloud's."`
	// Lag is how long a minute's figure may take to arrive; 3 min when zero.
	Lag time.Duration `yaml:"lag" doc:"How long a minute's figure may take to arrive; 3m when missing."`
	// MaxLookback bounds the length of an interval; 6 h when zero.
	MaxLookback time.Duration
	// Timeout bounds one request, retries included; 30 s when zero.
	Timeout time.Duration
	// MaxBytes bounds one answer; 16 MiB when zero.
	MaxBytes int64
	// Parallel is how many requests are under way for one Read; 4 when zero.
	Parallel int
}

const (
	namespace = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
	// ofDeployments is what the metrics of deployments are found under.
	ofDeployments = namespace + "/deployments"
	version       = "2024-02-01"
	// batch is how many resources the service takes at once.
	batch = 50
	// top is how many series of a resource are asked for.
	top = 1000
)

// Source reads one workspace's endpoints. It is safe for concurrent use.
type Source struct {
	cfg    Config
	client *azure.Client
	base   *url.URL
}

var _ analysis.Source = (*Source)(nil)

var (
	guid = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	name = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.()-]{0,88}[A-Za-z0-9_()-])?$`)
)

// New returns a source. It starts nothing and asks nobody.
func New(cfg Config) (*Source, error) {
	switch {
	case !guid.MatchString(cfg.Subscription):
		return nil, errors.New("new azuremonitor source: subscription: a GUID is wanted")
	case !name.MatchString(cfg.ResourceGroup):
		return nil, errors.New("new azuremonitor source: resourceGroup: the name of a resource group is wanted")
	case !name.MatchString(cfg.Workspace):
		return nil, errors.New("new azuremonitor source: workspace: the name of a workspace is wanted")
	case cfg.Endpoint == "" && !regexp.MustCompile(`^[a-z0-9]+$`).MatchString(cfg.Region):
		return nil, errors.New("new azuremonitor source: region: a region such as westeurope is wanted")
	}
	cfg.Endpoint = cmp.Or(cfg.Endpoint, "https://"+cfg.Region+".metrics.monitor.azure.com")
	cfg.Audience = cmp.Or(cfg.Audience, "https://metrics.monitor.azure.com")
	cfg.Lag = cmp.Or(cfg.Lag, DefaultLag)
	cfg.MaxLookback = cmp.Or(cfg.MaxLookback, 6*time.Hour)
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 16<<20)
	cfg.Parallel = cmp.Or(cfg.Parallel, 4)
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("new azuremonitor source: endpoint: an https address is wanted")
	}
	client, err := azure.New(azure.Config{
		Audience: cfg.Audience, Credential: cfg.Credential, Client: cfg.Client, Timeout: cfg.Timeout,
		MaxBytes: cfg.MaxBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("new azuremonitor source: %w", err)
	}
	return &Source{cfg: cfg, client: client, base: u}, nil
}

// Read asks one request for up to 50 endpoints. Its error is the context's.
func (s *Source) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	now := time.Now()
	asks := map[string]*ask{}
	var order []*ask
	questions := make([]*question, len(qs))
	for i, q := range qs {
		x := newQuestion(q)
		x.from, x.to = s.bounds(q.From, q.To, now)
		questions[i] = x
		if x.err != nil || !x.to.After(x.from) {
			continue
		}
		for j := range x.terms {
			t := &x.terms[j]
			key := strings.Join([]string{t.selector.Name, strings.Join(t.dimensions, ","), x.from.String(),
				x.to.String()}, "\xff")
			for _, d := range []string{x.Names.Stable, x.Names.Candidate} {
				id := s.resource(t, x.Names.Endpoint, d)
				a := asks[key]
				if a == nil || (len(a.resources) == batch && !slices.Contains(a.resources, id)) {
					a = &ask{metric: t.selector.Name, namespace: t.namespace, dimensions: t.dimensions, from: x.from,
						to: x.to}
					asks[key] = a
					order = append(order, a)
				}
				if !slices.Contains(a.resources, id) {
					a.resources = append(a.resources, id)
				}
				t.asks[id] = a
			}
		}
	}
	s.run(ctx, order)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("azuremonitor: %w", err)
	}
	out := make([]analysis.Reading, len(qs))
	for i, x := range questions {
		out[i] = s.answer(x)
	}
	return out, nil
}

// bounds are the whole minutes of the interval whose figures have surely
// arrived.
func (s *Source) bounds(from, to, now time.Time) (time.Time, time.Time) {
	if t := now.Add(-s.cfg.Lag); t.Before(to) {
		to = t
	}
	to = to.Truncate(time.Minute)
	if t := to.Add(-s.cfg.MaxLookback); from.Before(t) {
		from = t
	}
	begin := from.Truncate(time.Minute)
	if begin.Before(from) {
		begin = begin.Add(time.Minute)
	}
	if !to.After(begin) {
		return from, from
	}
	return begin, to
}

// run makes the requests, some at a time.
func (s *Source) run(ctx context.Context, asks []*ask) {
	free := make(chan struct{}, s.cfg.Parallel)
	var wg sync.WaitGroup
	for _, a := range asks {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			a.found, a.err = s.get(ctx, a)
		})
	}
	wg.Wait()
}

// A question is a query taken apart.
type question struct {
	analysis.Query
	err      error
	from, to time.Time
	label    string
	// terms are the total and the marked, or the value; ${deployment} stands in
	// their selectors.
	terms []term
}

// A term is a selector and the request that answers it.
type term struct {
	selector   promql.Selector
	dimensions []string
	namespace  string
	// fold makes one number of several series of a value.
	fold string
	// asks are by the resource that is asked about.
	asks map[string]*ask
}

// errRate: what the service says nothing of did not happen, or was not measured.
var errRate = errors.New("per: where nothing happens this source shows nothing: use prometheus, scrape or httpjson")

// own matches the metrics that deployments have and endpoints do not.
var own = regexp.MustCompile(`^(?i:cpu|gpu|diskutilization$|deploymentcapacity$)`)

var endpointName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,62}$`)

func newQuestion(q analysis.Query) *question {
	x := &question{Query: q.Named()}
	if err := x.parse(); err != nil {
		x.err = analysis.Permanent(fmt.Errorf("metric %s: %w", q.Metric.Name, err))
	}
	return x
}

// parse takes the question's expressions apart.
func (x *question) parse() error {
	var texts []string
	m := x.Metric
	switch {
	case !endpointName.MatchString(x.Names.Endpoint):
		return fmt.Errorf("%q is not the name of an online endpoint", x.Names.Endpoint)
	case m.Rate():
		return errRate
	case m.Counts != nil:
		texts, x.label = []string{m.Counts.Total, cmp.Or(m.Counts.Bad, m.Counts.Good)}, m.Counts.Deployment
	case m.Value != nil:
		texts = []string{m.Value.Query}
	case m.Kind() == "":
		return errors.New("it asks for nothing")
	default:
		return fmt.Errorf("one figure a minute is all that Azure Monitor has, and no %s: use Log Analytics", m.Kind())
	}
	for _, text := range texts {
		t, err := x.term(text)
		if err != nil {
			return err
		}
		x.terms = append(x.terms, t)
	}
	return nil
}

func (x *question) term(text string) (term, error) {
	t := term{namespace: namespace, asks: map[string]*ask{}}
	if x.Metric.Value != nil {
		t.fold, text = promql.Fold(text)
	}
	sel, err := promql.ParseSelector(text)
	if err != nil {
		return term{}, err
	}
	if _, err := sel.Expand(x.Vars(x.Names.Stable)); err != nil {
		return term{}, err
	}
	if own.MatchString(sel.Name) {
		t.namespace = ofDeployments
		if x.Metric.Value == nil {
			return term{}, fmt.Errorf("%s is a figure of a deployment: it can only be the query of a value", sel.Name)
		}
	} else if x.label == "" && !analysis.NamesDeployment(sel.Uses) {
		return term{}, errors.New(`deployment="${deployment}", or ${role} or ${version}, is missing`)
	}
	t.selector = sel
	for _, m := range sel.Matchers {
		t.dimensions = append(t.dimensions, m.Name)
	}
	if x.label != "" {
		t.dimensions = append(t.dimensions, x.label)
	}
	slices.Sort(t.dimensions)
	t.dimensions = slices.Compact(t.dimensions)
	return t, nil
}
