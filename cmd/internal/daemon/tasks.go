package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// taskRetryMax bounds how long a task that failed waits to be run again.
const taskRetryMax = time.Minute

// Tasks are what runs beside the engine because of the set in force: notifiers
// that repeat themselves, certificates, triggers, events. One that fails is run
// again, after a second at first and a minute at last: none of them is worth the
// rollouts that the daemon carries.
type tasks struct {
	mu sync.Mutex
	// ctx is that of all tasks.
	ctx     context.Context
	log     *slog.Logger
	wg      sync.WaitGroup
	running map[any]*running
}

// A task is one piece of work with a life of its own. It is known by what it is
// of, a pointer.
type task struct {
	name string
	of   any
	run  func(context.Context) error
	// alone: it must not begin before those that are over have ended.
	alone bool
}

// running is a task that was begun.
type running struct {
	task
	stop context.CancelFunc
	done chan struct{}
	// err is why it does not run at the moment; the mu of tasks guards it.
	err error
}

// start makes tasks be run until ctx ends.
func (t *tasks) start(ctx context.Context, log *slog.Logger) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ctx, t.log, t.running = ctx, log, map[any]*running{}
}

// problems names the tasks that failed and wait to be run again, a line each.
func (t *tasks) problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, r := range t.running {
		if r.err != nil {
			out = append(out, fmt.Sprintf("%s: %v", r.name, r.err))
		}
	}
	slices.Sort(out)
	return out
}

// wait waits for all tasks; their context has ended.
func (t *tasks) wait() { t.wg.Wait() }

// set makes these the tasks: those that go on are left alone. Of those that are
// over, the ones that must be alone end before anything begins, and the others
// wind up beside what is new.
func (t *tasks) set(want []task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx == nil || t.ctx.Err() != nil {
		return
	}
	wanted := map[any]bool{}
	for _, w := range want {
		wanted[w.of] = true
	}
	t.end(wanted, true)
	for _, w := range want {
		if t.running[w.of] != nil {
			continue
		}
		ctx, stop := context.WithCancel(t.ctx)
		r := &running{task: w, stop: stop, done: make(chan struct{})}
		t.running[w.of] = r
		t.wg.Go(func() {
			defer close(r.done)
			defer stop()
			t.keep(ctx, r)
		})
	}
	t.end(wanted, false)
}

// errEnded: a task ended by itself and without an error.
var errEnded = errors.New("it ended by itself")

// keep runs a task until ctx ends, again and again where it fails.
func (t *tasks) keep(ctx context.Context, r *running) {
	for wait := time.Second; ; wait = min(2*wait, taskRetryMax) {
		began := time.Now()
		err := r.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errEnded
		}
		if time.Since(began) > taskRetryMax {
			wait = time.Second
		}
		t.note(r, err)
		t.log.Error("task failed", "name", r.name, "outcome", err.Error())
		if !pause(ctx, wait) {
			return
		}
		t.note(r, nil)
	}
}

// note says why a task does not run; nil that it does.
func (t *tasks) note(r *running, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.err = err
}

// end stops the tasks that are not wanted any more, and waits for those that are
// to be alone.
func (t *tasks) end(wanted map[any]bool, alone bool) {
	for of, r := range t.running {
		if wanted[of] || r.alone != alone {
			continue
		}
		r.stop()
		delete(t.running, of)
		if alone {
			defer func() { <-r.done }()
		}
	}
}
