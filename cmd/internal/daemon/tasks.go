package daemon

import (
	"context"
	"fmt"
	"sync"
)

// Tasks are what runs beside the engine because of the set in force: notifiers
// that repeat themselves, certificates, triggers, events.
type tasks struct {
	mu sync.Mutex
	// ctx is that of all tasks; fail is told of one that ended before its time.
	ctx     context.Context
	fail    func(error)
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
}

// start makes tasks be run until ctx ends; fail is called when one ends before.
func (t *tasks) start(ctx context.Context, fail func(error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ctx, t.fail, t.running = ctx, fail, map[any]*running{}
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
			if err := r.run(ctx); err != nil && ctx.Err() == nil {
				t.fail(fmt.Errorf("%s: %w", r.name, err))
			}
		})
	}
	t.end(wanted, false)
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
