package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
)

func auditCommand() *command {
	return &command{
		name: "audit", short: "Check that journals are whole and unchanged.",
		sub: []*command{{
			name: "verify", args: "[ID]", short: "Check the hash chain of a rollout's journal, or of all.", max: 1,
			long: "Every entry names the hash of the one before and the hash of the state after it: an edited,\n" +
				"missing or reordered entry breaks the chain. With --store the stored state is checked as well.\n" +
				"The last hash (head) can be kept elsewhere to notice a chain that was rewritten whole.",
			examples: []string{"belay audit verify ID", "belay audit verify --store /var/lib/belay/belay.db"},
			setup: func(f *flags) run {
				from := f.source()
				output := f.choice("output", "how to print", "table", "json", "yaml")
				return func(ctx context.Context, e *env, args []string) error {
					r, done, err := from.openWhole(e)
					if err != nil {
						return err
					}
					defer func() { _ = done() }() // a store that was only read
					return auditVerify(ctx, e, r, args, *output)
				}
			},
		}},
	}
}

// An audit is what was found in one journal.
type audit struct {
	Rollout string `json:"rollout"`
	Entries int    `json:"entries"`
	// Head is the hash of the last entry.
	Head string `json:"head"`
	// Problems are what is wrong; none: the chain is whole.
	Problems []string `json:"problems"`
}

func auditVerify(ctx context.Context, e *env, r reader, ids []string, output string) error {
	if len(ids) == 0 {
		for x, err := range r.Rollouts(ctx, api.Filter{}) {
			if err != nil {
				return err
			}
			ids = append(ids, x.ID)
		}
	}
	out := struct {
		SchemaVersion int     `json:"schemaVersion"`
		Audits        []audit `json:"audits"`
	}{SchemaVersion: api.SchemaVersion, Audits: []audit{}}
	broken := 0
	for _, id := range ids {
		a, err := verify(ctx, r, id)
		if err != nil {
			return err
		}
		if len(a.Problems) > 0 {
			broken++
		}
		out.Audits = append(out.Audits, a)
	}
	err := e.print(output, out, func(w io.Writer) error {
		for _, a := range out.Audits {
			state := e.paint(green, "whole")
			if len(a.Problems) > 0 {
				state = e.paint(red, "BROKEN")
			}
			fmt.Fprintf(w, "%s  %s  %d entries  head %s\n", a.Rollout, state, a.Entries, a.Head)
			for _, p := range a.Problems {
				fmt.Fprintf(w, "    %s\n", safe(p))
			}
		}
		return nil
	}, nil)
	if err == nil && broken > 0 {
		return &codeError{exitError, fmt.Errorf("%d of %d journals are broken", broken, len(out.Audits))}
	}
	return err
}

// planHash is the hash of the rollout's plan as it stands now; "" when there is
// no such rollout, which the journal then tells.
func planHash(ctx context.Context, r reader, id string) (string, error) {
	p, err := r.Plan(ctx, id)
	if err != nil {
		return "", nil //nolint:nilerr // the journal says what is missing
	}
	return rollout.PlanHash(p)
}

// verify checks one journal.
func verify(ctx context.Context, r reader, id string) (audit, error) {
	a := audit{Rollout: id, Problems: []string{}}
	wrong := func(seq int, format string, args ...any) {
		a.Problems = append(a.Problems, fmt.Sprintf("entry %d: ", seq)+fmt.Sprintf(format, args...))
	}
	planned, err := planHash(ctx, r, id)
	if err != nil {
		return a, err
	}
	var last rollout.Entry
	for entry, err := range r.Journal(ctx, id) {
		if err != nil {
			return a, err
		}
		a.Entries++
		if a.Entries == 1 && len(entry.Events) > 0 && entry.Events[0].Plan != "" && entry.Events[0].Plan != planned {
			wrong(entry.Seq, "the plan is not the one that it names (%.12s, it is %.12s)", entry.Events[0].Plan, planned)
		}
		if entry.Seq != last.Seq+1 {
			wrong(entry.Seq, "it follows entry %d", last.Seq)
		}
		if entry.Prev != a.Head {
			wrong(entry.Seq, "it names %.12s as the hash before, that is %.12s", orDash(entry.Prev), orDash(a.Head))
		}
		switch {
		case entry.Epoch < last.Epoch:
			wrong(entry.Seq, "epoch %d follows %d", entry.Epoch, last.Epoch)
		case entry.Epoch == last.Epoch && entry.Owner != last.Owner:
			wrong(entry.Seq, "%s wrote in the epoch of %s", entry.Owner, last.Owner)
		}
		hash, err := entry.Hash()
		if err != nil {
			return a, err
		}
		a.Head, last = hash, entry
	}
	if s, ok := r.(*storeReader); ok {
		head, err := s.head(ctx, id)
		if err != nil {
			return a, err
		}
		sum := sha256.Sum256(head.State)
		if hex.EncodeToString(sum[:]) != last.State {
			wrong(last.Seq, "the stored state is not the one that the entry names")
		}
	}
	if a.Entries == 0 {
		return a, errors.Join(fmt.Errorf("audit %s", id), rollout.ErrNotFound)
	}
	return a, nil
}
