package scrape

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/belayd/belay/analysis/internal/series"
)

// maxLine bounds one line of an exposition, in bytes.
const maxLine = 1 << 20

// parseText reads the text form 0.0.4 or OpenMetrics line by line. Comments other than
// the types of gauges, and exemplars, are passed over; an OpenMetrics answer without its
// last line was cut off.
func parseText(r io.Reader, f filter, openMetrics bool) ([]sample, error) {
	var flat []sample
	born, gauges := map[string]int64{}, map[string]bool{}
	ended := false
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(lines.Text(), " \t")
		if openMetrics && line == "# EOF" {
			ended = true
			break
		}
		if line == "" || line[0] == '#' {
			said, _ := strings.CutPrefix(line, "# TYPE ")
			if name, kind, _ := strings.Cut(said, " "); strings.TrimSpace(kind) == "gauge" && f.keeps(name) {
				gauges[name] = true
			}
			continue
		}
		name, rest := metricName(line)
		base, isCreated := strings.CutSuffix(name, "_created")
		useful := isCreated && (f.keeps(base+"_total") || f.keeps(base+"_bucket") || f.keeps(base+"_count"))
		if !f.keeps(name) && !useful {
			continue
		}
		x, err := parseLine(name, rest, openMetrics)
		if err != nil {
			return nil, fmt.Errorf("line %d of its answer: %w", n, err)
		}
		if isCreated && !f.keeps(name) {
			if x.value > 0 && x.value < math.MaxInt64/1000 && len(born) < f.most {
				born[createdKey(x.labels)] = int64(x.value * 1000)
			}
			continue
		}
		x.gauge = gauges[name]
		if flat, err = f.add(flat, x); err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read its answer: %w", err)
	}
	if openMetrics && !ended {
		return nil, errors.New("its answer ends before # EOF")
	}
	if len(born) > 0 {
		for i := range flat {
			flat[i].created = born[createdKey(flat[i].labels)]
		}
	}
	return flat, nil
}

// createdKey is the same for a counter, or the parts of a histogram, and for
// the sample that says when it was created.
func createdKey(l series.Labels) string {
	l = append(series.Labels(nil), l...)
	out := l[:0]
	for _, x := range l {
		if x.Name == series.NameLabel {
			for _, suffix := range []string{"_created", "_total", "_bucket", "_count"} {
				if base, ok := strings.CutSuffix(x.Value, suffix); ok {
					x.Value = base
					break
				}
			}
		}
		if x.Name != "le" {
			out = append(out, x)
		}
	}
	out.Sort()
	return key(out)
}

// metricName is the name a line begins with; a quoted one stands in its braces.
func metricName(line string) (name, rest string) {
	if strings.HasPrefix(line, `{"`) {
		if v, tail, err := quoted(line[2:]); err == nil {
			tail = strings.TrimLeft(tail, " \t")
			return v, "{" + strings.TrimPrefix(tail, ",")
		}
	}
	i := strings.IndexAny(line, "{ \t")
	if i < 0 {
		return line, ""
	}
	return line[:i], line[i:]
}

// parseLine parses what follows the name: labels, value, timestamp, and what is
// ignored. A timestamp is in seconds in OpenMetrics, else in milliseconds.
func parseLine(name, rest string, openMetrics bool) (sample, error) {
	x := sample{labels: series.Labels{{Name: series.NameLabel, Value: name}}}
	rest = strings.TrimLeft(rest, " \t")
	if strings.HasPrefix(rest, "{") {
		var err error
		if x.labels, rest, err = parseLabels(x.labels, rest[1:]); err != nil {
			return sample{}, err
		}
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return sample{}, fmt.Errorf("%s has no value", name)
	}
	if strings.ContainsAny(fields[0], "pP_xX") {
		return sample{}, fmt.Errorf("%s has the value %q", name, fields[0])
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		return sample{}, fmt.Errorf("%s has the value %q", name, fields[0])
	}
	x.value = v
	if len(fields) > 1 && fields[1] != "#" {
		at, err := strconv.ParseFloat(fields[1], 64)
		if openMetrics {
			at *= 1000
		}
		if err != nil || !(math.Abs(at) < math.MaxInt64/2) {
			return sample{}, fmt.Errorf("%s has the timestamp %q", name, fields[1])
		}
		x.at = int64(at)
	}
	return x, nil
}

// parseLabels parses up to and with the closing brace.
func parseLabels(ls series.Labels, rest string) (series.Labels, string, error) {
	for {
		rest = strings.TrimLeft(rest, " \t")
		if tail, ok := strings.CutPrefix(rest, "}"); ok {
			return ls, tail, nil
		}
		var label string
		var err error
		if tail, ok := strings.CutPrefix(rest, `"`); ok {
			if label, rest, err = quoted(tail); err != nil {
				return nil, "", err
			}
		} else {
			i := strings.IndexAny(rest, "= \t")
			if i < 0 {
				return nil, "", errors.New("a label has no value")
			}
			label, rest = rest[:i], rest[i:]
		}
		rest = strings.TrimLeft(rest, " \t")
		tail, ok := strings.CutPrefix(rest, "=")
		tail = strings.TrimLeft(tail, " \t")
		tail, quote := strings.CutPrefix(tail, `"`)
		if label == "" || !ok || !quote {
			return nil, "", errors.New("a label has no value")
		}
		value, tail, err := quoted(tail)
		if err != nil {
			return nil, "", err
		}
		if ls.Get(label) != "" {
			return nil, "", fmt.Errorf("the label %s is given twice", label)
		}
		// A label without a value is the same as none.
		if value != "" {
			ls = append(ls, series.Label{Name: label, Value: value})
		}
		rest = strings.TrimLeft(tail, " \t")
		if !strings.HasPrefix(rest, "}") {
			if rest, ok = strings.CutPrefix(rest, ","); !ok {
				return nil, "", errors.New("a comma or } is missing after a label")
			}
		}
	}
}

// quoted takes a text up to its closing quote; \\ \" and \n are its escapes.
func quoted(s string) (value, rest string, err error) {
	i := strings.IndexAny(s, `"\`)
	if i >= 0 && s[i] == '"' {
		return s[:i], s[i+1:], nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], nil
		case s[i] != '\\':
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			break
		}
		switch s[i] {
		case 'n':
			b.WriteByte('\n')
		case '\\', '"':
			b.WriteByte(s[i])
		default:
			b.WriteByte('\\')
			b.WriteByte(s[i])
		}
	}
	return "", "", errors.New("a text is not closed")
}
