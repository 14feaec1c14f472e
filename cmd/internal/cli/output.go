package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	_, err = w.Write(append(escaped(b), '\n'))
	return err
}

// printYAML writes v as YAML, with the fields of its JSON in their order.
func printYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil { // JSON is YAML
		return fmt.Errorf("encode output: %w", err)
	}
	var block func(n *yaml.Node)
	block = func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode {
			n.Style = 0
		} else if n.Tag == "!!str" {
			n.Style = 0 // the encoder quotes what needs it
		}
		for _, c := range n.Content {
			block(c)
		}
	}
	block(&doc)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// print writes v in the format asked for; table and name are the command's own.
func (e *env) print(format string, v any, table func(io.Writer) error, names func(io.Writer) error) error {
	switch format {
	case "json":
		return printJSON(e.stdout, v)
	case "yaml":
		return printYAML(e.stdout, v)
	case "name":
		return names(e.stdout)
	}
	return table(e.stdout)
}

// textWidth is how wide running text may be.
func (e *env) textWidth() int {
	if e.tty {
		return min(e.width, 120)
	}
	return 120
}

// A table aligns cells in columns.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// within returns the rows like lines, closer together where that makes them fit.
func (t *table) within(width int, right ...int) []string {
	lines := t.apart("  ", right)
	if slices.ContainsFunc(lines, func(l string) bool { return utf8.RuneCountInString(plain(l)) > width }) {
		return t.apart(" ", right)
	}
	return lines
}

// lines returns the rows with their cells aligned; columns in right stand to the
// right.
func (t *table) lines(right ...int) []string { return t.apart("  ", right) }

func (t *table) apart(gap string, right []int) []string {
	var width []int
	for _, r := range t.rows {
		for i, c := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(plain(c)))
		}
	}
	out := make([]string, len(t.rows))
	for n, r := range t.rows {
		var b strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(plain(c)))
			if slices.Contains(right, i) {
				c, pad = pad+c, ""
			}
			b.WriteString(c)
			if i < len(r)-1 {
				b.WriteString(pad + gap)
			}
		}
		out[n] = strings.TrimRight(b.String(), " ")
	}
	return out
}

func (t *table) print(w io.Writer, right ...int) error {
	for _, l := range t.lines(right...) {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

// The colours of the terminal.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
	bold   = "1"
	faint  = "2"
)

// paint colours text where that is wanted.
func (e *env) paint(color, s string) string {
	if !e.color || s == "" {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// plain is s without colours.
func plain(s string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "\x1b[")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, s, _ = strings.Cut(after, "m")
	}
}

// fit cuts s at width characters; colours do not count and end with it.
func fit(s string, width int) string {
	if utf8.RuneCountInString(plain(s)) <= width {
		return s
	}
	var b strings.Builder
	n, colored := 0, false
	for i := 0; i < len(s) && n < width-1; {
		if strings.HasPrefix(s[i:], "\x1b[") {
			end := strings.IndexByte(s[i:], 'm')
			b.WriteString(s[i : i+end+1])
			i, colored = i+end+1, true
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		b.WriteRune(r)
		i, n = i+size, n+1
	}
	b.WriteString("…")
	if colored {
		b.WriteString("\x1b[0m")
	}
	return b.String()
}
