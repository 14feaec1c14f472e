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
	all := len(ids) == 0
	if all {
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
		// Deleted are rollouts that were listed and are not there any more.
		Deleted []string `json:"deleted,omitempty"`
	}{SchemaVersion: api.SchemaVersion, Audits: []audit{}}
	broken := 0
	for _, id := range ids {
		a, err := verify(ctx, r, id)
		if all && err == nil && len(a.Problems) > 0 {
			a, err = verify(ctx, r, id) // it may be being deleted: the plan goes before the journal
		}
		if all && errors.Is(err, rollout.ErrNotFound) {
			fmt.Fprintf(e.stderr, "belay audit verify: %s was deleted after it was listed (retention does that to finished rollouts); it is not verified\n", id)
			out.Deleted = append(out.Deleted, id)
			continue
		}
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
		switch {
		case entry.Seq != last.Seq+1 && a.Entries == 1:
			wrong(entry.Seq, "it is the first; the beginning is missing")
		case entry.Seq != last.Seq+1:
			wrong(entry.Seq, "it comes after entry %d; entries are missing or in another order", last.Seq)
		case entry.Prev != a.Head && a.Entries == 1:
			wrong(entry.Seq, "it names %.12s as the hash before, but it is the first", orDash(entry.Prev))
		case entry.Prev != a.Head:
			// The link is broken; which of its ends was changed, it cannot tell.
			a.Problems = append(a.Problems, fmt.Sprintf("entry %d was changed, or entry %d does not follow it: the hash of entry %d is %.12s, entry %d names %.12s",
				last.Seq, entry.Seq, last.Seq, a.Head, entry.Seq, orDash(entry.Prev)))
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
