package prometheus

import (
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/promql"
)

// ScrapeInterval is how far apart the samples of a metric are: as configured, or
// as seen in what was read so far. It is 0 where neither is known, and for plain
// values. It asks nobody.
func (s *Source) ScrapeInterval(m analysis.Metric) time.Duration {
	var text string
	switch m.Kind() {
	case analysis.KindCounts:
		text = m.Counts.Total
	case analysis.KindHistogram:
		text = m.Histogram.Series
	case analysis.KindMean:
		text = m.Mean.Count
	case analysis.KindValue:
	}
	sel, err := promql.ParseSelector(text)
	if text == "" || err != nil {
		return 0
	}
	for _, suffix := range []string{"", "_bucket", "_count"} {
		if d, known := s.step(sel.Name + suffix); known {
			return d
		}
	}
	return 0
}
