package slack

import (
	"bytes"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/view"
)

// plotted is the notice of a request whose guardrails have figures.
func plotted(topic notifier.Topic) notifier.Notice {
	n := notifiertest.Notice(topic)
	at := func(x float64) *float64 { return &x }
	n.Rollout.Guardrails[0].Plot = &view.Plot{
		Candidate: view.Estimate{Value: 0.0031, Low: 0.0024, High: 0.0039}, Stable: &view.Estimate{Value: 0.0029, Low: 0.0027, High: 0.0031}, Limit: at(0.01), Unit: "share",
	}
	n.Rollout.Guardrails[1].Plot = &view.Plot{
		Candidate: view.Estimate{Value: 0.183, Low: 0.176, High: 0.191}, Stable: &view.Estimate{Value: 0.180, Low: 0.178, High: 0.182}, Limit: at(0.450), Unit: "s",
	}
	n.Rollout.Guardrails[2].Plot = &view.Plot{
		Candidate: view.Estimate{Value: 0.712, Low: 0.692, High: 0.733}, Stable: &view.Estimate{Value: 0.714, Low: 0.710, High: 0.718}, Limit: at(0.700), More: true, Unit: "share",
	}
	n.Rollout.Guardrails = append(n.Rollout.Guardrails, notifier.Guardrail{
		Guardrail: view.Guardrail{Name: "cpu", Verdict: "breach", Limit: "<= 85", Sentence: "cpu is 91."},
		Candidate: "91", Stable: "–", Interval: "88–94", N: "12",
		Plot: &view.Plot{Candidate: view.Estimate{Value: 91, Low: 88, High: 94}, Limit: at(85), Unit: "value"},
	})
	return n
}

// TestChartGolden compares the picture with testdata/chart.png; processors may round
// the edges of letters differently, so a few units of brightness are let pass.
func TestChartGolden(t *testing.T) {
	got, err := picture(plotted(notifier.TopicAsk))
	if err != nil {
		t.Fatalf("chart: got %v, want no error", err)
	}
	file := filepath.Join("testdata", "chart.png")
	if goldentest.Update() {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a, b := decode(t, got), decode(t, want)
	if a.Bounds() != b.Bounds() {
		t.Fatalf("chart: got %v, want %v", a.Bounds(), b.Bounds())
	}
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			if d := distance(a, b, x, y); d > 16 {
				t.Fatalf("chart: got a difference of %d at (%d, %d), want at most 16; look at the picture and run with -update", d, x, y)
			}
		}
	}
}

func decode(t *testing.T, data []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("decode chart: got %v, want a PNG", err)
	}
	return img
}

// distance is how far two pixels are apart, of 255.
func distance(a, b image.Image, x, y int) int {
	r1, g1, b1, _ := a.At(x, y).RGBA()
	r2, g2, b2, _ := b.At(x, y).RGBA()
	far := 0
	for _, p := range [][2]uint32{{r1, r2}, {g1, g2}, {b1, b2}} {
		far = max(far, int(max(p[0], p[1])-min(p[0], p[1]))>>8)
	}
	return far
}

// TestChartFigures: whatever the figures are, a picture comes out or none.
func TestChartFigures(t *testing.T) {
	for _, test := range []struct {
		name string
		plot *view.Plot
		want bool
	}{
		{"none", nil, false},
		{"not a number", &view.Plot{Candidate: view.Estimate{Value: math.NaN()}}, false},
		{"all zero", &view.Plot{}, true},
	} {
		n := notifiertest.Notice(notifier.TopicAsk)
		n.Rollout.Guardrails = []notifier.Guardrail{{Guardrail: view.Guardrail{Name: "g", Verdict: "pass"}, Plot: test.plot}}
		got, err := picture(n)
		if err != nil || (got != nil) != test.want {
			t.Errorf("picture of %s: got %d bytes, %v, want a picture = %t", test.name, len(got), err, test.want)
		}
	}
}

// TestChartBounds: many guardrails with long names make a picture of bounded size.
func TestChartBounds(t *testing.T) {
	n := notifiertest.Notice(notifier.TopicAsk)
	n.Rollout.Guardrails = nil
	for range 100 {
		n.Rollout.Guardrails = append(n.Rollout.Guardrails, notifier.Guardrail{
			Guardrail: view.Guardrail{
				Name: string(bytes.Repeat([]byte("long"), 1000)), Verdict: "undecided", Limit: "\xff\n",
			},
			Plot: &view.Plot{},
		})
	}
	got, err := picture(n)
	if err != nil {
		t.Fatalf("chart: got %v, want no error", err)
	}
	if scene, _ := sceneOf(n); decode(t, got).Bounds().Dy() != scene.Height || scene.Height > 100*maxGuardrails || len(got) > 1<<20 {
		t.Errorf("chart of 100 guardrails: got %v in %d bytes, want those of %d", decode(t, got).Bounds(), len(got), maxGuardrails)
	}
}

func BenchmarkChart(b *testing.B) {
	n := plotted(notifier.TopicAsk)
	for b.Loop() {
		if _, err := picture(n); err != nil {
			b.Fatal(err)
		}
	}
}
