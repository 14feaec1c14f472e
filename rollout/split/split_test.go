package split_test

import (
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/split"
)

// TestStable: which deployment is stable, and what a person is told when none is.
func TestStable(t *testing.T) {
	for _, c := range []struct {
		split split.Split
		named string
		want  string
		says  string
	}{
		{split.Split{Weights: map[string]int{"blue": 100}}, "auto", "blue", ""},
		{split.Split{Weights: map[string]int{"blue": 100, "red": 0}}, "blue", "blue", ""},
		{split.Split{Weights: map[string]int{"blue": 90, "red": 10}}, "auto", "", "give it all to the one that serves now"},
		{split.Split{Weights: map[string]int{"blue": 90, "red": 10}}, "blue", "", "give it all of the traffic first"},
		{split.Split{Weights: map[string]int{"green": 100}}, "auto", "", "nothing to roll out"},
		{split.Split{Weights: map[string]int{"red": 100}}, "blue", "", "correct endpoint.stable"},
		{split.Split{}, "auto", "", "traffic off"},
		{split.Split{Weights: map[string]int{"blue": 100}, Mirror: map[string]int{"green": 5}}, "auto", "", "end the mirroring"},
	} {
		got, err := c.split.Stable(c.named, "green")
		if got != c.want || (err == nil) != (c.says == "") || (err != nil && !strings.Contains(err.Error(), c.says)) {
			t.Errorf("Stable(%s, %q): got %q, %v; want %q, %q", c.split, c.named, got, err, c.want, c.says)
		}
	}
}
