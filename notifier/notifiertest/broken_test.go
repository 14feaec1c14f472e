package notifiertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/belayd/belay/notifier"
)

// A board is a notifier in memory that keeps the contract: a message a key.
type board struct {
	mu       sync.Mutex
	messages map[string]int // by key: how many people see
	down     error
	silent   chan struct{}
	arrived  chan struct{}
}

const boardSecret = "cAnAry-board-secret"

func (b *board) Notify(ctx context.Context, n notifier.Notice) (string, error) {
	b.mu.Lock()
	down, silent := b.down, b.silent
	b.mu.Unlock()
	if silent != nil && ctx.Err() == nil {
		b.arrived <- struct{}{}
		<-ctx.Done()
	}
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("pin: %w", err)
	}
	if down != nil {
		return "", fmt.Errorf("pin: %w", down)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages[n.Key] = 1
	return "at/" + n.Key, nil
}

func (b *board) subject(n notifier.Notifier) Subject {
	return Subject{
		Notifier: n, Secrets: []string{boardSecret},
		Messages: func(key string) int {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.messages[key]
		},
		Break: func() { b.set(errors.New("the wall is gone"), nil) },
		Silence: func() <-chan struct{} {
			b.set(nil, make(chan struct{}))
			return b.arrived
		},
		Heal: func() { b.set(nil, nil) },
	}
}

func (b *board) set(down error, silent chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down, b.silent = down, silent
}

func newBoard() *board { return &board{messages: map[string]int{}, arrived: make(chan struct{}, 8)} }

// notify is a notifier that is a function.
type notify func(ctx context.Context, n notifier.Notice) (string, error)

func (f notify) Notify(ctx context.Context, n notifier.Notice) (string, error) { return f(ctx, n) }

// A broken notifier breaks one rule, and the part of Exercise that stands for the
// rule must fail.
type broken struct {
	name     string // it completes "a notifier that …"
	caughtBy string
	wrap     func(*board) notify
}

var brokens = []broken{
	{"forgets a topic", "every topic is delivered", func(b *board) notify {
		return func(ctx context.Context, n notifier.Notice) (string, error) {
			if n.Topic == notifier.TopicThread {
				return "", nil
			}
			return b.Notify(ctx, n)
		}
	}},
	{"posts an update as another message", "the same key is the same message", func(b *board) notify {
		return func(ctx context.Context, n notifier.Notice) (string, error) {
			ref, err := b.Notify(ctx, n)
			if n.Ref != "" {
				b.mu.Lock()
				b.messages[n.Key]++
				b.mu.Unlock()
			}
			return ref, err
		}
	}},
	{"changes the reference", "the same key is the same message", func(b *board) notify {
		return func(ctx context.Context, n notifier.Notice) (string, error) {
			ref, err := b.Notify(ctx, n)
			return ref + n.Delivery, err
		}
	}},
	{"posts a repeated delivery twice", "a repeated delivery is one message", func(b *board) notify {
		return func(ctx context.Context, n notifier.Notice) (string, error) {
			b.mu.Lock()
			before := b.messages[n.Key]
			b.mu.Unlock()
			ref, err := b.Notify(ctx, n)
			b.mu.Lock()
			defer b.mu.Unlock()
			if err == nil && n.Ref == "" {
				b.messages[n.Key] = before + 1
			}
			return ref, err
		}
	}},
	{"refuses long texts", "hostile text is delivered", func(b *board) notify {
		return func(ctx context.Context, n notifier.Notice) (string, error) {
			if len(n.Summary) > 1000 {
				return "", notifier.ErrPermanent
			}
			return b.Notify(ctx, n)
		}
	}},
	{"does not say that the context ended", "an ended context ends the call", func(b *board) notify {
		return func(ctx context.Context, n notifier.Notice) (string, error) {
			ref, err := b.Notify(ctx, n)
			if err != nil {
				err = errors.New("pin: nothing came of it")
			}
			return ref, err
		}
	}},
	{"calls an ended context permanent", "an ended context ends the call", func(b *board) notify {
		return func(ctx context.Context, n notifier.Notice) (string, error) {
			ref, err := b.Notify(ctx, n)
			if err != nil {
				err = fmt.Errorf("%w: %w", notifier.ErrPermanent, err)
			}
			return ref, err
		}
	}},
	{"swallows an outage", "an outage may pass and tells no secret", func(b *board) notify {
		return func(ctx context.Context, n notifier.Notice) (string, error) {
			ref, err := b.Notify(ctx, n)
			if ctx.Err() == nil {
				err = nil
			}
			return ref, err
		}
	}},
	{"tells its secret", "an outage may pass and tells no secret", func(b *board) notify {
		return func(ctx context.Context, n notifier.Notice) (string, error) {
			ref, err := b.Notify(ctx, n)
			if err != nil {
				err = fmt.Errorf("with %s: %w", boardSecret, err)
			}
			return ref, err
		}
	}},
	{"loses a notice among many", "concurrent notices all arrive", func(b *board) notify {
		return func(ctx context.Context, n notifier.Notice) (string, error) {
			if strings.HasSuffix(n.Key, "/3") && strings.HasPrefix(n.Key, "page") && len(n.Summary) > 40 && len(n.Summary) < 1000 {
				return "at/" + n.Key, nil
			}
			return b.Notify(ctx, n)
		}
	}},
	{"calls every status permanent", "retry table", nil},
	{"does not hear Retry-After", "retry table", nil},
	{"repeats what it was answered", "retry table", nil},
}

// statuses are the notifiers over HTTP that classify as their names say.
func statuses(name string, s *Server) notify {
	return func(ctx context.Context, _ notifier.Notice) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, http.NoBody)
		if err != nil {
			return "", err
		}
		secrets := []string{boardSecret}
		if name == "repeats what it was answered" {
			secrets = nil
		}
		_, err = notifier.Do(Client(), req, secrets...)
		switch {
		case err == nil:
		case name == "calls every status permanent":
			err = fmt.Errorf("%w: %w", notifier.ErrPermanent, err)
		case name == "does not hear Retry-After":
			if retry, ok := errors.AsType[*notifier.RetryError](err); ok {
				err = retry.Err
			}
		}
		return "", err
	}
}

// TestExercise: a notifier that keeps the contract passes.
func TestExercise(t *testing.T) {
	Exercise(t, func(*testing.T) Subject {
		b := newBoard()
		return b.subject(b)
	})
	s := NewServer(t, http.NotFoundHandler())
	RetryTable(t, statuses("is right", s), s, boardSecret)
}

const brokenEnv = "BELAY_BROKEN_NOTIFIER"

// TestBrokenNotifiersAreCaught runs each broken notifier in a child process, since
// a test cannot fail without its parent.
func TestBrokenNotifiersAreCaught(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range brokens {
		t.Run(b.name, func(t *testing.T) {
			part := strings.ReplaceAll(b.caughtBy, " ", "_")
			cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestBrokenNotifier$/^"+part+"$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), brokenEnv+"="+b.name)
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed {
				t.Fatalf("got %v from the tests of a notifier that %s, want them to fail:\n%s", err, b.name, out)
			}
			if want := "--- FAIL: TestBrokenNotifier/" + part + " "; !bytes.Contains(out, []byte(want)) {
				t.Errorf("a notifier that %s: got no %q in\n%s", b.name, want, out)
			}
		})
	}
}

// TestBrokenNotifier is the child.
func TestBrokenNotifier(t *testing.T) {
	i := slices.IndexFunc(brokens, func(b broken) bool { return b.name == os.Getenv(brokenEnv) })
	if i < 0 {
		return // not the child of TestBrokenNotifiersAreCaught
	}
	if brokens[i].wrap == nil {
		t.Run("retry table", func(t *testing.T) {
			s := NewServer(t, http.NotFoundHandler())
			RetryTable(t, statuses(brokens[i].name, s), s, boardSecret)
		})
		return
	}
	Exercise(t, func(*testing.T) Subject {
		b := newBoard()
		return b.subject(brokens[i].wrap(b))
	})
}
