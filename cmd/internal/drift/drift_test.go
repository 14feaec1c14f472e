package drift

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/split"
)

// A world is some endpoints, their records, and pagers of which the first may be
// away.
type world struct {
	mu      sync.Mutex
	list    []Endpoint
	shows   map[string]split.Split
	away    map[string]bool
	said    []string
	records map[string]string
}

func shares(blue, green int) split.Split {
	return split.Split{Weights: map[string]int{"blue": blue, "green": green}}
}

func (w *world) watch() *Watch {
	return &Watch{
		Log: slog.New(slog.DiscardHandler),
		Endpoints: func(context.Context) ([]Endpoint, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.Clone(w.list), nil
		},
		Split: func(_ context.Context, ref rollout.EndpointRef) (split.Split, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			s, ok := w.shows[ref.Name]
			if !ok {
				return s, errors.New("away")
			}
			return s, nil
		},
		Observe: func(_ context.Context, ref rollout.EndpointRef, s split.Split) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.records[ref.Name] = s.String()
			for i := range w.list {
				if w.list[i].Ref == ref {
					w.list[i].Last = &s
				}
			}
			return nil
		},
		Notify: func(_ context.Context, name string, n notifier.Notice) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.away[name] {
				return errors.New("away")
			}
			end := map[bool]string{true: " (end)"}[n.Resolve]
			w.said = append(w.said, fmt.Sprintf("%s: %s%s", name, n.Summary, end))
			return nil
		},
	}
}

// What no record explains at the first look is paged, once, with both splits, by
// the first pager that takes it, and is the record a quarter of an hour later; what
// changes after that is put on record in silence, and what is explained says
// nothing.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blue := shares(100, 0)
		at := func(name string, last *split.Split) Endpoint {
			return Endpoint{Ref: rollout.EndpointRef{Router: "edge", Name: name}, Last: last, Page: []string{"first", "second"}}
		}
		w := &world{
			list: []Endpoint{at("same", &blue), at("forgotten", &blue), at("split", nil), at("new", nil), at("late", &blue), at("quiet", &blue)},
			shows: map[string]split.Split{"same": blue, "forgotten": shares(0, 100), "split": shares(95, 5), "new": shares(0, 100),
				"quiet": blue},
			away: map[string]bool{"first": true}, records: map[string]string{},
		}
		w.list[5].Page = nil
		watch := w.watch()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- watch.Run(ctx) }()
		expect := func(when string, problems int, said ...string) {
			t.Helper()
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			slices.Sort(w.said)
			ok := len(w.said) == len(said)
			for i := range min(len(said), len(w.said)) {
				ok = ok && strings.HasPrefix(w.said[i], said[i])
			}
			if !ok || len(watch.Problems()) != problems {
				t.Errorf("%s: got %q and problems %q, want %q and %d", when, w.said, watch.Problems(), said, problems)
			}
			w.said = nil
		}
		expect("the start", 2, "second: forgotten shows green 100, with blue 100 on record and no rollout", "second: split shows blue 95, green 5, with no record")
		w.mu.Lock()
		w.shows["late"] = shares(50, 50) // it could not be read before
		w.shows["quiet"] = shares(0, 100)
		w.mu.Unlock()
		time.Sleep(time.Minute)
		expect("when the last one can be read", 3, "second: late shows blue 50, green 50, with blue 100 on record")
		time.Sleep(10 * time.Minute)
		expect("later", 3)
		w.mu.Lock()
		if got := fmt.Sprint(w.records); got != "map[quiet:green 100]" {
			t.Errorf("records of what changed meanwhile: got %s", got)
		}
		w.mu.Unlock()
		time.Sleep(10 * time.Minute)
		expect("a quarter of an hour later", 0, "second: forgotten: green 100 is on record now. (end)", "second: late: blue 50, green 50 is", "second: split: blue 95, green 5 is")
		time.Sleep(time.Hour)
		expect("from then on", 0)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v", err)
		}

		// The next start compares with that.
		ctx, cancel = context.WithCancel(t.Context())
		again := w.watch()
		go func() { ended <- again.Run(ctx) }()
		time.Sleep(time.Hour)
		expect("the next start", 0)
		cancel()
		<-ended
	})
}

// While no pager takes it, it is tried again, and named all the while.
func TestWatchPagersAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blue := shares(100, 0)
		w := &world{list: []Endpoint{{Ref: rollout.EndpointRef{Router: "edge", Name: "recs"}, Last: &blue, Page: []string{"only"}}},
			shows: map[string]split.Split{"recs": shares(0, 100)}, away: map[string]bool{"only": true}, records: map[string]string{}}
		watch := w.watch()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- watch.Run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := watch.Problems(); len(got) != 1 || !strings.Contains(got[0], "edge/recs is suspect: recs shows green 100") || !strings.Contains(got[0], "Nobody was called yet") || len(w.records) != 0 {
			t.Errorf("with the pager away: got %q and records %v", got, w.records)
		}
		w.mu.Lock()
		w.away["only"] = false
		w.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(w.said) != 1 {
			t.Errorf("with the pager back: got %q, want one page", w.said)
		}
		cancel()
		<-ended
	})
}
