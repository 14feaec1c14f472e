package view

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
)

// None is what is shown of a figure that is not known.
const None = "–"

// Figure writes a number in a guardrail's unit: "0.31%", "183ms", "71.2".
func Figure(x *float64, unit string) string {
	if x == nil || !finite(*x) {
		return None
	}
	switch unit {
	case "share":
		if math.Abs(*x) < 5e-6 {
			return "0%"
		}
		return strconv.FormatFloat(Significant(*x*100, 3), 'f', -1, 64) + "%"
	case "s":
		if math.Abs(*x) < 1 {
			return strconv.FormatFloat(Significant(*x*1000, 3), 'f', -1, 64) + "ms"
		}
		return strconv.FormatFloat(*x, 'f', 2, 64) + "s"
	}
	return strconv.FormatFloat(*x, 'g', 4, 64)
}

// Significant keeps n significant digits of a figure below 100, and no digit after the
// point above.
func Significant(x float64, n int) float64 {
	if x == 0 {
		return 0
	}
	if math.Abs(x) >= 100 {
		return math.Round(x)
	}
	scale := math.Pow(10, float64(n)-math.Ceil(math.Log10(math.Abs(x))))
	return math.Round(x*scale) / scale
}

// Between writes an interval, its unit once: "0.24–0.39%".
func Between(iv *[2]float64, unit string) string {
	if iv == nil {
		return None
	}
	low, high := Figure(&iv[0], unit), Figure(&iv[1], unit)
	for _, suffix := range []string{"%", "ms"} {
		if strings.HasSuffix(low, suffix) && strings.HasSuffix(high, suffix) {
			low = strings.TrimSuffix(low, suffix)
			break
		}
	}
	return low + "–" + high
}

// Count writes a number of events in groups of three digits, rounded to a whole one:
// "48,210".
func Count(n float64) string {
	if !(math.Abs(n) < 1e15) {
		return strconv.FormatFloat(n, 'g', 3, 64)
	}
	digits := strconv.FormatFloat(math.Round(math.Abs(n)), 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if n <= -0.5 {
		return "-" + digits
	}
	return digits
}

// Span writes a duration for people: "4s", "2m5s", "3h12m", "5d".
func Span(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < 0:
		return "0s"
	case d < time.Hour:
		return d.String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// Size is how much the candidate's figure rests on: events, or the time that was seen.
func (g Guardrail) Size() string { return size(g.N, g.Unit) }

// StableSize is Size of stable's figure.
func (g Guardrail) StableSize() string { return size(g.StableN, g.Unit) }

func size(n float64, unit string) string {
	if unit == "rate" {
		return Span(time.Duration(n * float64(time.Second)))
	}
	return Count(n)
}

// Percent is a share of the evidence that is needed: "62%".
func Percent(share float64) string { return strconv.Itoa(int(math.Floor(share*100+1e-9))) + "%" }

// Words say how much of the evidence is there; "" where nothing is tested.
func (e *Evidence) Words() string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("%s of the evidence for a breach, %s of that for a pass", Percent(e.Breach), Percent(e.Pass))
}

// Progress is a verdict with how much of the evidence for a pass is there while it is
// not decided: "undecided 62%".
func (e *Evidence) Progress(verdict analysis.Outcome) string {
	if e == nil || verdict != analysis.OutcomeUndecided {
		return string(verdict)
	}
	return string(verdict) + " " + Percent(e.Pass)
}

// RollbackCommand rolls a rollout back with Belay.
func RollbackCommand(id string) string { return "belay rollback " + id + " --reason '…'" }
