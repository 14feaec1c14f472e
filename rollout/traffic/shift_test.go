package traffic_test

import (
	"errors"
	"testing"

	"github.com/belayd/belay/rollout/traffic"
)

func splitOf(weights map[string]int, mirror map[string]int, version string) traffic.Split {
	return traffic.Split{Weights: weights, Mirror: mirror, Version: version}
}

// Nothing but weights that sum to 100 is ever written.
func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		to   traffic.Split
		ok   bool
	}{
		{"all to one", splitOf(map[string]int{"blue": 100}, nil, ""), true},
		{"shared, with a zero", splitOf(map[string]int{"blue": 40, "green": 60, "old": 0}, nil, ""), true},
		{"mirror", splitOf(map[string]int{"blue": 100}, map[string]int{"green": 10}, ""), true},
		{"nothing", splitOf(nil, nil, ""), false},
		{"all zero", splitOf(map[string]int{"blue": 0, "green": 0}, nil, ""), false},
		{"99", splitOf(map[string]int{"blue": 99}, nil, ""), false},
		{"101", splitOf(map[string]int{"blue": 96, "green": 5}, nil, ""), false},
		{"negative", splitOf(map[string]int{"blue": 105, "green": -5}, nil, ""), false},
		{"no name", splitOf(map[string]int{"": 100}, nil, ""), false},
		{"overflow", splitOf(map[string]int{"a": 1 << 62, "b": 1 << 62, "c": 1 << 62, "d": 1<<62 + 100}, nil, ""), false},
		{"live and mirrored", splitOf(map[string]int{"blue": 95, "green": 5}, map[string]int{"green": 10}, ""), false},
		{"negative mirror", splitOf(map[string]int{"blue": 100}, map[string]int{"green": -1}, ""), false},
	}
	for _, tt := range tests {
		err := traffic.Validate(tt.to)
		if (err == nil) != tt.ok {
			t.Errorf("Validate(%s): got %v, want ok %v", tt.name, err, tt.ok)
		}
		if err != nil && !errors.Is(err, traffic.ErrPermanent) {
			t.Errorf("Validate(%s): got %v, want it to wrap ErrPermanent", tt.name, err)
		}
	}
}

// What the endpoint shows decides whether there is anything to write.
func TestNeedsWrite(t *testing.T) {
	all, five := map[string]int{"blue": 100}, map[string]int{"blue": 95, "green": 5}
	tests := []struct {
		name          string
		now, from, to traffic.Split
		want          bool
		foreign       bool
	}{
		{"shows from", splitOf(all, nil, ""), splitOf(all, nil, ""), splitOf(five, nil, ""), true, false},
		{"shows to", splitOf(five, nil, ""), splitOf(all, nil, ""), splitOf(five, nil, ""), false, false},
		{"shows to, at another version", splitOf(five, nil, "9"), splitOf(all, nil, "1"), splitOf(five, nil, ""), false, false},
		{"shows neither", splitOf(nil, nil, ""), splitOf(all, nil, ""), splitOf(five, nil, ""), false, true},
		{"zeroes do not count", splitOf(all, nil, ""), splitOf(map[string]int{"blue": 100, "green": 0}, nil, ""), splitOf(five, nil, ""), true, false},
		{"same version", splitOf(all, nil, "7"), splitOf(all, nil, "7"), splitOf(five, nil, ""), true, false},
		{"another version", splitOf(all, nil, "8"), splitOf(all, nil, "7"), splitOf(five, nil, ""), false, true},
		{"no version required", splitOf(all, nil, "8"), splitOf(all, nil, ""), splitOf(five, nil, ""), true, false},
		{"mirror differs", splitOf(all, map[string]int{"green": 10}, ""), splitOf(all, nil, ""), splitOf(five, nil, ""), false, true},
	}
	for _, tt := range tests {
		got, err := traffic.NeedsWrite(tt.now, tt.from, tt.to)
		if got != tt.want || errors.Is(err, traffic.ErrForeignChange) != tt.foreign {
			t.Errorf("NeedsWrite(%s): got %v, %v, want %v, foreign %v", tt.name, got, err, tt.want, tt.foreign)
		}
	}
}
