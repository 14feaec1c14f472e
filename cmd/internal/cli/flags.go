package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	flag "github.com/spf13/pflag"
)

// flags are those of one command, with what completion needs of them.
type flags struct {
	*flag.FlagSet
	// choices are the values that a flag may have, where they are few.
	choices map[string][]string
	// kinds say what other flags name, as completers lists it.
	kinds map[string]string
	// conn is how the command reaches belayd, reads where it reads rollouts; nil where
	// it does not.
	conn  *connection
	reads *source
	// ended: the rollouts that the command names may have ended.
	ended bool
}

func newFlags() *flags {
	return &flags{
		FlagSet: flag.NewFlagSet("", flag.ContinueOnError), choices: map[string][]string{}, kinds: map[string]string{},
	}
}

// check refuses values that are no choice.
func (f *flags) check() error {
	var err error
	f.VisitAll(func(x *flag.Flag) {
		allowed := f.choices[x.Name]
		switch v := x.Value.String(); {
		case err != nil:
		case len(allowed) > 0 && !slices.Contains(allowed, v):
			err = usageError("--%s: want one of %s (got %q)", x.Name, strings.Join(allowed, ", "), v)
		}
	})
	return err
}

// choice declares a flag with few values; the first is the default.
func (f *flags) choice(name, usage string, values ...string) *string {
	f.choices[name] = values
	return f.String(name, values[0], usage+": "+strings.Join(values, ", "))
}

// file declares a flag whose value is a file. Usage names it in backquotes.
func (f *flags) file(name, usage string) *string { return f.named("FILE", name, usage) }

// named declares a flag whose value names something of a kind that completers has.
func (f *flags) named(kind, name, usage string) *string {
	f.kinds[name] = kind
	return f.String(name, "", usage)
}

// A once is a flag's value that may be given once, or again the same: of two the last
// would win in silence.
type once struct {
	flag.Value
	given *bool
}

func (o once) Set(s string) error {
	if was := o.String(); *o.given && was != s {
		return fmt.Errorf("it was given before, as %q", was)
	}
	*o.given = true
	return o.Value.Set(s)
}

// help is the text of one command: what it does and takes, or which there are below
// it.
func help(c *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", c.Short)
	if c.HasSubCommands() {
		overview(&b, c)
		return b.String()
	}
	var lines [][2]string
	c.Flags().VisitAll(func(x *flag.Flag) {
		if x.Name != "help" {
			lines = append(lines, flagLine(x))
		}
	})
	fmt.Fprintf(&b, "Usage: %s", c.UseLine())
	if len(lines) > 0 {
		b.WriteString(" [flags]")
	}
	b.WriteString("\n")
	if c.Long != "" {
		fmt.Fprintf(&b, "\n%s\n", c.Long)
	}
	if c.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n  %s\n", strings.ReplaceAll(c.Example, "\n", "\n  "))
	}
	if len(lines) > 0 {
		b.WriteString("\nFlags:\n")
		columns(&b, lines)
	}
	return b.String()
}

// flagLine is what help says of a flag: how it is written, and what it does.
func flagLine(x *flag.Flag) [2]string {
	value, usage := flag.UnquoteUsage(x)
	switch {
	case x.Value.Type() == "bool":
		value = ""
	case value == x.Value.Type():
		value = "VALUE"
	}
	if d := x.DefValue; d != "" && d != "false" && d != "0" && d != "0s" {
		usage += " (" + d + ")"
	}
	return [2]string{strings.TrimSpace("--" + x.Name + " " + value), usage}
}

// overview lists the commands below one.
func overview(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "Usage: %s COMMAND\n\nCommands:\n", c.CommandPath())
	var lines [][2]string
	for _, s := range c.Commands() {
		if s.IsAvailableCommand() && s.Name() != "help" {
			lines = append(lines, [2]string{s.Use, s.Short})
		}
	}
	columns(b, lines)
	fmt.Fprintf(b, "\nMore: %s COMMAND --help\n", c.CommandPath())
	if !c.HasParent() {
		b.WriteString(codesHelp)
	}
}

// columns writes lines of two columns.
func columns(b *strings.Builder, lines [][2]string) {
	width := 0
	for _, l := range lines {
		width = max(width, len(l[0]))
	}
	for _, l := range lines {
		fmt.Fprintf(b, "  %-*s  %s\n", width, l[0], l[1])
	}
}
