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
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	flag "github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/belayd/belay/cmd/internal/demo"
)

// A command is one word of the command line, with what follows it.
type command struct {
	name string
	// args names the arguments for people, "ID", "[ID]", "FILE...", and thereby says
	// what completes them: see completers.
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
	// completing: a shell asks what may stand here; the line is then parsed twice.
	completing bool
	// tty: standard output is a terminal of this size; color: it may be coloured.
	tty           bool
	width, height int
	color         bool
}

// Help shows commands as the table has them, by what they are for.
func init() { cobra.EnableCommandSorting = false }

// commands is the table of all commands.
func commands() []*command {
	return []*command{
		demoCommand(), initCommand(), importCommand(),
		startCommand(), listCommand(), statusCommand(), watchCommand(),
		explainCommand(), historyCommand(), reportCommand(), replayCommand(), auditCommand(),
		approveCommand(), rejectCommand(), pauseCommand(), resumeCommand(), rollbackCommand(), promoteCommand(),
		skipCommand(), extendCommand(), ackCommand(), undoCommand(), retryCommand(),
		policyCommand(), planCommand(), backtestCommand(),
		cooldownCommand(), endpointCommand(), triggerCommand(), routerCommand(), doctorCommand(), contextCommand(),
		completionCommand(), versionCommand(),
	}
}

// Run runs the command line and returns the exit code. It reads the environment
// for what flags leave out.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv, socket: defaultSocket, now: time.Now,
		zone: time.Local, program: demo.Program(), width: 80, height: 24}
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
	e.completing = len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
	root := e.tree()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	return e.exit(c.CommandPath(), err)
}

// tree is the table of all commands as cobra takes it.
func (e *env) tree() *cobra.Command {
	root := &cobra.Command{
		Use: "belay", Short: "belay carries releases up a traffic ladder and catches them when they slip.",
		SilenceErrors: true, SilenceUsage: true, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { fmt.Fprint(e.stdout, help(c)) })
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &codeError{exitUsage, err} })
	version := root.Flags().Bool("version", false, "what belay version prints")
	e.parent(root, func(ctx context.Context) error {
		if !*version {
			return flag.ErrHelp
		}
		return versionCommand().setup(newFlags())(ctx, e, nil)
	})
	for _, c := range commands() {
		root.AddCommand(e.command(c))
	}
	return root
}

// command is one command of the tree, with those below it.
func (e *env) command(c *command) *cobra.Command {
	out := &cobra.Command{
		Use: strings.TrimSpace(c.name + " " + c.args), Short: c.short, Long: strings.TrimSpace(c.long),
		Example: strings.Join(c.examples, "\n"), DisableFlagsInUseLine: true,
	}
	if c.setup == nil {
		e.parent(out, func(context.Context) error { return flag.ErrHelp })
		for _, s := range c.sub {
			out.AddCommand(e.command(s))
		}
		return out
	}
	f := newFlags()
	do := c.setup(f)
	if !e.completing {
		f.VisitAll(func(x *flag.Flag) { x.Value = once{x.Value, new(bool)} })
	}
	out.Flags().AddFlagSet(f.FlagSet)
	out.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < c.min:
			return usageError("want %s", c.args)
		case c.max >= 0 && len(args) > c.max:
			return usageError("%q is too many; want %s", args[c.max], cmp.Or(c.args, "no arguments"))
		}
		return f.check()
	}
	out.RunE = func(x *cobra.Command, args []string) error {
		if strings.Trim(c.args, "[]") == "ID" && len(args) == 1 {
			id, err := f.wholeID(x.Context(), e, args[0])
			if err != nil {
				return err
			}
			args = []string{id}
		}
		return do(x.Context(), e, args)
	}
	e.complete(out, c, f)
	return out
}

// parent makes a command that only has others below it: without one of them it says
// which there are, or does what alone says.
func (e *env) parent(c *cobra.Command, alone func(context.Context) error) {
	c.SuggestionsMinimumDistance = 2
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		meant := ""
		if s := c.SuggestionsFor(args[0]); len(s) > 0 {
			meant = fmt.Sprintf("; did you mean %q?", s[0])
		}
		return usageError("there is no command %q%s", args[0], meant)
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		err := alone(c.Context())
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(e.stderr, help(c))
			return &codeError{code: exitUsage}
		}
		return err
	}
}

// usage says what is wrong with the command line and how to learn more.
func (e *env) usage(path, why string) int {
	fmt.Fprintf(e.stderr, "%s: %s\nTry: %s --help\n", path, strings.TrimSpace(why), path)
	return exitUsage
}
