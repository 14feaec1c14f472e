package daemon

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
)

// Those of another generation begin once the ones before have ended, or have been left
// behind; and one that fails is named and run again.
func TestTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var said []string
		say := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, fmt.Sprintf(format, args...))
		}
		expect := func(when, want string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(said, ", "); got != want {
				t.Errorf("%s: got %q, want %q", when, got, want)
			}
			said = nil
		}
		work := func(name string, winds time.Duration) task {
			return task{name: name, run: func(ctx context.Context) error {
				say("+%s", name)
				<-ctx.Done()
				time.Sleep(winds)
				say("-%s", name)
				return nil
			}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var ts tasks
		ts.start(ctx, slog.New(slog.DiscardHandler))
		ts.replace([]task{work("trigger1", time.Second)})
		expect("the first", "+trigger1")
		ts.replace([]task{work("trigger2", time.Minute)})
		expect("another", "-trigger1, +trigger2")
		began := time.Now()
		ts.replace([]task{work("trigger3", 0)})
		expect("one after a task that does not end", "+trigger3")
		if took := time.Since(began); took != taskStopMax {
			t.Errorf("it was waited for %s, want %s", took, taskStopMax)
		}
		time.Sleep(time.Minute)
		expect("which ends by itself", "-trigger2")
		ts.replace([]task{work("stays", time.Second), {name: "broken", run: func(context.Context) error { say("!broken"); return errors.New("no more") }}})
		time.Sleep(2 * time.Second)
		mu.Lock()
		if got := strings.Join(said, ", "); strings.Count(got, "!broken") != 2 || !strings.Contains(got, "-trigger3") {
			t.Errorf("a task that fails: got %q, want it to be run twice", got)
		}
		said = nil
		mu.Unlock()
		if got := ts.problems(); len(got) != 1 || got[0] != "broken: no more" {
			t.Errorf("problems: got %q", got)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		mu.Lock()
		if n := len(said); n < 9 || n > 16 {
			t.Errorf("tries of ten minutes: got %d, want one a minute at last", n)
		}
		said = nil
		mu.Unlock()
		cancel()
		ts.wait()
		expect("the end", "-stays")
		ts.replace([]task{work("late", 0)})
		expect("after the end", "")
	})
}
