package importer

import (
	"regexp"
	"strconv"
	"strings"
)

// A bound is a condition on one number: what must hold.
type bound struct {
	least bool
	value float64
}

var (
	comparison = regexp.MustCompile(
		`^\(*\s*(?:all\()?(?:asFloat\(|float\(|default\()?\s*result(?:\[0\]|\.value|\[0\]\.value)?(?:\s*,\s*[0-9.]+)?\)?\s*(>=|>|<=|<)\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*\)*$`)
	swapped = regexp.MustCompile(`^\(*\s*([0-9]*\.?[0-9]+)\s*(>=|>|<=|<)\s*result(?:\[0\])?\s*\)*$`)
	guard   = regexp.MustCompile(
		`^\(*\s*(?:!?\s*isNaN\(.*\)|!?\s*isInf\(.*\)|len\(result\)\s*(?:==|>|<|!=|>=|<=)\s*[0-9]+|result\s*(?:==|!=)\s*nil)\s*\)*$`)
)

// condition reads a successCondition, or with failure a failureCondition. guarded says
// that it passes, or fails, also where there is no data: that is a rule of its own here.
// It is not ok for what is no comparison of one number.
func condition(text string, failure bool) (b bound, guarded, ok bool) {
	found := 0
	for _, part := range regexp.MustCompile(`\|\||&&|\band\b|\bor\b`).Split(strings.Join(strings.Fields(text),
		" "), -1) {
		part = strings.TrimSpace(part)
		op, number := "", ""
		if m := comparison.FindStringSubmatch(part); m != nil {
			op, number = m[1], m[2]
		} else if m := swapped.FindStringSubmatch(part); m != nil {
			op, number = map[string]string{">": "<", ">=": "<=", "<": ">", "<=": ">="}[m[2]], m[1]
		} else if guard.MatchString(part) {
			guarded = true
			continue
		} else {
			return bound{}, false, false
		}
		x, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return bound{}, false, false
		}
		found++
		b = bound{least: op[0] == '>', value: x}
	}
	if failure {
		b.least = !b.least
	}
	return b, guarded, found == 1
}

// percent writes a share.
func percent(x float64) string {
	return strconv.FormatFloat(x, 'f', -1, 64) + "%"
}

// rounded takes away what arithmetic added.
func rounded(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 9, 64), 64)
	if err != nil {
		return x
	}
	return y
}
