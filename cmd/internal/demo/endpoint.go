package demo

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
)

// errVersion says that the endpoint has changed since the version that a write
// names.
var errVersion = errors.New("set weights: the version has changed")

// A split is how the endpoint divides its requests at one version.
type split struct {
	weights map[string]int // percent by deployment, zeroes left out
	version int
}

// An endpoint is the stable address that clients call. It sends each request to
// one deployment, drawn by weight, and writes one line per request into its own
// log.
type endpoint struct {
	backends map[string]*httputil.ReverseProxy
	log      *requestLog
	// changed is called with the endpoint locked, after each change; it must not
	// call back.
	changed func(at time.Time, weights map[string]int)

	mu  sync.Mutex
	now split
}

// newEndpoint returns an endpoint in front of the backends. Its traffic is off
// until set says how it is divided.
func newEndpoint(backends map[string]*url.URL, w *requestLog) *endpoint {
	transport := &http.Transport{MaxIdleConnsPerHost: maxInFlight, IdleConnTimeout: 30 * time.Second}
	e := &endpoint{backends: map[string]*httputil.ReverseProxy{}, log: w, now: split{version: 1}}
	for name, u := range backends {
		e.backends[name] = &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
			Transport: transport,
			ErrorLog:  log.New(io.Discard, "", 0),
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				w.WriteHeader(http.StatusBadGateway)
			},
		}
	}
	return e
}

// read returns the present split; its map is the caller's.
func (e *endpoint) read() split {
	e.mu.Lock()
	defer e.mu.Unlock()
	return split{weights: maps.Clone(e.now.weights), version: e.now.version}
}

// set changes the weights if the version is still the one given; a negative
// version sets them whatever it is. Weights sum to 100, or are all 0: traffic
// off.
func (e *endpoint) set(weights map[string]int, version int) (split, error) {
	sum, kept := 0, map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		v := weights[name]
		if e.backends[name] == nil {
			return split{}, fmt.Errorf("set weights: no deployment %q", name)
		}
		if v < 0 || v > 100 {
			return split{}, fmt.Errorf("set weights: %s: got %d, want 0 to 100", name, v)
		}
		if sum += v; v > 0 {
			kept[name] = v
		}
	}
	if sum != 100 && sum != 0 {
		return split{}, fmt.Errorf("set weights: the sum is %d, want 100", sum)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if version >= 0 && version != e.now.version {
		return split{}, errVersion
	}
	e.now = split{weights: kept, version: e.now.version + 1}
	if e.changed != nil {
		e.changed(time.Now(), maps.Clone(kept))
	}
	return split{weights: maps.Clone(kept), version: e.now.version}, nil
}

// pick draws a deployment by weight; "" when the traffic is off.
func (e *endpoint) pick() string {
	e.mu.Lock()
	weights := e.now.weights // replaced whole, never changed in place
	e.mu.Unlock()
	sum := 0
	for _, w := range weights {
		sum += w
	}
	if sum == 0 {
		return ""
	}
	left := rand.IntN(sum)
	for _, name := range slices.SortedFunc(maps.Keys(weights), cmp.Compare[string]) {
		if left -= weights[name]; left < 0 {
			return name
		}
	}
	return "" // unreachable: left is less than the sum of the weights
}

// ServeHTTP sends one request to a deployment and logs it.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	out := &answer{ResponseWriter: w, status: http.StatusOK}
	name := e.pick()
	if name == "" {
		http.Error(out, "no deployment has traffic", http.StatusServiceUnavailable)
	} else {
		e.backends[name].ServeHTTP(out, r)
	}
	e.log.add(request{at: began, deployment: name, status: out.status, took: took(out.Header(), time.Since(began)),
		play: out.Header().Get(playHeader)})
}

// took is how long a model says that it took; what was measured where none says so.
func took(h http.Header, measured time.Duration) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get(tookHeader), 64)
	if err != nil {
		return measured
	}
	return time.Duration(seconds * float64(time.Second))
}

// direct sends a request straight to one deployment, outside the traffic and
// its log.
func (e *endpoint) direct(name string, w http.ResponseWriter, r *http.Request) {
	b := e.backends[name]
	if b == nil {
		http.Error(w, "no such deployment", http.StatusNotFound)
		return
	}
	b.ServeHTTP(w, r)
}

// answer remembers the status of a response.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status and passes it on.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap gives the reverse proxy what it needs of the writer below.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// A request is one line of the request log.
type request struct {
	at         time.Time // when it arrived
	deployment string    // "" when none had traffic
	status     int
	took       time.Duration // as the model says
	play       string        // completed, abandoned, none
}

// requestLog is the endpoint's own record of what it served, apart from
// anything that Belay writes.
type requestLog struct {
	mu  sync.Mutex
	out *bufio.Writer
	err error
}

func newRequestLog(w io.Writer) *requestLog {
	l := &requestLog{out: bufio.NewWriterSize(w, 64<<10)}
	_, l.err = l.out.WriteString("# time\tdeployment\tstatus\tms\tplay\n")
	return l
}

// add appends one line. The first error is kept and returned by flush.
func (l *requestLog) add(r request) {
	line := make([]byte, 0, 80)
	line = r.at.UTC().AppendFormat(line, "2006-01-02T15:04:05.000000Z")
	line = append(line, '\t')
	line = append(line, cmp.Or(r.deployment, "-")...)
	line = append(line, '\t')
	line = strconv.AppendInt(line, int64(r.status), 10)
	line = append(line, '\t')
	line = strconv.AppendFloat(line, float64(r.took)/float64(time.Millisecond), 'f', 1, 64)
	line = append(line, '\t')
	line = append(line, cmp.Or(r.play, "none")...)
	line = append(line, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.out.Write(line); err != nil && l.err == nil {
		l.err = err
	}
}

// flush writes what is buffered.
func (l *requestLog) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.out.Flush(); err != nil && l.err == nil {
		l.err = err
	}
	return l.err
}

// run flushes every second until ctx ends, so that the file can be followed.
func (l *requestLog) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := l.flush(); err != nil {
				return fmt.Errorf("write request log: %w", err)
			}
		case <-ctx.Done():
			return l.flush()
		}
	}
}
