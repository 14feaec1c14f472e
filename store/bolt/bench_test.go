package bolt

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/belayd/belay/store"
)

// BenchmarkAppend compares the group commit with what bbolt offers by itself, a
// transaction each (Update) and its own batches (Batch, with its defaults): the
// same records in the same file. The metrics are appends a second and, for the
// group commit, how many times those of the other two it is.
func BenchmarkAppend(b *testing.B) {
	entry, state := make([]byte, 512), make([]byte, 4<<10)
	for _, writers := range []int{1, 10, 100} {
		rates := make(map[string]float64)
		for _, mode := range []string{"update", "batch", "group"} {
			b.Run(fmt.Sprintf("writers=%d/%s", writers, mode), func(b *testing.B) {
				s := openBench(b)
				appendOne := map[string]func(*write) error{
					"update": func(w *write) error { return s.alone(w, s.db.Update) },
					"batch":  func(w *write) error { return s.alone(w, s.db.Batch) },
					"group": func(w *write) error {
						r, err := s.Append(b.Context(), string(w.key), w.entry, w.state, w.after)
						w.after = r
						return err
					},
				}[mode]
				before := s.commits()
				began := time.Now()
				b.ResetTimer()
				var wg sync.WaitGroup
				for i := range writers {
					n := b.N / writers
					if i < b.N%writers {
						n++
					}
					wg.Go(func() {
						w := &write{key: fmt.Append(nil, "rollout/", i), entry: entry, state: state}
						for range n {
							if err := appendOne(w); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				rates[mode] = float64(b.N) / time.Since(began).Seconds()
				b.ReportMetric(rates[mode], "appends/s")
				b.ReportMetric(float64(b.N)/float64(s.commits()-before), "appends/commit")
				if mode == "group" && rates["update"] > 0 && rates["batch"] > 0 {
					b.ReportMetric(rates["group"]/rates["update"], "x-update")
					b.ReportMetric(rates["group"]/rates["batch"], "x-batch")
				}
			})
		}
	}
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
