package prometheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/fetch"
)

// maxSkew is how far the server's clock may be from ours.
const maxSkew = 30 * time.Second

// An api asks one server. Equal questions that are under way at the same time
// are asked once.
type api struct {
	cfg  Config
	base *url.URL

	pause fetch.Pause

	mu     sync.Mutex
	flying map[string]*flight
	get    bool // the server wants GET
}

type flight struct {
	done chan struct{}
	r    *result
	err  error
}

// query evaluates an expression at one instant.
func (a *api) query(ctx context.Context, expr string, at time.Time, lookback time.Duration) (*result, error) {
	form := url.Values{}
	maps.Copy(form, a.cfg.Params)
	form.Set("query", expr)
	form.Set("time", strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64))
	form.Set("timeout", strconv.FormatFloat(a.cfg.Timeout.Seconds(), 'f', -1, 64)+"s")
	if lookback > 0 {
		form.Set("lookback_delta", strconv.FormatFloat(lookback.Seconds(), 'f', -1, 64)+"s")
	}
	key := form.Encode()
	for {
		a.mu.Lock()
		f, ok := a.flying[key]
		if !ok {
			f = &flight{done: make(chan struct{})}
			a.flying[key] = f
			a.mu.Unlock()
			f.r, f.err = a.ask(ctx, key)
			a.mu.Lock()
			delete(a.flying, key)
			a.mu.Unlock()
			close(f.done)
			return f.r, f.err
		}
		a.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// Who asked first may have been called off; that is not our answer.
		if !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
			return f.r, f.err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// ask posts the question. A server, or a proxy before it, that takes no POST is
// asked by GET from then on.
func (a *api) ask(ctx context.Context, form string) (*result, error) {
	if err := a.pause.Err(time.Now()); err != nil {
		return nil, err
	}
	a.mu.Lock()
	get := a.get || a.cfg.Get
	a.mu.Unlock()
	if !get {
		r, err := a.send(ctx, http.MethodPost, form)
		if !errors.Is(err, errNoPost) {
			return r, err
		}
	}
	r, err := a.send(ctx, http.MethodGet, form)
	if errors.Is(err, errNoPost) {
		err = errors.New("it says that there is no query, by POST and by GET: a proxy drops it")
	}
	if err == nil {
		a.mu.Lock()
		a.get = true
		a.mu.Unlock()
	}
	return r, err
}

var errNoPost = errors.New("it takes no POST")

// lostBody are what servers say to a POST whose body a proxy dropped: Prometheus
// and those that use its parser, and VictoriaMetrics.
var lostBody = []string{"no expression found in input", "missing `query` arg"}

func (a *api) send(ctx context.Context, method, form string) (*result, error) {
	u := *a.base
	var body io.Reader = http.NoBody
	if method == http.MethodPost {
		body = strings.NewReader(form)
	} else {
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&"+form, "&")
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, errors.New("make request: not a URL")
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("User-Agent", "belayd")
	var r *result
	err = fetch.Do(a.cfg.Client, req, a.cfg.Timeout, a.cfg.MaxBytes, func(resp *http.Response, body io.Reader) error {
		if method == http.MethodPost && (resp.StatusCode == http.StatusMethodNotAllowed ||
			resp.StatusCode == http.StatusNotImplemented || resp.StatusCode == http.StatusForbidden) {
			return errNoPost
		}
		a.pause.Heed(resp, time.Now())
		r, err = a.read(resp, body)
		return err
	})
	return r, err
}

// read makes a result of an answer. What a server or a proxy writes beside the API's
// own words is not repeated.
func (a *api) read(resp *http.Response, body io.Reader) (*result, error) {
	if code := resp.StatusCode; code == http.StatusRequestURITooLong || code == http.StatusRequestHeaderFieldsTooLarge {
		return nil, fmt.Errorf("%w: the question does not fit into an address (%s)", fetch.ErrTooLarge,
			fetch.Status(code))
	}
	if limit := resp.Header.Get("M3-Results-Limited"); limit != "" {
		return nil, fmt.Errorf("%w: M3 met a limit", errPartial)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "application/json" && kind != "application/stream+json" {
		if resp.StatusCode != http.StatusOK {
			return nil, fetch.Refused(resp)
		}
		return nil, fmt.Errorf("it answered %s, not JSON: a login page, or not the API's address",
			cmp.Or(kind, "something"))
	}
	in, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	r, err := decode(in, a.cfg.MaxSeries)
	if said, ok := errors.AsType[*apiError](err); ok {
		if slices.ContainsFunc(lostBody, func(words string) bool { return strings.Contains(said.text, words) }) {
			return nil, errNoPost
		}
		return nil, said.public()
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fetch.Refused(resp)
	}
	if err != nil {
		return nil, err
	}
	return r, skew(resp.Header.Get("Date"), time.Now())
}

// public is the error as people may read it. What a query got wrong is said;
// errors of the server's insides may name anything.
func (e *apiError) public() error {
	kinds := []string{"timeout", "canceled", "execution", "bad_data", "internal", "unavailable", "not_found",
		"not_acceptable", "too_many_requests", "too_many_samples"}
	switch {
	case !slices.Contains(kinds, e.kind):
		return errors.New("it answered with an error")
	case e.kind == "execution" && strings.Contains(e.text, "too many samples"):
		return fmt.Errorf("%w: more samples than the server loads for one query", fetch.ErrTooLarge)
	case e.kind == "bad_data" && strings.Contains(e.text, "unexpected string") &&
		strings.Contains(e.text, "label matching"):
		return analysis.Permanent(fmt.Errorf("%w; servers before Prometheus 3.0 take no quoted names: write the "+
			"names as this one stores them, with _ for every other character", fetch.Bare(e)))
	case e.kind == "bad_data":
		return analysis.Permanent(fetch.Bare(e))
	case e.kind == "execution":
		return fetch.Bare(e)
	}
	return fmt.Errorf("it answered with an error: %s", e.kind)
}

// skew compares the server's clock with ours.
func skew(date string, now time.Time) error {
	theirs, err := http.ParseTime(date)
	if err != nil {
		return nil //nolint:nilerr // a server that says no date is taken at its word
	}
	d := theirs.Sub(now)
	if math.Abs(d.Seconds()) <= maxSkew.Seconds() {
		return nil
	}
	if d > 0 {
		return fmt.Errorf("its clock is %s ahead of ours", d.Round(time.Second))
	}
	return fmt.Errorf("its clock is %s behind ours", (-d).Round(time.Second))
}
