package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/belayd/belay/analysis/internal/fetch"
	"github.com/belayd/belay/analysis/internal/series"
)

// maxAddresses bounds the addresses that one name may stand for.
const maxAddresses = 256

// An address is one instance to scrape.
type address struct {
	// url is where to ask, host what its Host header says, name what people and
	// labels may see of it.
	url, host, name string
	// dynamic: it was found by its name, and may be gone the next time.
	dynamic bool
}

// parseTarget checks one entry of the configuration. Its errors do not repeat
// it: it may hold a password.
func parseTarget(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	switch u.Scheme {
	case "http", "https", "dns+http":
	case "dns+https":
		return nil, errors.New("dns+https: certificates name hosts, not addresses: list the targets")
	default:
		return nil, errors.New("its scheme is none of http, https and dns+http")
	}
	if u.Hostname() == "" {
		return nil, errors.New("it names no host")
	}
	return u, nil
}

// addresses are the instances of a deployment, names resolved.
func (s *Source) addresses(ctx context.Context, p place) ([]address, error) {
	ds, ok := s.cfg.Targets[p.endpoint]
	if !ok {
		return nil, fmt.Errorf("no targets for the endpoint %s: add them to the source's configuration", p.endpoint)
	}
	raws, ok := ds[p.deployment]
	if !ok {
		return nil, fmt.Errorf("no targets for the deployment %s of %s: add them to the source's configuration",
			p.deployment, p.endpoint)
	}
	var out []address
	for _, raw := range raws {
		u, err := parseTarget(raw)
		if err != nil {
			return nil, err
		}
		if u.Scheme != "dns+http" {
			out = append(out, address{url: raw, name: u.Host})
			continue
		}
		found, err := s.resolve(ctx, u)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func (s *Source) resolve(ctx context.Context, u *url.URL) ([]address, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	ips, err := s.cfg.LookupHost(ctx, u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", u.Hostname(), fetch.Bare(err))
	}
	if len(ips) == 0 || len(ips) > maxAddresses {
		return nil, fmt.Errorf("resolve %s: got %d addresses, want 1 to %d", u.Hostname(), len(ips), maxAddresses)
	}
	slices.Sort(ips)
	out := make([]address, 0, len(ips))
	for _, ip := range slices.Compact(ips) {
		port := u.Port()
		if port == "" {
			port = "80"
		}
		x := *u
		x.Scheme, x.Host = "http", net.JoinHostPort(ip, port)
		out = append(out, address{url: x.String(), host: u.Host, name: x.Host, dynamic: true})
	}
	return out, nil
}

// A target is what is known of one address. Its lock is held while it is
// scraped, so that everybody who asks meanwhile shares the answer.
type target struct {
	address
	lock chan struct{}
	// asked is guarded by the source's lock, everything below by the target's.
	asked time.Time

	// stamp and err are the last attempt's.
	stamp int64
	err   error
	// wanted is when each metric was last asked for, since when it was first kept.
	wanted, since map[string]int64
	times         []int64
	floor         int64
	// series are by metric and then by labels.
	series map[string]map[string]*series.Series
	size   int
}

func newTarget(a address) *target {
	return &target{
		address: a, lock: make(chan struct{}, 1),
		wanted: map[string]int64{}, since: map[string]int64{},
		series: map[string]map[string]*series.Series{},
	}
}

// A snapshot is what a target has given, not to be changed by anybody.
type snapshot struct {
	// since is the first scrape that kept all that was wanted; floor, where not
	// 0, the oldest that is still in memory.
	since, floor int64
	dynamic      bool
	times        []int64
	series       map[string][]*series.Series
}

// lastBy is the newest scrape at or before t; 0 where there is none.
func (x snapshot) lastBy(t int64) int64 {
	i, ok := slices.BinarySearch(x.times, t)
	switch {
	case ok:
		return t
	case i == 0:
		return 0
	}
	return x.times[i-1]
}

// at is what the target has given up to the instant; it scrapes unless that was
// done already.
func (t *target) at(ctx context.Context, cfg Config, stamp int64, want map[string]bool) (snapshot, error) {
	select {
	case t.lock <- struct{}{}:
		defer func() { <-t.lock }()
	case <-ctx.Done():
		return snapshot{}, ctx.Err()
	}
	for n := range want {
		t.wanted[n] = max(t.wanted[n], stamp)
	}
	if stamp > t.stamp {
		flat, err := t.fetch(ctx, cfg, stamp)
		if ctx.Err() != nil {
			return snapshot{}, ctx.Err() // the next who asks shall not inherit this one's hurry
		}
		t.stamp, t.err = stamp, err
		if err == nil {
			t.err = t.remember(flat, stamp, cfg.MaxSeries)
		}
	}
	if t.err != nil {
		return snapshot{}, fmt.Errorf("%s: %w", t.name, t.err)
	}
	return t.snapshot(want), nil
}

// remember adds the samples of one scrape and drops what is too old. Of a
// scrape that cannot be kept whole nothing is kept.
func (t *target) remember(flat []sample, stamp int64, most int) error {
	if err := t.admit(flat, most); err != nil {
		return err
	}
	for n, at := range t.wanted {
		switch {
		case stamp-at > keep.Milliseconds():
			delete(t.wanted, n)
			delete(t.since, n)
			delete(t.series, n)
		case t.since[n] == 0:
			t.since[n] = stamp
		}
	}
	t.times = append(t.times, stamp)
	cut := stamp - keep.Milliseconds()
	if len(t.times) > keepScrapes {
		cut = max(cut, t.times[len(t.times)-keepScrapes])
	}
	if t.times[0] < cut {
		i, _ := slices.BinarySearch(t.times, cut)
		t.times = slices.Clone(t.times[i:])
		t.floor = t.times[0]
	}
	for _, x := range flat {
		name := x.labels.Get(series.NameLabel)
		if t.series[name] == nil {
			t.series[name] = map[string]*series.Series{}
		}
		s := t.series[name][x.key]
		if s == nil {
			s = &series.Series{Labels: x.labels}
			t.series[name][x.key] = s
		}
		s.Gauge = x.gauge
		s.Points = append(s.Points, series.Point{T: stamp, V: x.value, Created: x.created, H: x.native})
	}
	t.drop(cut)
	return nil
}

// admit refuses what would not fit and what is said twice.
func (t *target) admit(flat []sample, most int) error {
	fresh := map[string]bool{}
	n := t.size
	for _, x := range flat {
		if fresh[x.key] {
			return fmt.Errorf("a series of %s is given twice", x.labels.Get(series.NameLabel))
		}
		fresh[x.key] = true
		if t.series[x.labels.Get(series.NameLabel)][x.key] == nil {
			n++
		}
	}
	if n > most {
		return fmt.Errorf("%d series of the metrics asked for, more than %d", n, most)
	}
	return nil
}

// drop forgets the samples before cut.
func (t *target) drop(cut int64) {
	t.size = 0
	for _, byKey := range t.series {
		for k, s := range byKey {
			i := 0
			for i < len(s.Points) && s.Points[i].T < cut {
				i++
			}
			switch {
			case i == len(s.Points):
				delete(byKey, k)
				continue
			case i > 0:
				s.Points = slices.Clone(s.Points[i:])
			}
			t.size++
		}
	}
}

// snapshot shares the samples, which are only ever appended to, and copies what
// says how many there are.
func (t *target) snapshot(want map[string]bool) snapshot {
	x := snapshot{floor: t.floor, dynamic: t.dynamic, times: slices.Clip(t.times),
		series: map[string][]*series.Series{}}
	var members []*series.Series
	for n := range want {
		x.since = max(x.since, t.since[n])
		if t.since[n] == 0 {
			x.since = t.stamp // it is kept from the next scrape on
		}
		for _, k := range slices.Sorted(maps.Keys(t.series[n])) {
			s := t.series[n][k]
			c := &series.Series{Labels: s.Labels, Points: slices.Clip(s.Points), Gauge: s.Gauge}
			x.series[n], members = append(x.series[n], c), append(members, c)
		}
	}
	known := series.NewTarget(x.times, members)
	for _, m := range members {
		m.Target = known
	}
	return x
}

// fetch asks the target once, at the instant of the stamp.
func (t *target) fetch(ctx context.Context, cfg Config, stamp int64) ([]sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, http.NoBody)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	if t.host != "" {
		req.Host = t.host
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "belayd")
	var flat []sample
	err = fetch.Do(cfg.Client, req, cfg.Timeout, cfg.MaxBytes, func(resp *http.Response, body io.Reader) error {
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it answered %s", fetch.Answer(resp))
		}
		var err error
		flat, err = parse(body, resp.Header, filter{t.keeps, cfg.MaxSeries}, t.name, stamp)
		return err
	})
	return flat, err
}

func (t *target) keeps(name string) bool {
	_, ok := t.wanted[name]
	return ok
}
