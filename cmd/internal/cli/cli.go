// Package cli is the command line `belay`: one file per command.
//
// The rules of the package:
//   - Data goes to standard output, progress and problems to standard error.
//   - What a script reads is stable: JSON with a schemaVersion, exit codes by
//     the table in exit.go.
//   - Nothing prompts. Nothing is coloured or redrawn unless standard output is
//     a terminal, and NO_COLOR is kept.
//   - A command that reads works on a running belayd or, with --store, on the
//     store's file alone.
//
// It holds no rules about rollouts: what it shows comes from rollout/api.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/belayd/belay/cmd/internal/demo"
)

// A command is one word of the command line, with what follows it.
type command struct {
	name string
	// args names the arguments for people: "ID", "[ID]", "FILE...".
	args  string
	short string
	long  string
	// examples are lines of help, with what they do behind a #.
	examples []string
	// min and max bound the number of arguments; max < 0 is any number.
	min, max int
	// setup declares the flags and returns what runs with them.
	setup func(f *flags) run
	sub   []*command
}

// run does a command's work.
type run func(ctx context.Context, e *env, args []string) error

// env is the world that a command runs in.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	socket         string // of a belayd on this machine, which is preferred where no server is named
	now            func() time.Time
	zone           *time.Location
	// program is how this program is called, reach the flags that lead to the belayd
	// that it reached: of the commands that are printed.
	program, reach string
	// tty: standard output is a terminal of this size; color: it may be coloured.
	tty           bool
	width, height int
	color         bool
}

// commands is the table of all commands.
func commands() []*command {
	return []*command{
		demoCommand(), initCommand(),
		startCommand(), listCommand(), statusCommand(), watchCommand(),
		explainCommand(), historyCommand(), replayCommand(), auditCommand(),
		approveCommand(), rejectCommand(), pauseCommand(), resumeCommand(), rollbackCommand(), promoteCommand(), extendCommand(), ackCommand(),
		policyCommand(), planCommand(), backtestCommand(),
		cooldownCommand(), endpointCommand(), triggerCommand(), routerCommand(), doctorCommand(), contextCommand(), completionCommand(), versionCommand(),
	}
}

// Run runs the command line and returns the exit code. It reads the environment
// for what flags leave out.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv, socket: defaultSocket, now: time.Now, zone: time.Local, program: demo.Program(), width: 80, height: 24}
	if f, ok := stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) && e.getenv("TERM") != "dumb" {
		e.tty = true
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			e.width, e.height = w, h
		}
		e.color = e.getenv("NO_COLOR") == ""
	}
	return e.run(ctx, args)
}

// run finds the command, parses its flags and runs it.
func (e *env) run(ctx context.Context, args []string) int {
	e.stdout, e.stderr = filtered(e.stdout), filtered(e.stderr)
	c, path, rest := find(commands(), args)
	if c == nil || c.setup == nil {
		return e.noCommand(c, path, rest)
	}
	f := newFlags(path)
	do := c.setup(f)
	positional, err := f.parse(rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(e.stdout, help(c, path, f))
		return exitOK
	case err != nil:
		return e.usage(path, err.Error())
	case len(positional) < c.min:
		return e.usage(path, "want "+c.args)
	case c.max >= 0 && len(positional) > c.max:
		return e.usage(path, fmt.Sprintf("%q is too many; want %s", positional[c.max], orNothing(c.args)))
	}
	return e.exit(path, do(ctx, e, positional))
}

func orNothing(args string) string {
	if args == "" {
		return "no arguments"
	}
	return args
}

// find walks down the table as far as the words go.
func find(table []*command, args []string) (c *command, path string, rest []string) {
	path, rest = "belay", args
	for len(rest) > 0 {
		i := slices.IndexFunc(table, func(c *command) bool { return c.name == rest[0] })
		if i < 0 {
			break
		}
		c, table = table[i], table[i].sub
		path, rest = path+" "+c.name, rest[1:]
	}
	return c, path, rest
}

// noCommand answers what is no command: help where it is asked for, and
// otherwise what there is.
func (e *env) noCommand(c *command, path string, rest []string) int {
	table := commands()
	if c != nil {
		table = c.sub
	}
	switch {
	case len(rest) == 0:
		fmt.Fprint(e.stderr, overview(c, path, table))
		return exitUsage
	case rest[0] == "help" && len(rest) > 1:
		return e.run(context.Background(), append(rest[1:], "--help"))
	case slices.Contains([]string{"help", "--help", "-help", "-h"}, rest[0]):
		fmt.Fprint(e.stdout, overview(c, path, table))
		return exitOK
	case path == "belay" && rest[0] == "--version":
		return e.run(context.Background(), []string{"version"})
	}
	return e.usage(path, fmt.Sprintf("there is no command %q%s", rest[0], meant(rest[0], table)))
}

// meant names the command that was probably meant.
func meant(word string, table []*command) string {
	best, at := "", 3
	for _, c := range table {
		if d := distance(word, c.name); d < at {
			best, at = c.name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of letters to change, add or leave out (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// usage says what is wrong with the command line and how to learn more.
func (e *env) usage(path, why string) int {
	fmt.Fprintf(e.stderr, "%s: %s\nTry: %s --help\n", path, strings.TrimSpace(why), path)
	return exitUsage
}
