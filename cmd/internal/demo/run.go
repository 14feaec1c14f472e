package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/belayd/belay/cmd/internal/daemon"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/view"
)

// The exit codes of a demo, as those of every rollout.
const (
	exitPromoted   = 0
	exitRolledBack = 5
	exitStopped    = 6
	exitTimeout    = 7
	exitHeld       = 8
	exitRefused    = 9
)

// longest bounds a demo at speed 1, and lookAfter is how long one that is held
// for a person is shown before it ends.
const (
	longest   = 4 * time.Minute
	lookAfter = 3 * time.Second
)

// A View shows a rollout of the daemon at server until ctx ends or the rollout
// does.
type View func(ctx context.Context, server, id string, out io.Writer) error

// Run opens a world, runs a daemon in it exactly as belayd does, publishes a
// release on JetStream and shows what becomes of it. It returns the exit code of
// the rollout. dir holds everything the demo writes and is kept.
func Run(ctx context.Context, o Options, version string, out io.Writer, show View) (int, error) {
	screen := &locked{w: out}
	if o.Answers != nil {
		defer func() { _ = o.Answers.Close() }() // mostly it is closed already
	}
	o.Show = func(p Page) { fmt.Fprintf(screen, "pager    %s\n", p) }
	w, err := Open(o)
	if err != nil {
		return 1, err
	}
	fmt.Fprintf(screen, "policy   %s\nconfig   %s\nlog      %s\n", w.Policy, w.Config,
		filepath.Join(w.Dir, "belayd.log"))
	limit := max(o.Speed.scale(longest), time.Minute)
	if o.Answers != nil {
		limit += forAnswer
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := w.live(ctx, version, screen, show)
	if err != nil {
		return 1, errors.Join(err, w.Close())
	}
	err = w.report(screen, r)
	return exitCode(r), errors.Join(err, w.Close())
}

// live runs the world, the daemon in it and the view until the rollout has
// ended or waits for a person.
func (w *World) live(ctx context.Context, version string, screen io.Writer, show View) (view.Rollout, error) {
	log, err := w.create(filepath.Join(w.Dir, "belayd.log"))
	if err != nil {
		return view.Rollout{}, err
	}
	living, stopWorld := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorld()
	serving, stopDaemon := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDaemon()
	address := make(chan string, 1)
	daemonErr, worldErr := make(chan error, 1), make(chan error, 1)
	go func() { worldErr <- w.Run(living) }()
	go func() {
		daemonErr <- daemon.Run(serving, daemon.Options{ConfigFile: w.Config, Version: version,
			Logger: slog.New(slog.NewTextHandler(log, nil)), Ready: func(a string) { address <- a }})
	}()
	var r view.Rollout
	select {
	case a := <-address:
		r, err = w.follow(ctx, "http://"+a, screen, show)
	case err = <-daemonErr:
		daemonErr <- nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	stopDaemon()
	err = errors.Join(err, <-daemonErr)
	stopWorld()
	return r, errors.Join(err, <-worldErr)
}

// follow publishes the release and shows its rollout to the end.
func (w *World) follow(ctx context.Context, server string, screen io.Writer, show View) (view.Rollout, error) {
	client, err := api.NewClient(server, &http.Client{}, "")
	if err != nil {
		return view.Rollout{}, err
	}
	if err := w.Publish(ctx); err != nil {
		return view.Rollout{}, err
	}
	fmt.Fprintf(screen, "server   %s\nrelease  %s %s is announced on %s.%s\n", server, Candidate, CandidateVersion,
		subjectRoot, PolicyName)
	r, err := w.appears(ctx, client)
	if err != nil {
		return r, err
	}
	viewing, stopView := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := show(viewing, server, r.ID, screen); err != nil && viewing.Err() == nil {
			fmt.Fprintf(screen, "view     %v\n", err)
		}
	})
	if w.opts.Answers != nil {
		wg.Go(func() { w.answer(viewing, client, server, r.ID, screen) })
	}
	r, err = w.ends(ctx, client, r.ID)
	if !r.Phase.Terminal() {
		stopView()
	}
	wg.Wait()
	stopView()
	return r, err
}

// appears waits until the daemon has made the message a rollout.
func (w *World) appears(ctx context.Context, client *api.Client) (view.Rollout, error) {
	for {
		for r, err := range client.Rollouts(ctx, view.Filter{}) {
			if err == nil {
				return r, nil
			}
			break
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return view.Rollout{}, fmt.Errorf("wait for the rollout: %w", err)
		}
	}
}

// ends waits until the rollout is closed, or held for a person and shown.
func (w *World) ends(ctx context.Context, client *api.Client, id string) (view.Rollout, error) {
	var last view.Rollout
	for {
		r, err := client.Rollout(ctx, id)
		if err == nil {
			last = r
		}
		switch {
		case err == nil && r.Closed:
			return r, nil
		case err == nil && forPerson(r) && time.Since(r.Since) > lookAfter && len(w.PagesReceived()) > 0:
			return r, nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return last, nil //nolint:nilerr // the time of the demo is over: the rollout is shown as it is
		}
	}
}

// forPerson reports whether only a person can end the rollout's hold.
func forPerson(r view.Rollout) bool {
	held := r.Phase == rollout.PhaseHeld || r.Phase == rollout.PhasePaused || r.Phase == rollout.PhaseSuspect
	return held && r.Reason != decision.ReasonNoData && r.Reason != decision.ReasonSourceError
}

// exitCode is what a script sees of the rollout's end.
func exitCode(r view.Rollout) int {
	switch r.Phase {
	case rollout.PhasePromoted:
		return exitPromoted
	case rollout.PhaseRolledBack:
		return exitRolledBack
	case rollout.PhaseStopped:
		return exitStopped
	case rollout.PhaseRefused:
		return exitRefused
	case rollout.PhaseHeld, rollout.PhasePaused, rollout.PhaseSuspect, rollout.PhaseWaiting:
		return exitHeld
	case rollout.PhaseQueued, rollout.PhaseScheduled, rollout.PhasePreflight, rollout.PhaseShifting,
		rollout.PhaseBaking, rollout.PhaseRollingBack:
		return exitTimeout
	}
	return exitTimeout
}

// Folder makes the folder of a demo: the one named, or a new temporary one.
func Folder(keep string) (string, error) {
	if keep == "" {
		return os.MkdirTemp("", "belay-demo-*")
	}
	return keep, os.MkdirAll(keep, 0o700)
}

// pause waits, or says why it could not.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// locked lets several writers share the screen line by line.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes under the lock.
func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
