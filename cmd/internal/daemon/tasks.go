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

const (
	// taskRetryMax bounds how long a task that failed waits to be run again.
	taskRetryMax = time.Minute
	// taskStopMax is how long those of another generation wait for a task to end.
	taskStopMax = 5 * time.Second
)

// Tasks are what runs beside the engine because of the generation in force: notifiers
// that repeat themselves, certificates, triggers, events. One that fails is run
// again, after a second at first and a minute at last: none of them is worth the
// rollouts that the daemon carries.
type tasks struct {
	mu sync.Mutex
	// ctx is that of all tasks.
	ctx     context.Context
	log     *slog.Logger
	wg      sync.WaitGroup
	running []*running
}

// A task is one piece of work with a life of its own.
type task struct {
	name string
	run  func(context.Context) error
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
	t.ctx, t.log = ctx, log
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

// replace ends the tasks that run and begins these. One caller does so at a time. A task
// that does not end in time is left behind.
func (t *tasks) replace(with []task) {
	t.mu.Lock()
	before := t.running
	t.running = nil
	over := t.ctx == nil || t.ctx.Err() != nil
	t.mu.Unlock()
	if over {
		return
	}
	for _, r := range before {
		r.stop()
	}
	patience := time.NewTimer(taskStopMax)
	defer patience.Stop()
	for _, r := range before {
		select {
		case <-r.done:
			continue
		case <-patience.C:
			t.log.Error("task left behind", "name", r.name, "outcome", "not ended after "+taskStopMax.String())
		}
		break
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range with {
		ctx, stop := context.WithCancel(t.ctx)
		r := &running{task: w, stop: stop, done: make(chan struct{})}
		t.running = append(t.running, r)
		t.wg.Go(func() {
			defer close(r.done)
			defer stop()
			t.keep(ctx, r)
		})
	}
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
