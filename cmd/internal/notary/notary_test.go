package notary

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/rollout/audit"
	"github.com/belayd/belay/store/mem"
)

// A head is taken at once and at the beginning of every day; one that nobody takes
// is offered until somebody does, and shown all the same.
func TestEveryDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		write := func(id string) {
			if _, err := s.Append(t.Context(), "rollout/"+id, []byte(`{"seq":1}`), []byte("{}"), 0); err != nil {
				t.Fatal(err)
			}
		}
		write("r1")
		var got []string
		away := true
		n := New(s, func(_ context.Context, day time.Time, h audit.Checkpoint) error {
			if away {
				return errors.New("nobody there")
			}
			got = append(got, fmt.Sprintf("%s %d", EventID(day), DataOf(h).Rollouts))
			return nil
		}, slog.New(slog.DiscardHandler))
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(n)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = n.Run(ctx) })
		time.Sleep(10 * time.Minute)
		if len(got) != 0 {
			t.Errorf("got %v, want nothing while nobody is there", got)
		}
		families, err := registry.Gather()
		if err != nil || len(families) != 2 || !strings.Contains(families[0].String(), `-1-`) {
			t.Errorf("metrics: got %v, %v; want the head", families, err)
		}
		away = false
		time.Sleep(2 * time.Minute)
		write("r2")
		time.Sleep(50 * time.Hour)
		stop()
		wg.Wait()
		want := []string{"audit/2000-01-01 1", "audit/2000-01-02 2", "audit/2000-01-03 2"}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
