package traffic

import (
	"fmt"
	"maps"
	"slices"
)

// Validate reports whether `to` may be written: no weight or mirror share is
// negative, weights sum to exactly 100, and no deployment has live and mirrored
// traffic at once. The error wraps ErrPermanent.
func Validate(to Split) error {
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(to.Weights)) {
		w := to.Weights[name]
		if name == "" || w < 0 || w > 100 {
			return fmt.Errorf("check split: weight of deployment %q is %d, want 0 to 100: %w", name, w, ErrPermanent)
		}
		sum += w
	}
	if sum != 100 {
		return fmt.Errorf("check split: weights sum to %d, want 100: %w", sum, ErrPermanent)
	}
	for _, name := range slices.Sorted(maps.Keys(to.Mirror)) {
		m := to.Mirror[name]
		switch {
		case name == "" || m < 0 || m > 100:
			return fmt.Errorf("check split: mirror share of deployment %q is %d, want 0 to 100: %w", name, m,
				ErrPermanent)
		case m > 0 && to.Weights[name] > 0:
			return fmt.Errorf("check split: deployment %q has live and mirrored traffic: %w", name, ErrPermanent)
		}
	}
	return nil
}

// NeedsWrite decides, by what the endpoint shows now, whether Shift(from, to)
// has to write: no when it already shows `to`; yes when it shows `from`, with
// the same version if both have one. Otherwise the error wraps
// ErrForeignChange.
func NeedsWrite(now, from, to Split) (bool, error) {
	switch {
	case now.Equal(to):
		return false, nil
	case !now.Equal(from):
		return false, fmt.Errorf("compare split: got %s, want %s: %w", now, from, ErrForeignChange)
	case now.Version != "" && from.Version != "" && now.Version != from.Version:
		return false, fmt.Errorf("compare split: got version %q, want %q: %w", now.Version, from.Version,
			ErrForeignChange)
	}
	return true, nil
}

// Positive returns m without its zeroes; nil when nothing remains.
func Positive(m map[string]int) map[string]int {
	var out map[string]int
	for k, v := range m {
		if v != 0 {
			if out == nil {
				out = make(map[string]int, len(m))
			}
			out[k] = v
		}
	}
	return out
}
