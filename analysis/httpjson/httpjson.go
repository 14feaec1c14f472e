// Package httpjson is a source that asks anything that answers JSON over HTTP:
// a warehouse, a vendor's metrics API, a small service of one's own.
//
// The rules:
//   - The configuration holds the address and, for a POST, the body. Both are
//     templates: ${from} and ${to} (RFC 3339), ${fromUnix}, ${toUnix}, ${fromMillis} and
//     ${toMillis} bound the interval, from exclusive, to inclusive; ${query} is what the metric asks; ${endpoint},
//     ${stable}, ${candidate} and ${window} stand where they are
//     wanted. Values are escaped for the place; the host is never substituted.
//   - A metric's expression is `query -> path`, or a path alone, which takes the
//     configuration's query. A path, RFC 9535's, selects numbers in the answer:
//     $.rows[?@.deployment=="${deployment}"].n; if it may select several, it is
//     wrapped in sum(…), max(…), min(…) or last(…). A histogram's is
//     buckets(path, $.le, $.n): in each selected value, its inclusive upper bound
//     and the number of events between the bound before and it.
//   - The answer tells what happened in the interval: increments, not totals
//     since ever. The deployment stands in the expression, so a metric's label of the
//     deployment is not used, and instances are not told apart.
//   - A total that is not there is no data, a bad or good one that is not there is 0. Let the
//     server write 0 for a deployment that is known and idle.
//   - The interval ends Lag before now and on a multiple of Step, as far as data
//     are surely there; equal requests of one Read are made once. 429 and 503
//     with Retry-After are heeded.
//   - An answer in which a path of Partial selects something is a part or an error,
//     whatever its status.
//   - A redirect, an answer that is not JSON, one that is too large, a number
//     that is none or negative where events are counted: all are errors.
//
// Names are put into a query only if they consist of letters, digits and _.:/-,
// because its language is not known here. Credentials are the HTTP client's.
//
// Ready declarations and metrics for vendors are among the built-in ones: Datadog, New Relic, CloudWatch,
// Graphite, InfluxDB, Dynatrace, Google Cloud Monitoring, Loki, Elasticsearch.
//
// It makes no connection that its client does not allow: the guard against
// private addresses is the daemon's and looks at the address that is dialled.
package httpjson

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/fetch"
	"github.com/belayd/belay/analysis/jsonpath"
	"github.com/belayd/belay/analysis/template"
)

// DefaultLag is how long data may take to arrive, where the configuration does not say.
const DefaultLag = time.Minute

// Config says what to ask.
type Config struct {
	// URL is the address, a template; it may hold secrets.
	URL string `yaml:"url" required:"true" doc:"The address; ${endpoint} and the like are put in, escaped."`
	// Body is a JSON document, a template; where it is set, requests are POSTs.
	Body string `yaml:"body" doc:"A JSON document to post; likewise."`
	// Query is the query of expressions that name none.
	Query string `yaml:"query" doc:"The query of expressions that name none."`
	// Client makes the requests; it is required and stays the caller's. Its
	// redirects are not followed.
	Client *http.Client
	// Timeout bounds one request; 30 s when zero.
	Timeout time.Duration `yaml:"timeout" default:"10s" doc:"Bound of one request."`
	// Lag is how long data may take to arrive; 1 min when zero.
	Lag time.Duration `yaml:"lag" doc:"How long data may take to arrive; 1m when missing."`
	// Step is what intervals are multiples of; 1 s when zero. Set it to the
	// resolution of what is asked.
	Step time.Duration `yaml:"step" doc:"What intervals are multiples of; 1s when missing."`
	// MaxLookback bounds the length of an interval; 1 h when zero. Older data count as not
	// seen.
	MaxLookback time.Duration
	// MaxBytes bounds one answer; 4 MiB when zero.
	MaxBytes int64
	// Partial are paths; where one selects something in an answer that is not null, false,
	// 0, or an empty text, list or object, the answer is a part or an error.
	Partial []string `yaml:"partial" doc:"Paths that select something, and not null, false, 0 or nothing, where an answer is a part or an error."`
	// Parallel is how many requests are under way for one Read; 4 when zero.
	Parallel int
}

// Source asks one address. It is safe for concurrent use.
type Source struct {
	cfg     Config
	partial []jsonpath.Path
	pause   fetch.Pause
}

var _ analysis.Source = (*Source)(nil)

// New returns a source. It starts nothing and asks nobody.
func New(cfg Config) (*Source, error) {
	if cfg.Client == nil {
		return nil, errors.New("new httpjson source: no HTTP client")
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.Lag = cmp.Or(cfg.Lag, DefaultLag)
	cfg.Step = cmp.Or(cfg.Step, time.Second)
	cfg.MaxLookback = cmp.Or(cfg.MaxLookback, time.Hour)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 4<<20)
	cfg.Parallel = cmp.Or(cfg.Parallel, 4)
	s := &Source{cfg: cfg}
	for _, text := range cfg.Partial {
		p, err := jsonpath.ParsePath(text, nil)
		if err != nil {
			return nil, fmt.Errorf("new httpjson source: partial: %w", err)
		}
		s.partial = append(s.partial, p)
	}
	vars := map[string]string{"query": "q"}
	for _, n := range template.VariableNames {
		vars[n] = "x"
	}
	interval(vars, time.Unix(0, 0), time.Unix(1, 0))
	if _, err := s.request(vars); err != nil {
		return nil, fmt.Errorf("new httpjson source: %w", err)
	}
	return s, nil
}

// Read makes every different request once. Its error is the context's.
func (s *Source) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	now := time.Now()
	a := asker{s: s, now: now, calls: map[string]*call{}}
	questions := make([]*question, len(qs))
	for i, q := range qs {
		questions[i] = a.question(q)
	}
	a.run(ctx)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("httpjson: %w", err)
	}
	out := make([]analysis.Reading, len(qs))
	for i, q := range questions {
		out[i] = q.answer()
	}
	return out, nil
}

// bounds are the part of the interval that can be asked about: whole steps, not
// too long ago, and not so young that data may be missing.
func (s *Source) bounds(from, to, now time.Time) (time.Time, time.Time) {
	if t := now.Add(-s.cfg.Lag); t.Before(to) {
		to = t
	}
	if t := to.Add(-s.cfg.MaxLookback); from.Before(t) {
		from = t
	}
	end := to.Truncate(s.cfg.Step)
	begin := from.Truncate(s.cfg.Step)
	if begin.Before(from) {
		begin = begin.Add(s.cfg.Step)
	}
	if !end.After(begin) {
		return from, from
	}
	return begin, end
}

// request fills the templates in.
func (s *Source) request(vars map[string]string) (*http.Request, error) {
	u, err := address(s.cfg.URL, vars)
	if err != nil {
		return nil, err
	}
	if s.cfg.Body == "" {
		req, err := http.NewRequest(http.MethodGet, u, http.NoBody)
		if err != nil {
			return nil, errors.New("url: not an address")
		}
		req.Header.Set("Accept", "application/json")
		return req, nil
	}
	body, err := jsonpath.Replace(s.cfg.Body, vars, inJSON)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	req, err := http.NewRequest(http.MethodPost, u, strings.NewReader(body))
	if err != nil {
		return nil, errors.New("url: not an address")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// address fills the URL in: its path segments and its query are escaped, its
// host stands as it is.
func address(template string, vars map[string]string) (string, error) {
	scheme, rest, ok := strings.Cut(template, "://")
	if !ok || (scheme != "http" && scheme != "https") {
		return "", errors.New("url: an http or https address is wanted")
	}
	i := strings.IndexAny(rest, "/?#")
	if i < 0 {
		i = len(rest)
	}
	if strings.Contains(rest[:i], "${") {
		return "", errors.New("url: nothing is substituted in the host")
	}
	p, q, _ := strings.Cut(rest[i:], "?")
	p, err := jsonpath.Replace(p, vars, func(_, v string) (string, error) {
		if strings.Trim(v, ".") == "" {
			return "", errors.New("a name of points alone may not stand in a path")
		}
		return url.PathEscape(v), nil
	})
	if err != nil {
		return "", fmt.Errorf("url: %w", err)
	}
	q, err = jsonpath.Replace(q, vars, func(_, v string) (string, error) { return url.QueryEscape(v), nil })
	if err != nil {
		return "", fmt.Errorf("url: %w", err)
	}
	out := scheme + "://" + rest[:i] + p
	if q != "" {
		out += "?" + q
	}
	if u, err := url.Parse(out); err != nil || u.Host == "" {
		return "", errors.New("url: not an address")
	}
	return out, nil
}
