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

// What must be alone begins after the one before has ended, however long that
// takes; everything else begins while the one before winds up; what goes on is left
// alone; and one that fails is named and run again.
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
		work := func(name string, alone bool) task {
			return task{name: name, of: &struct{ string }{name}, alone: alone, run: func(ctx context.Context) error {
				say("+%s", name)
				<-ctx.Done()
				time.Sleep(time.Second) // to wind up
				say("-%s", name)
				return nil
			}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var ts tasks
		ts.start(ctx, slog.New(slog.DiscardHandler))
		stays, trigger, slack := work("stays", false), work("trigger1", true), work("slack1", false)
		ts.set([]task{stays})
		expect("the first", "+stays")
		ts.set([]task{stays, trigger})
		expect("a trigger", "+trigger1")
		next := work("trigger2", true)
		ts.set([]task{stays, next})
		expect("another trigger", "-trigger1, +trigger2")
		ts.set([]task{stays, next, slack})
		expect("an app", "+slack1")
		ts.set([]task{stays, next, work("slack2", false)})
		expect("another app", "+slack2")
		time.Sleep(2 * time.Second)
		expect("and the one before", "-slack1")
		broken := task{name: "broken", of: &said, run: func(context.Context) error { say("!broken"); return errors.New("no more") }}
		ts.set([]task{stays, broken})
		time.Sleep(2 * time.Second)
		mu.Lock()
		if got := strings.Join(said, ", "); strings.Count(got, "!broken") != 2 || !strings.Contains(got, "-trigger2") {
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
		ts.set([]task{work("late", false)})
		expect("after the end", "")
	})
}
