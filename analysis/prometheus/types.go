package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/internal/fetch"
)

const (
	// askTypesAgain is how long it stands what the server said of a metric's type, or that
	// it said nothing.
	askTypesAgain = time.Hour
	// typesTimeout bounds that question: it is a service, and not waited for.
	typesTimeout = 3 * time.Second
	maxTypes     = 10_000
)

// types remembers which metrics are gauges, by what their targets declare. A counter in its
// place would be differenced, and a gauge that only rises never shows that it is none.
type types struct {
	mu    sync.Mutex
	known map[string]declared
}

type declared struct {
	gauge bool
	at    time.Time
}

// find is what is known of a metric; due says that it is time to ask.
func (t *types) find(name string, now time.Time) (gauge, due bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.known[name]
	return d.gauge, !ok || now.Sub(d.at) > askTypesAgain
}

func (t *types) put(name string, gauge bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= maxTypes {
		t.known = map[string]declared{}
	}
	t.known[name] = declared{gauge, now}
}

// gauges makes questions errors whose counters are declared to be gauges. A server or a
// proxy that does not tell types refuses nothing.
func (b *batch) gauges(ctx context.Context) {
	var ask []string
	listed := map[string]bool{}
	for _, x := range b.questions {
		for _, name := range x.counters() {
			if _, due := b.s.types.find(name, b.now); due && !listed[name] {
				listed[name] = true
				ask = append(ask, name)
			}
		}
	}
	b.parallel(len(ask), func(i int) {
		gauge, err := b.s.api.gauge(ctx, ask[i])
		if err == nil || ctx.Err() == nil {
			b.s.types.put(ask[i], gauge, b.now)
		}
	})
	for _, x := range b.questions {
		for _, name := range x.counters() {
			if gauge, _ := b.s.types.find(name, b.now); gauge && x.err == nil {
				x.err = analysis.Permanent(fmt.Errorf("metric %s: the targets declare %s a gauge, and counts are wanted: "+
					"name a counter, whose name usually ends in _total, or write it as a value", x.Metric.Name, name))
			}
		}
	}
}

// counters are the names that must be of counters: those of counts.
func (x *question) counters() []string {
	if x.err != nil || x.Metric.Counts == nil {
		return nil
	}
	var out []string
	for _, p := range x.parts {
		if p.shared.name != "" {
			out = append(out, p.shared.name)
		}
	}
	return out
}

// gauge asks whether all targets that declare the metric declare a gauge.
func (a *api) gauge(ctx context.Context, name string) (bool, error) {
	if err := a.pause.Err(time.Now()); err != nil {
		return false, err
	}
	u := a.base.JoinPath("../metadata")
	form := url.Values{"metric": {name}, "limit_per_metric": {"5"}}
	maps.Copy(form, a.cfg.Params)
	u.RawQuery = form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return false, errors.New("make request: not a URL")
	}
	req.Header.Set("User-Agent", "belayd")

	gauge := false
	err = fetch.Do(a.cfg.Client, req, min(a.cfg.Timeout, typesTimeout), 1<<20,
		func(resp *http.Response, body io.Reader) error {
			if resp.StatusCode != http.StatusOK {
				return fetch.Refused(resp)
			}
			var said struct {
				Data map[string][]struct {
					Type string `json:"type"`
				} `json:"data"`
			}
			if err := json.NewDecoder(body).Decode(&said); err != nil {
				return errors.New("it answered no JSON")
			}
			gauge = len(said.Data[name]) > 0
			for _, d := range said.Data[name] {
				gauge = gauge && d.Type == "gauge"
			}
			return nil
		})
	return gauge, err
}
