// Package batch merges what many rollouts ask of a source at one instant.
//
// The rules of the package:
//   - Its cost grows with the number of different questions, not of rollouts: equal
//     ones are asked once (singleflight), and the answer is handed out.
//   - It knows no source, and no time but how long until the instant that is asked
//     about.
package batch

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
)

// linger is how long a read waits for the other rollouts that ask the same source
// about the same instant.
const linger = 10 * time.Millisecond

// A Reader merges what is asked of a source at one instant into one read. Its methods
// are safe for concurrent use.
type Reader struct {
	// Read asks a source; len(readings) == len(qs), whatever goes wrong stands in them.
	Read func(ctx context.Context, source string, qs []analysis.Query) []analysis.Reading
	// Go runs do in a goroutine that somebody waits for, or not at all.
	Go func(do func(context.Context)) bool
	// Busy reports whether the processor has something more urgent to do than judging.
	Busy func() bool

	mu     sync.Mutex
	rounds map[roundKey]*round
}

// roundKey is one source and one instant.
type roundKey struct {
	source string
	at     int64
}

// A round is one Read to come.
type round struct {
	asks []*Ask
}

// An Ask is what one rollout wants to know of one source, unless Ctx has ended.
type Ask struct {
	Ctx     context.Context
	Queries []analysis.Query
	// Answer is called once, with one reading per query.
	Answer func(rs []analysis.Reading, received time.Time)
}

// Add asks a source about an instant that comes in a while.
func (r *Reader) Add(source string, at time.Time, in time.Duration, a *Ask) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := roundKey{source, at.UnixNano()}
	if r.rounds == nil {
		r.rounds = map[roundKey]*round{}
	}
	if ro := r.rounds[k]; ro != nil {
		ro.asks = append(ro.asks, a)
		return
	}
	r.rounds[k] = &round{asks: []*Ask{a}}
	time.AfterFunc(max(0, in)+linger, func() {
		r.mu.Lock()
		ro := r.rounds[k]
		delete(r.rounds, k)
		r.mu.Unlock()
		r.Go(func(ctx context.Context) { r.read(ctx, source, ro.asks) })
	})
}

// read asks a source once for everybody and hands out the answers.
func (r *Reader) read(ctx context.Context, name string, asks []*Ask) {
	asks = slices.DeleteFunc(asks, func(a *Ask) bool { return a.Ctx.Err() != nil })
	if len(asks) == 0 {
		return
	}
	index := map[string]int{}
	var qs []analysis.Query
	where := make([][]int, len(asks))
	for i, a := range asks {
		for _, q := range a.Queries {
			k := queryKey(q)
			n, ok := index[k]
			if !ok {
				n = len(qs)
				index[k], qs = n, append(qs, q)
			}
			where[i] = append(where[i], n)
		}
	}
	rs := r.Read(ctx, name, qs)
	received := time.Now()
	// Judging is what takes time here: all processors share it, so that a breach
	// does not wait for its turn among thousands.
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(asks))
	for n := range workers {
		wg.Go(func() {
			for i := n; i < len(asks); i += workers {
				mine := make([]analysis.Reading, len(asks[i].Queries))
				for j, at := range where[i] {
					mine[j] = rs[at]
					mine[j].Metric = asks[i].Queries[j].Metric.Name
				}
				asks[i].Answer(mine, received)
				if r.Busy() {
					runtime.Gosched()
				}
			}
		})
	}
	wg.Wait()
}

// queryKey is equal for questions that have the same answer.
func queryKey(q analysis.Query) string {
	name := q.Metric.Name
	q.Metric.Name = ""
	b, err := json.Marshal(q)
	if err != nil {
		// Unreachable unless a cut is no number: then nobody shares the question.
		return name + fmt.Sprintf("%v", q)
	}
	return string(b)
}
