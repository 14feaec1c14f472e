// Package backoff says how long to wait before what failed is tried again.
package backoff

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Pause is the pause before the n-th try in a row, n from 1: it doubles from base up
// to most, and spread, from 0 to 1, makes it up to a quarter shorter or longer, so that
// not all who wait for one server come back in one instant.
func Pause(try int, base, most time.Duration, spread float64) time.Duration {
	d := base
	for range min(max(try-1, 0), 20) {
		if d *= 2; d >= most {
			break
		}
	}
	d = min(d, most)
	return d*3/4 + time.Duration(spread*float64(d)/2)
}

// For is the pause before the n-th try of what the rollout tries, spread by who tries what:
// the same for the same rollout, another one for every other.
func For(rollout, what string, try int, base, most time.Duration) time.Duration {
	return Pause(try, base, most, spread(fmt.Sprintf("%s/%s/%d", rollout, what, try)))
}

// spread is a number from 0 to 1 that depends on nothing but the text.
func spread(text string) float64 {
	h := sha256.Sum256([]byte(text))
	return float64(binary.BigEndian.Uint32(h[:])) / math.MaxUint32
}
