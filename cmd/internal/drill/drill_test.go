package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/notifier"
)

// A pager writes down what it is told and when.
type pager struct {
	fail  error
	begun time.Time

	mu  sync.Mutex
	got []string
}

func (p *pager) Notify(_ context.Context, n notifier.Notice) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return "", p.fail
	}
	what := fmt.Sprintf("%s %s", n.Topic, n.Severity)
	if n.Resolve {
		what = fmt.Sprintf("end (%s)", n.Ref)
	}
	p.got = append(p.got, fmt.Sprintf("%s %s", time.Since(p.begun), what))
	return "ref-" + n.Key[:4], nil
}

// running runs a drill; stop ends it and waits.
func running(t *testing.T, d *Drill) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	}
}

// A test is open for ten minutes, with the severity of a page: a pager that tells
// people only after a while, as an Alertmanager does, still tells of it. Then it
// ends, under the reference that it had.
func TestEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &Drill{Log: slog.New(slog.DiscardHandler)}, &pager{begun: time.Now()}
		stop := running(t, d)
		ends, err := d.Send(t.Context(), "oncall", p, "ann")
		if err != nil || !ends.Equal(p.begun.Add(notifier.TestLasts)) {
			t.Errorf("Send: got an end at %s, %v, want one after %s", ends, err, notifier.TestLasts)
		}
		time.Sleep(time.Minute)
		if _, err := d.Send(t.Context(), "oncall", p, "ann"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		stop()
		want := []string{"0s test critical", "1m0s test critical", "10m0s end (ref-test)", "11m0s end (ref-test)"}
		if diff := cmp.Diff(want, p.got); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// A process that stops leaves no test open, and one that is away keeps it from
// stopping for a bounded time.
func TestEndsWithTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &Drill{Log: slog.New(slog.DiscardHandler)}, &pager{begun: time.Now()}
		stop := running(t, d)
		if _, err := d.Send(t.Context(), "oncall", p, "ann"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stop()
		if diff := cmp.Diff([]string{"0s test critical", "1m0s end (ref-test)"}, p.got); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// What a notifier says of a failure is the answer, and nothing is left to end; and
// not more tests are open than can be ended when the process stops.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p := &Drill{Log: slog.New(slog.DiscardHandler)}, &pager{begun: time.Now(), fail: errors.New("channel_not_found")}
		stop := running(t, d)
		if _, err := d.Send(t.Context(), "slack", p, "ann"); !errors.Is(err, p.fail) || len(d.open) != 0 {
			t.Errorf("Send: got %v and %d open, want the notifier's error and none", err, len(d.open))
		}
		p.fail = nil
		for range most + 5 {
			if _, err := d.Send(t.Context(), "slack", p, "ann"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		ended := 0
		for _, line := range p.got {
			if strings.Contains(line, " end ") {
				ended++
			}
		}
		if ended != 5 || len(d.open) != most {
			t.Errorf("after %d tests: got %d ended and %d open, want 5 and %d", most+5, ended, len(d.open), most)
		}
		stop()
	})
}
