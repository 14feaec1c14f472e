package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/cmd/internal/config"
)

// Ask puts each question to its metric's source, all sources at once. A source
// that cannot look back is asked up to three times, 2 s apart, until it knows of
// an interval. A question that its source did not answer has an error reading.
func Ask(
	ctx context.Context, source func(name string) (config.Source, bool), qs []analysis.Query,
) []analysis.Reading {
	out := make([]analysis.Reading, len(qs))
	bySource := map[string][]int{}
	for i, q := range qs {
		bySource[q.Metric.Source] = append(bySource[q.Metric.Source], i)
	}
	var wg sync.WaitGroup
	for name, at := range bySource {
		wg.Go(func() {
			mine := make([]analysis.Query, len(at))
			for i, k := range at {
				mine[i] = qs[k]
			}
			rs, err := []analysis.Reading(nil), fmt.Errorf("the config has no source %s", name)
			if s, ok := source(name); ok {
				rs, err = read(ctx, s, mine)
			}
			for i, k := range at {
				if err != nil {
					out[k] = analysis.FailedReading(qs[k], err)
					continue
				}
				out[k] = rs[i]
			}
		})
	}
	wg.Wait()
	return out
}

// Source is a source by its name in the config.
func (a *Adapters) Source(name string) (config.Source, bool) {
	s, ok := a.Sources[name]
	return s, ok
}

// Lateness is how old a metric's readings are when they come: as this one was, and as the
// source is by itself at least. A Prometheus' data is as old as a scrape at times, however
// new it was just now. 0 is not known.
func Lateness(s config.Source, m analysis.Metric, r analysis.Reading, asked time.Time) time.Duration {
	var late time.Duration
	if r.Status == analysis.StatusOK && r.To.After(r.From) {
		late = asked.Sub(r.To).Round(time.Second)
	}
	if s.ScrapeInterval != nil {
		late = max(late, s.ScrapeInterval(m))
	}
	if s.Behind != nil {
		late = max(late, s.Behind(m).Round(time.Second))
	}
	return max(late, 0)
}

// read asks one source, again where it cannot look back and so knew nothing yet.
func read(ctx context.Context, source analysis.Source, qs []analysis.Query) ([]analysis.Reading, error) {
	out := make([]analysis.Reading, len(qs))
	pending := make([]int, len(qs))
	for i := range qs {
		pending[i] = i
	}
	for n := 1; ; n++ {
		ask := make([]analysis.Query, len(pending))
		for i, k := range pending {
			ask[i] = qs[k]
			if n > 1 {
				ask[i].To = time.Now().Truncate(time.Millisecond)
			}
		}
		rs, err := source.Read(ctx, ask)
		if err == nil && len(rs) != len(ask) {
			err = errors.New("it gave another number of answers than there were questions")
		}
		if err != nil {
			return nil, err
		}
		var again []int
		for i, k := range pending {
			out[k] = rs[i]
			if rs[i].Status == analysis.StatusOK && !rs[i].To.After(rs[i].From) {
				again = append(again, k)
			}
		}
		if len(again) == 0 || n == lookReads {
			return out, nil
		}
		pending = again
		select {
		case <-ctx.Done():
			return out, nil // what was told stands
		case <-time.After(lookAgain):
		}
	}
}
