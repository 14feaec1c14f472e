package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/engine"
	"github.com/belayd/belay/rollout/events"
)

// A reloading is how the reading of the config goes on. One goroutine reloads.
type reloading struct {
	metrics *reloadMetrics
	// forsaken is what was said last of adapters that rollouts need; the one goroutine
	// that reloads has it.
	forsaken []string

	mu sync.Mutex
	// problem is why the files as they are now are not in force; "" when they are.
	problem string
	// waiting are the fields that a restart would take over.
	waiting []string
}

// watch reloads when a file changed, looking every few seconds, and at every
// signal, until ctx ends.
func (d *daemon) watch(ctx context.Context, every time.Duration) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-d.o.Reload:
			asked = true
		}
		d.look(ctx, asked)
	}
}

// look reads again what may have changed: everything when the config's file, a
// secret's file or the operator says so, else the policies.
func (d *daemon) look(ctx context.Context, asked bool) {
	d.sayForsaken()
	if asked {
		d.settle(ctx)
	}
	if asked || len(d.now().faults) > 0 || d.due(ctx) {
		err := d.reload(ctx, asked)
		d.judged(d.blamed(err), err)
		return
	}
	d.judged("policies", d.reloadPolicies(ctx))
}

// sayForsaken says, once, what open rollouts need and the config does not have.
func (d *daemon) sayForsaken() {
	lines := d.engines.Now().Forsaken()
	if !slices.Equal(lines, d.reloading.forsaken) && len(lines) > 0 {
		d.log.Error("adapters missing", "outcome", strings.Join(lines, "; "))
	}
	d.reloading.forsaken = lines
}

// steady is how long files must look the same before they are read unasked.
const steady = 300 * time.Millisecond

// due reports whether the config is to be read: one of its files does not look as
// it did when what is in force was read, and nobody is writing any of them at the
// moment: the first half of a config may be one that is right and lets everybody
// in. What was refused is due again at every look: the reason may have gone.
func (d *daemon) due(ctx context.Context) bool {
	s := d.now()
	before := s.looks()
	if maps.Equal(before, s.files) {
		return false
	}
	for {
		if !pause(ctx, steady) {
			return false
		}
		after := s.looks()
		if maps.Equal(before, after) {
			return true
		}
		before = after
	}
}

// settleMax bounds how long a signal waits for who writes.
const settleMax = 10 * time.Second

// settle waits until nobody has written the config, what it names or a policy for
// as long as steady: a signal may come amid what is being installed.
func (d *daemon) settle(ctx context.Context) {
	for began := time.Now(); time.Since(began) < settleMax; {
		age := time.Since(d.written())
		if age < 0 || age >= steady || !pause(ctx, steady-age) { // the time of a file that is of the future says nothing
			return
		}
	}
}

// written is when the youngest of the files was written.
func (d *daemon) written() time.Time {
	s := d.now()
	files, _ := s.config.PolicyFiles() // those that there are
	files = append(files, d.o.ConfigFile)
	for name := range s.files {
		files = append(files, name)
	}
	var last time.Time
	for _, name := range files {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last
}

// pause waits; it reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// blamed is what an error of a reading is about: the policies, when all else is
// right.
func (d *daemon) blamed(err error) string {
	var bad *config.ProblemsError
	if errors.As(err, &bad) && len(bad.Problems) > 0 && bad.Problems[0].File != d.o.ConfigFile {
		return "policies"
	}
	return "config"
}

// reload reads the config and everything it names, checks it whole, and puts it
// in force at once. When anything is wrong the set in force stays, whole, and the
// error says why.
func (d *daemon) reload(ctx context.Context, asked bool) error {
	before := d.now()
	c, err := config.Read(d.o.ConfigFile)
	if err != nil {
		return err
	}
	c, waiting, err := c.Running(before.config)
	if err != nil {
		return err
	}
	next, ps := d.assemble(c, nil)
	if err := next.faults.Err(); err != nil {
		return err
	}
	changes := next.changes(before)
	if len(changes) == 0 && len(before.faults) == 0 {
		next = before.with(next)
		d.current.Store(next)
	} else if err := d.succeed(ctx, before, next); err != nil {
		return fmt.Errorf("%s: %w", d.o.ConfigFile, err)
	}
	d.reloading.metrics.taken()
	if before.sink != nil && next.sink == nil {
		d.forgetSinks(ctx)
	}
	d.await(waiting)
	if asked || len(changes) > 0 {
		d.log.Info("config in force", "outcome", orUnchanged(changes))
	}
	if !reflect.DeepEqual(c.Auth, before.config.Auth) {
		d.log.Info("auth in force", "outcome", c.Exposure(d.log))
	}
	if next.policies.Sum != before.policies.Sum {
		d.logPolicies(next.policies, ps)
	}
	return nil
}

// succeed puts a generation in the place of the one before, with an engine of its own
// that carries the rollouts on. With an error nothing has changed.
func (d *daemon) succeed(ctx context.Context, before, next *generation) error {
	next.shareKeys(before)
	began := time.Now()
	e, err := engine.New(d.engineOf(next))
	if err != nil {
		return fmt.Errorf("start engine: %w", err)
	}
	err = d.engines.Replace(ctx, e, next.leaving(before), func() {
		d.current.Store(next)
		d.inboxes.Replace(next.inboxes())
	})
	if err != nil {
		return err
	}
	d.tasks.replace(next.tasks(d))
	d.log.Debug("engine replaced", "took", time.Since(began).Round(time.Millisecond).String())
	return nil
}

// reloadPolicies reads the policies again, by the config in force. What has
// changed must read the same twice: somebody may be writing it.
func (d *daemon) reloadPolicies(ctx context.Context) error {
	now := d.now()
	first, _, err := now.config.SoundPolicies(now.env)
	if err == nil && first.Sum == now.policies.Sum {
		return nil
	}
	bad := err != nil
	pause(ctx, steady)
	read, ps, err := now.config.SoundPolicies(now.env)
	if err != nil || bad || read.Sum != first.Sum {
		return err // what was good only now is seen whole by the next look
	}
	next := *now
	next.policies = read
	d.current.Store(&next)
	d.reloading.metrics.taken()
	d.logPolicies(read, ps)
	return nil
}

// await notes what waits for a restart, and says it once.
func (d *daemon) await(fields []string) {
	r := &d.reloading
	r.mu.Lock()
	before := r.waiting
	r.waiting = fields
	r.mu.Unlock()
	r.metrics.await(fields, before)
	if !slices.Equal(before, fields) && len(fields) > 0 {
		d.log.Warn("config waits for a restart", "outcome",
			strings.Join(fields, ", ")+": the rest is in force; restart belayd to take this over")
	}
}

// judged notes how a reading went, and says a refusal once.
func (d *daemon) judged(what string, err error) {
	r := &d.reloading
	problem := ""
	if err != nil {
		problem = what + ": " + err.Error()
	}
	r.mu.Lock()
	known := r.problem == problem
	r.problem = problem
	r.mu.Unlock()
	r.metrics.judged(err == nil)
	if err != nil && !known {
		d.log.Error(what+" not taken over", "outcome", err.Error()) //nolint:sloglint // one of two constants
	}
}

// missing notes what a start goes without, and says it.
func (d *daemon) missing(fs config.Faults) {
	for _, f := range fs {
		d.log.Error("missing from the config", "field", f.Path, "outcome", f.Err.Error())
	}
	d.reloading.mu.Lock()
	// as a reload would refuse it, which need not say it again
	d.reloading.problem = d.blamed(fs.Err()) + ": " + fs.Err().Error()
	d.reloading.mu.Unlock()
	d.reloading.metrics.judged(false)
}

// refusal is why the files as they are now are not in force; "" when they are.
func (r *reloading) refusal() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// forgetSinks deletes the cursors of sinks that are not configured any more, so
// that old rollouts do not wait for them. What fails is done by the next start.
func (d *daemon) forgetSinks(ctx context.Context) {
	if err := d.forget(ctx); err != nil {
		d.log.Warn("sink not forgotten", "outcome", err.Error())
	}
}

// forget deletes the cursors of all sinks but the one in force.
func (d *daemon) forget(ctx context.Context) error {
	var sinks []string
	if d.now().sink != nil {
		sinks = append(sinks, d.now().sink.kind)
	}
	gone, err := events.Forget(ctx, d.store, sinks...)
	if err != nil {
		return fmt.Errorf("forget sinks: %w", err)
	}
	for _, sink := range gone {
		d.log.Info("sink forgotten", "sink", sink)
	}
	return nil
}

func (d *daemon) logPolicies(s *config.PolicySet, ps document.Problems) {
	d.log.Info("policies in force", "policies", strings.Join(slices.Sorted(maps.Keys(s.ByName)), ", "))
	for _, p := range ps.Warnings() {
		d.log.Warn("policy warning", "outcome", p.String())
	}
}

func orUnchanged(changes []string) string {
	if len(changes) == 0 {
		return "unchanged"
	}
	return strings.Join(changes, ", ")
}
