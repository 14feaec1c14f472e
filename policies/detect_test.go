package policies

import (
	"errors"
	"strings"
	"testing"

	"github.com/belayd/belay/analysis"
)

// The regression that must be caught, where the policy does not say: the looser
// of a usual figure and one beyond the limit.
func TestDefaultDetect(t *testing.T) {
	for _, tt := range []struct {
		limit    string
		kind     analysis.Kind
		quantile float64
		want     string
	}{
		{"<= 1.2x stable", analysis.KindCounts, 0, "2x stable"},
		{"<= 1.5x stable", analysis.KindCounts, 0, "2.5x stable"},
		{">= 0.98x stable", analysis.KindCounts, 0, "0.95x stable"},
		{">= 0.9x stable", analysis.KindCounts, 0, "0.873x stable"},
		{"<= 1%", analysis.KindCounts, 0, "2%"},
		{"<= 80%", analysis.KindCounts, 0, "90%"},
		{">= 99%", analysis.KindCounts, 0, "98%"},
		{">= 20%", analysis.KindCounts, 0, "10%"},
		{"<= 450ms", analysis.KindHistogram, 0.95, "10%"},
		{"<= 450ms", analysis.KindHistogram, 0.99, "2%"},
		{"<= 450ms", analysis.KindHistogram, 0.5, "75%"},
		{"<= 1.2x stable", analysis.KindHistogram, 0.95, "2x stable"},
		{"<= 3x stable", analysis.KindHistogram, 0.95, "2x stable"},
		{"<= 20", analysis.KindMean, 0, "40"},
		{">= 20", analysis.KindMean, 0, "19"},
		{"<= 30ms", analysis.KindMean, 0, "60ms"},
	} {
		var l LimitText
		if err := l.UnmarshalText([]byte(tt.limit)); err != nil {
			t.Fatal(err)
		}
		got, ok := defaultDetect(l, tt.kind, tt.quantile)
		if !ok || got.Text != tt.want {
			t.Errorf("%s of a %s: got %q, want %q", tt.limit, tt.kind, got.Text, tt.want)
		}
		if why := got.suits(l, tt.kind, tt.quantile); why != "" {
			t.Errorf("%s of a %s: the default %s is refused: %s", tt.limit, tt.kind, got.Text, why)
		}
	}
	var l LimitText
	if err := l.UnmarshalText([]byte("<= 0")); err != nil {
		t.Fatal(err)
	}
	if got, ok := defaultDetect(l, analysis.KindMean, 0); ok {
		t.Errorf("got %q for a mean at most 0, want none", got.Text)
	}
}

// A regression that a release as good as stable is beyond can be ruled out by none: it is
// refused, with the side on which it has to be.
func TestDetectThatNothingPasses(t *testing.T) {
	for _, tt := range []struct{ limit, detect, want string }{
		{"<= 0.5x stable", "0.8x stable", "above 1x stable"},
		{"<= 0.5x stable", "1x stable", "above 1x stable"},
		{"<= 0.5x stable", "1.2x stable", ""},
		{">= 1.05x stable", "1.01x stable", "below 1x stable"},
		{">= 1.05x stable", "1x stable", "below 1x stable"},
		{">= 1.05x stable", "0.99x stable", ""},
	} {
		var l LimitText
		var q Quantity
		if err := errors.Join(l.UnmarshalText([]byte(tt.limit)), q.UnmarshalText([]byte(tt.detect))); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []analysis.Kind{analysis.KindCounts, analysis.KindMean} {
			if why := q.suits(l, kind, 0); !strings.Contains(why, tt.want) || (why == "") != (tt.want == "") {
				t.Errorf("%s with detect %s of a %s: got %q, want %q", tt.limit, tt.detect, kind, why, tt.want)
			}
		}
	}
}

// A multiple of stable may have a share below which it need not be kept; nothing else may.
func TestFloor(t *testing.T) {
	var l LimitText
	if err := l.UnmarshalText([]byte("<= 1.2x stable or 1%")); err != nil {
		t.Fatal(err)
	}
	want := analysis.Limit{Relative: true, Value: 1.2, Floor: 0.01, Text: "<= 1.2x stable or 1%"}
	if got := l.limit(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, text := range []string{"<= 1% or 2%", ">= 0.98x stable or 1%", "<= 1.2x stable or 0%", "<= 1.2x stable or 300ms", "<= 1.2x stable or 60%", "<= 1.2x stable or"} {
		var l LimitText
		if err := l.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s: got no error", text)
		}
	}
	if why := l.suits(analysis.KindHistogram, true); why == "" {
		t.Error("a floor on a latency: got no problem")
	}
}
