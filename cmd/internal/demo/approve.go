package demo

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/view"
)

// forAnswer is what a demo that asks a person may take longer.
const forAnswer = 15 * time.Minute

// answer asks the person at the terminal when the rollout waits for an approval
// and gives the daemon the answer, as that person. It ends with ctx or with the
// rollout, and closes what the answers are read from.
func (w *World) answer(ctx context.Context, client *api.Client, server, id string, screen io.Writer) {
	ctx, cancel := context.WithCancel(ctx)
	lines := make(chan string)
	var reading sync.WaitGroup
	reading.Go(func() { readLines(ctx, w.opts.Answers, lines) })
	defer reading.Wait()
	defer func() { _ = w.opts.Answers.Close() }() // a read that waits ends with it
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var gate view.Question
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r, err := client.Rollout(ctx, id)
			switch {
			case err != nil:
				continue
			case r.Closed:
				return
			}
			asked := gate.Nonce
			gate = openGate(r)
			if gate.Nonce != "" && gate.Nonce != asked {
				// No line is longer than a terminal is wide: the screen cuts what is.
				fmt.Fprintf(screen, "approve  %s, before step %s: y, or n (rolls back), then Enter\n", gate.Name,
					gate.Step)
				fmt.Fprintf(screen, "or       %s approve %s \\\n           --gate %s --server %s\n", Program(), id,
					gate.Name, server)
			}
		case line, more := <-lines:
			if !more {
				lines = nil // nobody types any more; another terminal still can answer
				continue
			}
			if text := reply(ctx, client, id, gate, line); text != "" {
				fmt.Fprintf(screen, "approve  %s\n", text)
			}
		}
	}
}

// readLines hands on lines until there are no more or ctx ends, and closes
// lines.
func readLines(ctx context.Context, from io.Reader, lines chan<- string) {
	defer close(lines)
	in := bufio.NewScanner(from)
	for in.Scan() {
		select {
		case lines <- in.Text():
		case <-ctx.Done():
			return
		}
	}
}

// openGate is the approval that waits for an answer; the zero Gate when none
// does.
func openGate(r view.Rollout) view.Question {
	for _, g := range r.Gates {
		if g.State == approval.Open {
			return g
		}
	}
	return view.Question{}
}

// reply gives the daemon what a person typed, and says what came of it; "" when
// the daemon will show it.
func reply(ctx context.Context, client *api.Client, id string, gate view.Question, line string) string {
	act, verb := api.Act{Gate: gate.Name, Nonce: gate.Nonce}, ""
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		verb = "approve"
	case "n", "no":
		verb, act.Reason = "reject", "answered no at the demo's terminal"
	default:
		return "want y or n"
	}
	if gate.Name == "" {
		return "nothing is asked now"
	}
	if _, err := client.Act(ctx, id, verb, rand.Text(), act); err != nil {
		return err.Error()
	}
	return ""
}
