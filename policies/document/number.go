package document

import (
	"errors"
	"math"
	"regexp"
	"strconv"
)

var numberText = regexp.MustCompile(`^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?$`)

// ParseNumber reads a finite decimal number.
func ParseNumber(s string) (float64, error) {
	if len(s) > 40 || !numberText.MatchString(s) {
		return 0, errors.New("must be a number")
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0, errors.New("must be a number")
	}
	return x, nil
}

// FormatNumber writes at most ten significant digits, without exponent where
// that reads well.
func FormatNumber(x float64) string {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 10, 64), 64) // what FormatFloat writes can be read
	if a := math.Abs(r); r != 0 && (a < 1e-6 || a >= 1e15) {
		return strconv.FormatFloat(r, 'g', -1, 64)
	}
	return strconv.FormatFloat(r, 'f', -1, 64)
}
