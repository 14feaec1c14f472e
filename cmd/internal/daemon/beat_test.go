package daemon

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The heart beats while checks come to an end, stops while one is stuck,
// starts no second check meanwhile, and goes on afterwards.
func TestHeart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var beats, checks atomic.Int32
		stuck := make(chan struct{})
		close(stuck)
		var gate atomic.Pointer[chan struct{}]
		gate.Store(&stuck)
		h := heart{every: time.Second, beat: func() { beats.Add(1) }, check: func() {
			checks.Add(1)
			<-*gate.Load()
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		expect := func(what string, wait time.Duration, wantBeats, wantChecks int32) {
			t.Helper()
			beats.Store(0)
			checks.Store(0)
			time.Sleep(wait)
			synctest.Wait()
			if beats.Load() != wantBeats || checks.Load() != wantChecks {
				t.Errorf("%s: got %d beats of %d checks, want %d of %d", what, beats.Load(), checks.Load(), wantBeats, wantChecks)
			}
		}
		time.Sleep(500 * time.Millisecond)
		expect("well", 5*time.Second, 5, 5)
		closed := gate.Load()
		block := make(chan struct{})
		gate.Store(&block)
		expect("stuck", 5*time.Second, 0, 1)
		gate.Store(closed)
		close(block)
		synctest.Wait()
		expect("well again", 3*time.Second, 3, 3)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
}
