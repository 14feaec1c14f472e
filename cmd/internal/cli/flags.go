package cli

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// flags are those of one command, with what help and completion need of them.
type flags struct {
	*flag.FlagSet
	// choices are the values that a flag may have, where they are few.
	choices map[string][]string
	// files are the flags whose value is a file.
	files map[string]bool
}

func newFlags(path string) *flags {
	f := &flags{FlagSet: flag.NewFlagSet(path, flag.ContinueOnError), choices: map[string][]string{}, files: map[string]bool{}}
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	return f
}

// parse reads flags and arguments in any order; after -- there are no flags.
func (f *flags) parse(args []string) (positional []string, err error) {
	var last []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, last = args[:i], args[i+1:]
	}
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if f.NArg() == 0 {
			break
		}
		positional, args = append(positional, f.Arg(0)), f.Args()[1:]
	}
	for name, allowed := range f.choices {
		if v := f.Lookup(name).Value.String(); !slices.Contains(allowed, v) {
			return nil, fmt.Errorf("--%s: want one of %s (got %q)", name, strings.Join(allowed, ", "), v)
		}
	}
	return append(positional, last...), nil
}

// choice declares a flag with few values; the first is the default.
func (f *flags) choice(name, usage string, values ...string) *string {
	f.choices[name] = values
	return f.String(name, values[0], usage+": "+strings.Join(values, ", "))
}

// file declares a flag whose value is a file. Usage names it in backquotes.
func (f *flags) file(name, usage string) *string {
	f.files[name] = true
	return f.String(name, "", usage)
}

// isBool reports whether a flag takes no value.
func isBool(x *flag.Flag) bool {
	b, ok := x.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// overview lists the commands of a table.
func overview(c *command, path string, table []*command) string {
	var b strings.Builder
	if c == nil {
		b.WriteString("belay carries releases up a traffic ladder and catches them when they slip.\n\n")
	} else {
		fmt.Fprintf(&b, "%s\n\n", c.short)
	}
	fmt.Fprintf(&b, "Usage: %s COMMAND\n\nCommands:\n", path)
	width := 0
	for _, s := range table {
		width = max(width, len(s.name+" "+s.args))
	}
	for _, s := range table {
		fmt.Fprintf(&b, "  %-*s  %s\n", width, strings.TrimSpace(s.name+" "+s.args), s.short)
	}
	fmt.Fprintf(&b, "\nMore: %s COMMAND --help\n", path)
	if c == nil {
		b.WriteString(codesHelp)
	}
	return b.String()
}

// help is the text of one command.
func help(c *command, path string, f *flags) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage: %s\n", c.short, strings.TrimSpace(path+" "+c.args)+flagsHint(f))
	if c.long != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(c.long))
	}
	if len(c.examples) > 0 {
		b.WriteString("\nExamples:\n")
		for _, x := range c.examples {
			fmt.Fprintf(&b, "  %s\n", x)
		}
	}
	type line struct{ left, right string }
	var lines []line
	width := 0
	f.VisitAll(func(x *flag.Flag) {
		value, usage := flag.UnquoteUsage(x)
		if isBool(x) {
			value = ""
		} else if value == "" || value == "string" && len(f.choices[x.Name]) > 0 {
			value = "VALUE"
		}
		if d := x.DefValue; d != "" && d != "false" && d != "0" && d != "0s" {
			usage += " (" + d + ")"
		}
		left := strings.TrimSpace("--" + x.Name + " " + value)
		width = max(width, len(left))
		lines = append(lines, line{left, usage})
	})
	if len(lines) > 0 {
		b.WriteString("\nFlags:\n")
		for _, l := range lines {
			fmt.Fprintf(&b, "  %-*s  %s\n", width, l.left, l.right)
		}
	}
	return b.String()
}

func flagsHint(f *flags) string {
	any := false
	f.VisitAll(func(*flag.Flag) { any = true })
	if any {
		return " [flags]"
	}
	return ""
}
