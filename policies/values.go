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
	"github.com/belayd/belay/policies/document"
)

// Percent is a whole number of percent, written 25%.
type Percent int

// UnmarshalText reads "25%".
func (p *Percent) UnmarshalText(b []byte) error {
	num, ok := strings.CutSuffix(string(b), "%")
	if !ok {
		return errors.New("a percentage needs its sign, for example 25%")
	}
	if x, err := document.ParseNumber(strings.TrimSpace(num)); err == nil && x != math.Trunc(x) {
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

// Fraction is a fraction, written as a percentage: 0.5% is 0.005.
type Fraction float64

// UnmarshalText reads "0.5%".
func (s *Fraction) UnmarshalText(b []byte) error {
	num, ok := strings.CutSuffix(string(b), "%")
	if !ok {
		return errors.New("a percentage needs its sign, for example 1%")
	}
	x, err := document.ParseNumber(strings.TrimSpace(num))
	if err != nil || x < 0 || x > 100 {
		return errors.New("must be a percentage from 0% to 100%")
	}
	*s = Fraction(x / 100)
	return nil
}

// String writes "0.5%".
func (s Fraction) String() string { return document.FormatNumber(float64(s)*100) + "%" }

// Quantile is a share of the requests, written p95 or p99.9.
type Quantile float64

// UnmarshalText reads "p95".
func (q *Quantile) UnmarshalText(b []byte) error {
	num, ok := strings.CutPrefix(string(b), "p")
	x, err := document.ParseNumber(num)
	if !ok || err != nil || x < 1 || x >= 100 {
		return errors.New("must be a quantile from p1 to p99.99, for example p95")
	}
	*q = Quantile(x / 100)
	return nil
}

// String writes "p95".
func (q Quantile) String() string { return "p" + document.FormatNumber(float64(q)*100) }

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
	d, err := document.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%w, or never", err)
	}
	if d == 0 {
		return errors.New("must be longer than 0s, or never")
	}
	*p = Patience(d)
	return nil
}

func (Patience) JSONSchema() map[string]any {
	return document.TextSchema("^(never|"+document.DurationPattern+")$", "10m", "never")
}

func (Percent) JSONSchema() map[string]any {
	return document.TextSchema(`^[0-9]+ *%$`, "5%", "25%")
}

func (Fraction) JSONSchema() map[string]any {
	return document.TextSchema("^"+document.NumberPattern+" *%$", "1%", "0.5%")
}

func (Quantile) JSONSchema() map[string]any {
	return document.TextSchema(`^p[0-9]+(\.[0-9]+)?$`, "p95", "p99")
}

func (KofN) JSONSchema() map[string]any {
	return document.TextSchema("^[0-9]{1,4} of [0-9]{1,4}$", "3 of 5")
}
