package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/view"
)

func watchCommand() *command {
	return &command{
		name: "watch", args: "ID", short: "Follow a rollout until it ends.", min: 1, max: 1,
		long: "On a terminal one screen is redrawn in place; elsewhere each change is a line.\n" +
			"The exit code is the rollout's. Ctrl-C detaches: the rollout goes on.\n" +
			"With --output json, yaml or name the lines go to standard error, and the rollout is printed once it has ended.",
		examples: []string{"belay watch kq3x7m2p5j4dhz6wvnra", "belay watch ID --timeout 2h > rollout.log",
			"belay watch ID --output json 2> rollout.log | jq .exit"},
		setup: func(f *flags) run {
			conn := f.connection()
			timeout := f.Duration("timeout", 0, "stop watching after this `DURATION`; exit code 7")
			output := f.choice("output", "how to print the end", "table", "json", "yaml", "name")
			return func(ctx context.Context, e *env, args []string) error {
				c, err := conn.client(e)
				if err != nil {
					return err
				}
				if *output == "table" {
					_, err = watch(ctx, e, c, args[0], *timeout)
					return err
				}
				return await(ctx, e, c, args[0], *timeout, *output)
			}
		},
	}
}

// An outcome is a rollout as it was last seen, with the exit code that says how the
// command ended.
type outcome struct {
	view.Rollout
	Exit int `json:"exit"`
}

// await is watch for programs: what happens meanwhile goes to standard error, and the
// outcome alone to standard output, whatever it is.
func await(ctx context.Context, e *env, c *api.Client, id string, timeout time.Duration, output string) error {
	aside := *e
	aside.stdout, aside.tty, aside.color = e.stderr, false, false
	last, err := watch(ctx, &aside, c, id, timeout)
	if last.ID == "" {
		return err
	}
	return errors.Join(err, e.printOutcome(output, last, exitCode(err)))
}

// printOutcome prints a rollout and the code with which the command ends.
func (e *env) printOutcome(output string, r view.Rollout, code int) error {
	return e.print(output, outcome{r, code}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s is %s: %s\n", r.ID, e.phase(r.Phase), e.told(r.Sentence))
		return err
	}, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, r.ID)
		return err
	})
}

// watch shows a rollout until it ends, the time is over, or ctx ends, and returns it
// as it was last seen. The error tells the exit code.
func watch(
	ctx context.Context, e *env, c *api.Client, id string, timeout time.Duration,
) (last view.Rollout, err error) {
	s := newScreen(e)
	last, err = follow(ctx, c, id, s, timeout)
	s.end()
	switch {
	case err == nil, last.Phase.Terminal():
		return last, ended(last)
	case ctx.Err() != nil:
		fmt.Fprintf(e.stderr, "detached; the rollout goes on\nback       %s\nroll back  %s\n", e.belay("watch", id),
			e.belay("rollback", id, "--reason '…'"))
		return last, &codeError{code: exitDetached}
	case errors.Is(err, errTimeout):
		if last.Unconfirmed {
			return last, &codeError{exitUnconfirmed, fmt.Errorf("%s after %s: the rollback is not confirmed",
				last.Phase, timeout)}
		}
		return last, &codeError{exitTimeout, fmt.Errorf("still %s after %s", last.Phase, timeout)}
	}
	return last, err
}

// errTimeout: the time that a person gave is over.
var errTimeout = errors.New("timeout")

// errEnded: the rollout has ended, whatever is left to be told about it.
var errEnded = errors.New("ended")

// lastWords is how long after the end of a rollout its stream may go on: the last
// entries of the journal come, but not what waits for a notifier that is away.
const lastWords = 3 * time.Second

// follow feeds a screen with a rollout's stream and returns the rollout as it was
// last seen. The error is nil when the stream ended, which it does when nothing of
// the rollout is left to do.
func follow(
	ctx context.Context, c *api.Client, id string, s *screen, timeout time.Duration,
) (last view.Rollout, err error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
		defer cancel()
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var ending *time.Timer
	defer func() {
		if ending != nil {
			ending.Stop()
		}
	}()
	ticking, stop := context.WithCancel(ctx)
	var ticker sync.WaitGroup
	defer ticker.Wait()
	defer stop()
	ticker.Go(func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				s.tick()
			case <-ticking.Done():
				return
			}
		}
	})
	seen := -1 // the last journal entry that was shown
	for ev, err := range c.Follow(ctx, id) {
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return last, err
		}
		if seen < 0 {
			// The stream has begun: what was before it is in the journal.
			if seen, err = past(ctx, c, id, s); err != nil {
				return last, err
			}
		}
		switch {
		case ev.Rollout != nil:
			if last = *ev.Rollout; last.Phase.Terminal() && ending == nil {
				ending = time.AfterFunc(lastWords, func() { end(errEnded) })
			}
		case ev.Entry.Entry.Seq <= seen:
			continue
		}
		s.show(ev)
	}
	return last, context.Cause(ctx)
}

// past shows the journal so far and returns the number of its last entry.
func past(ctx context.Context, c *api.Client, id string, s *screen) (int, error) {
	seq := 0
	for entry, err := range c.Journal(ctx, id) {
		if err != nil {
			return seq, err
		}
		seq = entry.Seq
		s.show(api.StreamEvent{Entry: &api.StreamEntry{Entry: entry}})
	}
	return seq, nil
}
