package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/view"
)

const (
	// crashCode is how belayd ends at a crash point; see
	// cmd/internal/daemon/crash.go.
	crashCode = 137
	// crashKey is the idempotency key of the one rollout of every run.
	crashKey = "release-1"
	// crashesAtOnce is how many belayds live at the same time: they mostly wait.
	crashesAtOnce = 24
	// crashPatience is the longest that one run may take. Nothing is asserted of
	// how long it does take.
	crashPatience = 5 * time.Minute
)

// TestCrashPoints lets belayd carry a small rollout to its end undisturbed, with
// an approval, once promoted and once rolled back, and notes every crash point
// passed: before and after each durable write and each call of somebody outside.
// Then, for every one of them that leaves something else behind, it does the same again
// with a belayd that dies there and is started again. Whoever looks from outside, at the endpoint's own
// log, the messages and the journal, must not be able to tell.
func TestCrashPoints(t *testing.T) {
	belayd := realtest.Build(t, "belayd", "crashpoints")
	free := make(chan struct{}, crashesAtOnce)
	for _, breach := range []bool{false, true} {
		t.Run(map[bool]string{false: "promotion", true: "rollback"}[breach], func(t *testing.T) {
			t.Parallel()
			points := crashPointsOf(t, belayd, breach)
			all := len(points)
			points = distinct(points)
			if testing.Short() {
				points = sampleOf(points, breach)
			}
			if len(points) < 20 {
				t.Fatalf("an undisturbed run passed %d points, want at least 20: %v", len(points), points)
			}
			began, deaths := time.Now(), 0
			var wg sync.WaitGroup
			var mu sync.Mutex
			for _, at := range points {
				free <- struct{}{}
				wg.Go(func() {
					defer func() { <-free }()
					r := runCrash(t, belayd, t.TempDir(), breach, at, "")
					mu.Lock()
					defer mu.Unlock()
					deaths += r.deaths
					// Some points come as often as time allows; the first passing always does.
					if r.deaths == 0 && strings.HasSuffix(at, ":1") {
						t.Errorf("%s: belayd did not pass it", at)
					}
					for _, x := range r.problems {
						t.Errorf("%s: %s", at, x)
					}
				})
			}
			wg.Wait()
			t.Logf("%d of %d points tried in %s: %d deaths", len(points), all, time.Since(began).Round(time.Second), deaths)
			if deaths < len(points)/2 {
				t.Errorf("belayd died %d times at %d points: that proves too little", deaths, len(points))
			}
		})
	}
}

// crashPointsOf are the points that an undisturbed run passes, in order.
func crashPointsOf(t *testing.T, belayd string, breach bool) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "points")
	r := runCrash(t, belayd, t.TempDir(), breach, "", file)
	if len(r.problems) > 0 {
		t.Fatalf("undisturbed: %s", strings.Join(r.problems, "\n"))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// distinct are the points whose deaths leave different things behind. Between the end of
// one call and the beginning of the next nothing is written and nobody outside is
// called, so that of the two points there the first alone is tried.
func distinct(points []string) []string {
	var out []string
	for i, at := range points {
		if i == 0 || strings.Contains(at, ".after:") || !strings.Contains(points[i-1], ".after:") {
			out = append(out, at)
		}
	}
	return out
}

// sampleOf is one passing of every name: the first, or the last but one where
// the end of the run is what differs.
func sampleOf(points []string, last bool) []string {
	passings, names := map[string][]string{}, []string{}
	for _, at := range points {
		name := at[:strings.LastIndexByte(at, ':')]
		if passings[name] == nil {
			names = append(names, name)
		}
		passings[name] = append(passings[name], at)
	}
	var out []string
	for _, name := range names {
		i := 0
		if last {
			i = max(0, len(passings[name])-2)
		}
		out = append(out, passings[name][i])
	}
	return out
}

// A daemonLog is what belayd wrote.
type daemonLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *daemonLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *daemonLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A mortal is one belayd process.
type mortal struct {
	cmd  *exec.Cmd
	log  *daemonLog
	done chan struct{} // closed when it has ended
}

// spawn starts belayd; at is where it dies ("" nowhere), points where it notes the
// points that it passes ("" nowhere). Whoever spawns it ends it.
func spawn(belayd, dir, at, points string) (*mortal, error) {
	m := &mortal{cmd: exec.Command(belayd, "--config", filepath.Join(dir, "belayd.yaml")), log: &daemonLog{}, done: make(chan struct{})}
	m.cmd.Env = append(os.Environ(), "BELAY_CRASH="+at, "BELAY_CRASH_LOG="+points)
	m.cmd.Stderr = m.log
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = m.cmd.Wait() // how it ended is in ProcessState
		close(m.done)
	}()
	return m, nil
}

// end kills it, unless it has ended.
func (m *mortal) end() {
	_ = m.cmd.Process.Kill()
	<-m.done
}

// address is where it serves; "" while it does not.
func (m *mortal) address() string {
	if a := serving.FindStringSubmatch(m.log.String()); a != nil {
		return a[1]
	}
	return ""
}

// code is its exit code; ok is false while it runs.
func (m *mortal) code() (code int, ok bool) {
	select {
	case <-m.done:
		return m.cmd.ProcessState.ExitCode(), true
	default:
		return 0, false
	}
}

// live carries one rollout to its end, as whoever runs belayd and whoever asked
// for the release would: belayd that died is started again, a request without an
// answer is repeated, the gate is approved once it asks. It reports how often
// belayd died, and how the rollout ended.
func live(ctx context.Context, belayd string, w *crashWorld, at, points string) (deaths int, last view.Rollout, err error) {
	m, err := spawn(belayd, w.dir, at, points)
	if err != nil {
		return 0, last, err
	}
	defer func() { m.end() }()
	for end := time.Now().Add(crashPatience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		code, over := m.code()
		switch {
		case over && code == crashCode && deaths == 0 && at != "":
			deaths++
			last = view.Rollout{}
			if m, err = spawn(belayd, w.dir, "", ""); err != nil {
				return deaths, last, err
			}
		case over && code == 0 && last.Closed:
			return deaths, last, nil
		case over:
			return deaths, last, fmt.Errorf("belayd ended with %d:\n%s", code, m.log)
		case !last.Closed && m.address() != "":
			if last, err = step(ctx, w, m.address()); err != nil {
				return deaths, last, fmt.Errorf("%w\n%s", err, m.log)
			}
			if last.Closed {
				if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
					return deaths, last, err
				}
			}
		}
	}
	return deaths, last, fmt.Errorf("after %s the rollout is %s: %s\n%s", crashPatience, last.Phase, last.Sentence, m.log)
}

// step asks for the rollout, which is the same however often it is asked for, and
// answers its gate. Whatever belayd cannot answer, since it may just have died,
// is asked again at the next step; an answer that refuses is an error.
func step(ctx context.Context, w *crashWorld, address string) (view.Rollout, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	as := map[string]*api.Client{}
	for _, who := range []string{"ci", "ann"} {
		client, err := api.NewClient("http://"+address, &http.Client{}, who)
		if err != nil {
			return view.Rollout{}, err
		}
		as[who] = client
	}
	r, _, err := as["ci"].Start(ctx, crashKey, api.StartRequest{Policy: "recs", Candidate: "green", Version: "v2", RequestedBy: "pipeline"})
	if err == nil {
		r, err = as["ci"].Rollout(ctx, r.ID)
	}
	if err != nil {
		return view.Rollout{}, refusal(err)
	}
	for _, g := range r.Gates {
		if g.State != approval.Open {
			continue
		}
		w.approved()
		_, err := as["ann"].Act(ctx, r.ID, "approve", "approve-"+g.Nonce, api.Act{Gate: g.Name, Nonce: g.Nonce})
		if err := refusal(err); err != nil {
			return r, err
		}
	}
	return r, nil
}

// refusal is an error that a living belayd gave as its answer; nil for those of
// one that is gone, and for what changes nothing: a gate may have been opened by
// an answer that was recorded before a death and repeated after it.
func refusal(err error) error {
	if p, ok := errors.AsType[*api.ProblemDetails](err); ok && p.Status < http.StatusInternalServerError && p.Type != api.TypeNoEffect {
		return err
	}
	return nil
}
