// Command belayd is the daemon that carries releases up and brings them back.
//
//	belayd --config FILE
//	belayd check-config FILE
//	belayd config-schema
//	belayd backup --config FILE TO
//
// SIGHUP takes a changed config and what it names over; see package daemon.
//
// It exits with 0 after a graceful stop, 1 on an error, 64 on wrong usage, 75 when
// the store can no longer be trusted, and 78 when the config cannot be used at
// all: it is no YAML, or names no store. Whatever the code but 64, start it again.
// A Go program that panics exits with 2, which therefore stands for nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/version"

	_ "time/tzdata"

	"github.com/belayd/belay/cmd/internal/daemon"
	"github.com/belayd/belay/store"
)

// policies name time zones, wherever belayd runs

// The exit codes: those of sysexits(3) where there is one. 2 is the Go runtime's,
// for a panic: a supervisor that must not start belayd again on some code has to be
// able to tell that from all of these.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 64
	exitBroken  = 75
	exitInvalid = 78
)

const usage = `usage: belayd --config FILE [--log-format text|json] [--log-level debug|info|warn|error]
       belayd check-config FILE
       belayd config-schema
       belayd backup FILE --config FILE
       belayd version

A changed config, policy or secret is taken over while belayd runs, within 5 s or
at once on SIGHUP: whole, or not at all when anything is wrong with it.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if slices.ContainsFunc(args, func(a string) bool { return a == "--help" || a == "-help" || a == "-h" }) {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	if len(args) > 0 {
		switch args[0] {
		case "check-config":
			return checkConfig(args[1:], stdout, stderr)
		case "backup":
			return backup(args[1:], stdout, stderr)
		case "config-schema":
			_, _ = stdout.Write(config.Schema()) // a pipe that closes has read enough
			return exitOK
		case "version", "--version":
			fmt.Fprintln(stdout, "belayd", version.Of())
			return exitOK
		}
	}
	fs := flag.NewFlagSet("belayd", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage) }
	file := fs.String("config", "", "config file")
	format := fs.String("log-format", "text", "text or json")
	level := fs.String("log-level", "info", "debug, info, warn or error")
	if err := fs.Parse(args); err != nil {
		return exitUsage
	}
	log, err := logger(stderr, *format, *level)
	if err != nil || *file == "" || fs.NArg() > 0 {
		if err != nil {
			fmt.Fprintln(stderr, "belayd:", err)
		}
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	return serve(*file, log, stderr)
}

// serve runs the daemon until a signal; a second signal ends it at once.
func serve(file string, log *slog.Logger, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal has its usual effect
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	reload := make(chan struct{}, 1)
	go func() {
		for range hup {
			select {
			case reload <- struct{}{}:
			default:
			}
		}
	}()
	notify := newNotify()
	err := daemon.Run(ctx, daemon.Options{ConfigFile: file, Version: version.Of(), Logger: log, Reload: reload,
		Ready: notify.ready, Beat: notify.beat, BeatEvery: notify.every()})
	notify.stopping()
	var unusable *config.UnusableError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &unusable):
		fmt.Fprintln(stderr, err)
		return exitInvalid
	case errors.Is(err, store.ErrBroken):
		fmt.Fprintln(stderr, "belayd:", err)
		return exitBroken
	}
	fmt.Fprintln(stderr, "belayd:", err)
	return exitError
}

func checkConfig(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	report, ok := daemon.CheckConfig(args[0])
	fmt.Fprintln(stdout, report)
	if !ok {
		return exitInvalid
	}
	return exitOK
}

func backup(args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("belayd backup", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, usage) }
	file := fs.String("config", "", "config file")
	to := ""
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		to, args = args[0], args[1:]
	}
	if err := fs.Parse(args); err != nil {
		return exitUsage
	}
	if to == "" && fs.NArg() == 1 {
		to = fs.Arg(0)
	}
	if to == "" || *file == "" {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	if err := daemon.Backup(context.Background(), *file, to); err != nil {
		fmt.Fprintln(stderr, "belayd:", err)
		return exitError
	}
	fmt.Fprintln(stdout, to)
	return exitOK
}

// logger makes the structured log on standard error.
func logger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: want debug, info, warn or error (got %q)", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("--log-format: want text or json (got %q)", format)
}
