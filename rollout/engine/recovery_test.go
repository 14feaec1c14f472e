package engine

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/traffictest"
	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
	"github.com/belayd/belay/store/mem"
)

// BenchmarkRecovery is the time from opening the store to the moment at which
// every one of 10,000 open rollouts is carried and has its next reading under
// way: of a store in memory, and of one in a file.
func BenchmarkRecovery(b *testing.B) {
	const many = 10_000
	router := &traffictest.Fake{}
	full := openRollouts(b, many, router)
	b.Run("mem", func(b *testing.B) {
		recovery(b, many, router, func() (store.Store, func() error) { return full, func() error { return nil } })
	})
	b.Run("bolt", func(b *testing.B) {
		file := filepath.Join(b.TempDir(), "belay.db")
		copyStore(b, full, file)
		recovery(b, many, router, func() (store.Store, func() error) {
			s, err := bolt.Open(file, bolt.Options{})
			if err != nil {
				b.Fatal(err)
			}
			return s, s.Close
		})
	})
}

// recovery recovers again and again from the store that open returns.
func recovery(b *testing.B, many int, router *traffictest.Fake, open func() (s store.Store, end func() error)) {
	b.Helper()
	for b.Loop() {
		s, end := open()
		e, err := New(Config{Store: s, Leaser: store.Always{}, Owner: "one", Routers: map[string]traffic.Router{"edge": router},
			Sources: map[string]analysis.Source{"prom": &quick{}}, Notifiers: map[string]notifier.Notifier{"pager": silent{}, "chat": silent{}}})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		for e.carried() < many {
			time.Sleep(time.Millisecond)
		}
		b.StopTimer()
		cancel()
		if err := errors.Join(<-done, end()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/recovery")
}

// copyStore writes what a store in memory holds into a file, with many writers at
// a time.
func copyStore(b *testing.B, from *mem.Store, file string) {
	b.Helper()
	to, err := bolt.Open(file, bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	logs := map[string][]store.Record{}
	for rec, err := range from.Since(b.Context(), "", 0) {
		if err != nil {
			b.Fatal(err)
		}
		logs[rec.Key] = append(logs[rec.Key], rec)
	}
	free := make(chan struct{}, 100)
	var wg sync.WaitGroup
	for key, recs := range logs {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			var head store.Revision
			for _, rec := range recs {
				var err error
				if head, err = to.Append(b.Context(), key, rec.Entry, rec.State, head); err != nil {
					b.Errorf("copy %s: %v", key, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := to.Close(); err != nil {
		b.Fatal(err)
	}
}

// carried is how many rollouts have a job under way.
func (e *Engine) carried() int {
	e.mu.Lock()
	runners := make([]*runner, 0, len(e.runners))
	for _, l := range e.runners {
		runners = append(runners, l)
	}
	e.mu.Unlock()
	n := 0
	for _, l := range runners {
		l.mu.Lock()
		if l.running() {
			n++
		}
		l.mu.Unlock()
	}
	return n
}
