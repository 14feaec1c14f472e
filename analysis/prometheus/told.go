package prometheus

import (
	"cmp"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/promql"
)

// ScrapeInterval is how far apart the samples of a metric are: as configured, or
// as seen in what was read so far. It is 0 where neither is known, and for plain
// values. It asks nobody.
func (s *Source) ScrapeInterval(m analysis.Metric) time.Duration {
	for _, name := range names(m) {
		if d, known := s.step(name); known {
			return d
		}
	}
	return 0
}

// Behind is how old the end of a metric's data was when it was read, at most, in the
// last minutes; 0 where it was not read. It asks nobody.
func (s *Source) Behind(m analysis.Metric) time.Duration {
	for _, name := range names(m) {
		if d := s.ledger.behind(name); d > 0 {
			return d
		}
	}
	return 0
}

// names are what the series of a metric may be called.
func names(m analysis.Metric) []string {
	var text string
	switch m.Kind() {
	case analysis.KindCounts:
		text = cmp.Or(m.Counts.Total, m.Counts.Marked())
	case analysis.KindHistogram:
		text = m.Histogram.Series
	case analysis.KindMean:
		text = m.Mean.Count
	case analysis.KindValue:
	}
	sel, err := promql.ParseSelector(text)
	if text == "" || err != nil {
		return nil
	}
	return []string{sel.Name, sel.Name + "_bucket", sel.Name + "_count"}
}

// storedAs is the name that the server has for a metric.
func (s *Source) storedAs(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.stored[name], name)
}

// store remembers the name that the server has for a metric.
func (s *Source) store(name, stored string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored[name] = stored
}

// maySeek says whether it is time to look for a metric under another name.
func (s *Source) maySeek(name string, now time.Time) bool {
	const most = 10_000
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.sought[name]; ok && now.Sub(last) < time.Minute {
		return false
	}
	if len(s.sought) >= most {
		clear(s.sought)
	}
	s.sought[name] = now
	return true
}
