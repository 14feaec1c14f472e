package bolt

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belayd/belay/store"
)

// BenchmarkAppend compares the group commit with what bbolt offers by itself, a
// transaction each (Update) and its own batches (Batch, with its defaults): the
// same records in files of their own. The three take turns, a slice of appends
// each, so that whatever else the machine does hits all of them; an iteration is
// a turn of each. The metrics are the medians: appends a second, how many times
// those of the other two the group commit does, and appends a commit.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			slice := min(30*writers, 500)
			racers := []*racer{
				newRacer(b, writers, func(s *Store, w *write) error { return s.alone(w, s.db.Update) }),
				newRacer(b, writers, func(s *Store, w *write) error { return s.alone(w, s.db.Batch) }),
				newRacer(b, writers, func(s *Store, w *write) (err error) {
					w.after, err = s.Append(b.Context(), string(w.key), w.entry, w.state, w.after)
					return err
				}),
			}
			b.ResetTimer()
			for range b.N {
				for _, r := range racers {
					r.run(b, slice)
				}
			}
			update, batch, group := racers[0].rate(), racers[1].rate(), racers[2].rate()
			b.ReportMetric(update, "update/s")
			b.ReportMetric(batch, "batch/s")
			b.ReportMetric(group, "group/s")
			b.ReportMetric(group/update, "x-update")
			b.ReportMetric(group/batch, "x-batch")
			b.ReportMetric(float64(b.N*slice)/float64(racers[2].store.commits()-racers[2].before), "appends/commit")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// A racer is one way to append, with a store of its own.
type racer struct {
	store  *Store
	one    func(*Store, *write) error
	writes []*write // one a writer: its key and its head
	before int      // commits before the first append
	rates  []float64
}

func newRacer(b *testing.B, writers int, one func(*Store, *write) error) *racer {
	b.Helper()
	s := openBench(b)
	r := &racer{store: s, one: one, before: s.commits()}
	for i := range writers {
		r.writes = append(r.writes, &write{key: fmt.Append(nil, "rollout/", i), entry: make([]byte, 512), state: make([]byte, 4<<10)})
	}
	return r
}

// run has the writers do n appends together.
func (r *racer) run(b *testing.B, n int) {
	b.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	for _, w := range r.writes {
		wg.Go(func() {
			for range n / len(r.writes) {
				if err := r.one(r.store, w); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	r.rates = append(r.rates, float64(n)/time.Since(began).Seconds())
}

// rate is the median of its turns.
func (r *racer) rate() float64 {
	slices.Sort(r.rates)
	return r.rates[len(r.rates)/2]
}

func openBench(b *testing.B) *Store {
	b.Helper()
	s, err := Open(newPath(b), testOptions())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// commits is the number of transactions that the file has had.
func (s *Store) commits() int {
	id := 0
	_ = s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil })
	return id
}

// alone is one append in a transaction that bbolt runs, maybe twice.
func (s *Store) alone(w *write, transaction func(func(*bbolt.Tx) error) error) error {
	var revision store.Revision
	err := transaction(func(tx *bbolt.Tx) error {
		l, err := newLayout(tx)
		if err != nil {
			return err
		}
		l.log.FillPercent = 1
		revision, err = s.apply(l, w)
		return err
	})
	w.after = revision
	return err
}

// BenchmarkOpen is a start with ten thousand open rollouts, each with a state
// of 4 KiB and a history of ten: the check of the file, then all heads.
func BenchmarkOpen(b *testing.B) {
	const rollouts, history = 10_000, 10
	path := newPath(b)
	s, err := Open(path, testOptions())
	if err != nil {
		b.Fatal(err)
	}
	heads := make([]store.Revision, rollouts)
	for range history {
		for from := 0; from < rollouts; from += groupLen {
			var group []*write
			for i := from; i < min(from+groupLen, rollouts); i++ {
				group = append(group, newAppend(fmt.Sprint("rollout/", i), make([]byte, 512), make([]byte, 4<<10), heads[i]))
			}
			s.commitGroup(group)
			for i, w := range group {
				r := <-w.done
				if r.err != nil {
					b.Fatal(r.err)
				}
				heads[from+i] = r.revision
			}
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		s, err := Open(path, testOptions())
		if err != nil {
			b.Fatal(err)
		}
		opened := time.Since(began)
		n := 0
		for _, err := range s.Heads(b.Context(), "rollout/") {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != rollouts {
			b.Fatalf("got %d heads, want %d", n, rollouts)
		}
		b.ReportMetric(opened.Seconds()*1000, "open-ms")
		b.ReportMetric((time.Since(began)-opened).Seconds()*1000, "heads-ms")
		space, err := s.Space()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(space.File)/(1<<20), "file-MiB")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBytes is what the file has for the history of rollouts that write
// interleaved, each 500 entries of 400 bytes, beyond those bytes, and for their
// heads with a state of 4 KiB.
func BenchmarkBytes(b *testing.B) {
	const rollouts, history, entryLen, stateLen = 100, 500, 400, 4 << 10
	for range b.N {
		s := openBench(b)
		heads := make([]store.Revision, rollouts)
		for range history {
			var group []*write
			for i, head := range heads {
				group = append(group, newAppend(fmt.Sprintf("rollout/recs-2026-11-23-%06d", i), make([]byte, entryLen), make([]byte, stateLen), head))
			}
			s.commitGroup(group)
			for i, w := range group {
				r := <-w.done
				if r.err != nil {
					b.Fatal(r.err)
				}
				heads[i] = r.revision
			}
		}
		info, err := s.file.Stat()
		if err != nil {
			b.Fatal(err)
		}
		sum, err := checkFile(s.file, info.Size())
		if err != nil {
			b.Fatal(err)
		}
		used := float64(sum.pages-sum.free) * 4096
		b.ReportMetric((used-rollouts*stateLen)/(rollouts*history)-entryLen, "overhead-B/record")
		b.ReportMetric(used/rollouts, "B/rollout")
		b.ReportMetric(float64(sum.free)/float64(sum.pages), "free-share")
	}
}
