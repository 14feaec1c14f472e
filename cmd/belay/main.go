// Command belay asks belayd, reads its store and shows a demo: see
// `belay --help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // policies name time zones, wherever belay runs

	"github.com/belayd/belay/cmd/internal/cli"
)

func main() { os.Exit(run()) }

// run ends with the command, or with the first signal; a second one kills.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}
