// Command belay asks belayd, reads its store, checks policies and shows a demo.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/belayd/belay/cmd/internal/demo"
)

func main() { os.Exit(run()) }

func run() int {
	fs := flag.NewFlagSet("belay demo", flag.ExitOnError)
	fault := fs.String("fault", "none", "")
	speed := fs.Float64("speed", 1, "")
	keep := fs.String("keep", "", "")
	_ = fs.Parse(os.Args[2:])
	f, err := demo.ParseFault(*fault)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s, err := demo.ParseSpeed(*speed)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	dir, err := demo.Folder(*keep)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code, err := demo.Run(context.Background(), demo.Options{Dir: dir, Fault: f, Speed: s}, "devel", os.Stdout, demo.Lines)
	if err != nil {
		fmt.Fprintln(os.Stderr, "belay demo:", err)
	}
	return code
}
