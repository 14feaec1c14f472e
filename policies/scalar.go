package policies

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
)

// Percent is a whole number of percent, written 25%.
type Percent int

// UnmarshalText reads "25%".
func (p *Percent) UnmarshalText(b []byte) error {
	num, ok := strings.CutSuffix(string(b), "%")
	if !ok {
		return errors.New("a percentage needs its sign, for example 25%")
	}
	if x, err := parseNumber(strings.TrimSpace(num)); err == nil && x != math.Trunc(x) {
		return errors.New("must be a whole percentage: weights are whole per cent, and Azure ML takes no others")
	}
	i, err := strconv.Atoi(strings.TrimSpace(num))
	if err != nil || i < 0 || i > 1000 {
		return errors.New("must be a whole percentage, for example 25%")
	}
	*p = Percent(i)
	return nil
}

// String writes "25%".
func (p Percent) String() string { return strconv.Itoa(int(p)) + "%" }

// Share is a fraction, written as a percentage: 0.5% is 0.005.
type Share float64

// UnmarshalText reads "0.5%".
func (s *Share) UnmarshalText(b []byte) error {
	num, ok := strings.CutSuffix(string(b), "%")
	if !ok {
		return errors.New("a percentage needs its sign, for example 1%")
	}
	x, err := parseNumber(strings.TrimSpace(num))
	if err != nil || x < 0 || x > 100 {
		return errors.New("must be a percentage from 0% to 100%")
	}
	*s = Share(x / 100)
	return nil
}

// String writes "0.5%".
func (s Share) String() string { return formatNumber(float64(s)*100) + "%" }

// Quantile is a share of the requests, written p95 or p99.9.
type Quantile float64

// UnmarshalText reads "p95".
func (q *Quantile) UnmarshalText(b []byte) error {
	num, ok := strings.CutPrefix(string(b), "p")
	x, err := parseNumber(num)
	if !ok || err != nil || x < 1 || x >= 100 {
		return errors.New("must be a quantile from p1 to p99.99, for example p95")
	}
	*q = Quantile(x / 100)
	return nil
}

// String writes "p95".
func (q Quantile) String() string { return "p" + formatNumber(float64(q)*100) }

// KofN is a rule of k out of the last n, written "3 of 5".
type KofN analysis.KofN

var kOfN = regexp.MustCompile(`^(\d{1,4}) of (\d{1,4})$`)

// UnmarshalText reads "3 of 5".
func (k *KofN) UnmarshalText(b []byte) error {
	m := kOfN.FindStringSubmatch(string(b))
	if m == nil {
		return errors.New(`must be a rule like "3 of 5"`)
	}
	k.K, _ = strconv.Atoi(m[1]) // at most four digits
	k.N, _ = strconv.Atoi(m[2])
	if k.K < 1 || k.K > k.N || k.N > 100 {
		return errors.New("must be k of n with 1 ≤ k ≤ n ≤ 100")
	}
	return nil
}

// String writes "3 of 5".
func (k KofN) String() string { return fmt.Sprintf("%d of %d", k.K, k.N) }

// Patience is a duration or "never", which is 0.
type Patience time.Duration

// UnmarshalText reads "10m" or "never".
func (p *Patience) UnmarshalText(b []byte) error {
	if string(b) == "never" {
		*p = 0
		return nil
	}
	d, err := parseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%w, or never", err)
	}
	if d == 0 {
		return errors.New("must be longer than 0s, or never")
	}
	*p = Patience(d)
	return nil
}

// Span is a duration that JSON and people write alike: "1h30m". The forecasts'
// -1 is "never".
type Span time.Duration

// MarshalText writes "1h30m" or "never".
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String writes "1h30m" or "never", to the second.
func (s Span) String() string {
	if s == -1 {
		return "never"
	}
	return formatDuration(time.Duration(s).Round(time.Second))
}

var durationText = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(h|ms|m|s))+$`)

const maxDuration = 366 * 24 * time.Hour

// parseDuration reads "30m", "1h30m", "450ms"; the unit is needed.
func parseDuration(s string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(s, 64); err == nil && s != "" {
		return 0, errors.New("a duration needs a unit (ms, s, m or h), for example 30m")
	}
	if strings.HasSuffix(s, "d") || strings.HasSuffix(s, "w") {
		return 0, errors.New("days and weeks differ in length; write hours, for example 48h")
	}
	if len(s) > 40 || !durationText.MatchString(s) {
		return 0, errors.New("must be a duration with units (ms, s, m or h), for example 30m")
	}
	d, err := time.ParseDuration(s)
	if err != nil || d > maxDuration {
		return 0, errors.New("must be a duration of at most a year")
	}
	return d, nil
}

// formatDuration writes a duration as people write it: 30m, 1h30m.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var numberText = regexp.MustCompile(`^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$`)

// parseNumber reads a finite decimal number.
func parseNumber(s string) (float64, error) {
	if len(s) > 40 || !numberText.MatchString(s) {
		return 0, errors.New("must be a number")
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0, errors.New("must be a number")
	}
	return x, nil
}

// formatNumber writes at most ten significant digits, without exponent where
// that reads well.
func formatNumber(x float64) string {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 10, 64), 64) // what FormatFloat writes can be read
	if a := math.Abs(r); r != 0 && (a < 1e-6 || a >= 1e15) {
		return strconv.FormatFloat(r, 'g', -1, 64)
	}
	return strconv.FormatFloat(r, 'f', -1, 64)
}

func (Patience) jsonSchema() map[string]any {
	return textSchema("^(never|"+durationPattern+")$", "10m", "never")
}

func (Percent) jsonSchema() map[string]any {
	return textSchema(`^[0-9]+ *%$`, "5%", "25%")
}

func (Share) jsonSchema() map[string]any {
	return textSchema("^"+numberPattern+" *%$", "1%", "0.5%")
}

func (Quantile) jsonSchema() map[string]any {
	return textSchema(`^p[0-9]+(\.[0-9]+)?$`, "p95", "p99")
}

func (KofN) jsonSchema() map[string]any {
	return textSchema("^[0-9]{1,4} of [0-9]{1,4}$", "3 of 5")
}
