package traffictest

import (
	"context"
	"errors"
	"time"

	"github.com/belayd/belay/rollout/traffic"
)

// ErrInjected is the cause of the failures that faults make: a broken
// connection, an answer that got lost.
var ErrInjected = errors.New("injected fault")

// LoseAnswer applies the write and loses the answer.
func LoseAnswer(context.Context, *Call) (bool, error) { return true, ErrInjected }

// Fail does not apply the write and loses the answer.
func Fail(context.Context, *Call) (bool, error) { return false, ErrInjected }

// NeverApply accepts the write and does nothing.
func NeverApply(context.Context, *Call) (bool, error) { return false, nil }

// Refuse answers err and does nothing.
func Refuse(err error) Hook {
	return func(context.Context, *Call) (bool, error) { return false, err }
}

// Busy answers a BusyError that asks to wait for d.
func Busy(d time.Duration) Hook {
	return Refuse(&traffic.BusyError{RetryAfter: d, Err: ErrInjected})
}

// Late accepts the write; it takes effect d later.
func Late(d time.Duration) Hook {
	return func(_ context.Context, c *Call) (bool, error) {
		c.Lands = d
		return true, nil
	}
}

// LateAndLost is Late with the answer lost.
func LateAndLost(d time.Duration) Hook {
	return func(_ context.Context, c *Call) (bool, error) {
		c.Lands = d
		return true, ErrInjected
	}
}

// Partly accepts the write and puts s into effect instead.
func Partly(s traffic.Split) Hook {
	return func(_ context.Context, c *Call) (bool, error) {
		c.To = s.Clone()
		return true, nil
	}
}

// Slow answers d later, or when the caller gives up. The write is applied when
// the caller was still there.
func Slow(d time.Duration) Hook {
	return func(ctx context.Context, _ *Call) (bool, error) {
		if err := Wait(ctx, d); err != nil {
			return false, err
		}
		return true, nil
	}
}

// SlowButApplied is Slow, with the write applied even when the caller gave up.
func SlowButApplied(d time.Duration) Hook {
	return func(ctx context.Context, _ *Call) (bool, error) {
		return true, Wait(ctx, d)
	}
}

// Raced lets someone else write s between what the router saw and its write.
func Raced(f *Fake, s traffic.Split) Hook {
	return func(_ context.Context, c *Call) (bool, error) {
		f.Foreign(c.Endpoint, s)
		return true, nil
	}
}

// Wait waits for d or until ctx ends, and then returns its error. It uses a
// timer alone, as testing/synctest needs.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
