package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	heads "github.com/belayd/belay/rollout/audit"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/view"
)

func auditCommand() *command {
	return &command{
		name: "audit", short: "Check that journals are whole and unchanged.",
		sub: []*command{{
			name: "verify", args: "[ID]", short: "Check the hash chain of a rollout's journal, or of all, and fold " +
				"it again.", max: 1,
			long: "Every entry names the hash of the one before and the hash of the state after it: an edited,\n" +
				"missing or reordered entry breaks the chain. The events are folded again: what was decided must\n" +
				"come out. With --store the stored states and the endpoints' records are checked as well. With\n" +
				"--against a head that was kept elsewhere (belay audit head, belay_audit_head_info, the event\n" +
				"belay.audit.head) a rollout that was deleted, a chain that was rewritten whole and an older copy\n" +
				"of the store are noticed, too.",
			examples: []string{"belay audit verify ID", "belay audit verify --store /var/lib/belay/belay.db",
				"belay audit verify --against 4711-12-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
			setup: func(f *flags) run {
				from := f.source()
				against := f.String("against", "", "a `HEAD` that was kept elsewhere")
				output := f.choice("output", "how to print", "table", "json", "yaml")
				return func(ctx context.Context, e *env, args []string) error {
					r, done, err := from.open(e)
					if err != nil {
						return err
					}
					defer func() { _ = done() }() // a store that was only read
					return auditVerify(ctx, e, r, args, *against, *output)
				}
			},
		}, {
			name: "head", short: "Print one hash over all journals, to be kept elsewhere.",
			long: "It stands for all journals as they are now: ids, lengths, last hashes, the endpoints' records and\n" +
				"what retention deleted. belay audit verify --against compares a store with it later.",
			examples: []string{"belay audit head", "belay audit head --store /var/lib/belay/belay.db"},
			setup: func(f *flags) run {
				from := f.source()
				output := f.choice("output", "how to print", "table", "json", "yaml")
				return func(ctx context.Context, e *env, _ []string) error {
					r, done, err := from.open(e)
					if err != nil {
						return err
					}
					defer func() { _ = done() }() // a store that was only read
					h, err := r.AuditHead(ctx, 0)
					if err != nil {
						return err
					}
					return e.print(*output, h, func(w io.Writer) error {
						_, err := fmt.Fprintln(w, h.Head)
						return err
					}, nil)
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

// A comparison is what came of comparing with a head that was kept.
type comparison struct {
	Head string `json:"head"`
	// Problem says what has changed since; "": nothing has.
	Problem string `json:"problem,omitempty"`
}

// compare compares all journals with a head that was kept.
func compare(ctx context.Context, r reader, kept string) (*comparison, error) {
	want, err := heads.Parse(kept)
	if err != nil {
		return nil, &codeError{exitUsage, fmt.Errorf("--against: %w", err)}
	}
	out := &comparison{Head: want.String()}
	is, err := r.AuditHead(ctx, uint64(want.Revision))
	if p, ok := errors.AsType[*api.ProblemDetails](err); errors.Is(err, api.ErrNoHead) || ok &&
		p.Status == http.StatusConflict {
		out.Problem = err.Error()
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	now, err := heads.Parse(is.Head)
	if err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	if err := heads.Compare(want, now); err != nil {
		out.Problem = err.Error()
	}
	return out, nil
}

func auditVerify(ctx context.Context, e *env, r reader, ids []string, against, output string) error {
	all := len(ids) == 0
	if all {
		for x, err := range r.Rollouts(ctx, view.Filter{}) {
			if err != nil {
				return err
			}
			ids = append(ids, x.ID)
		}
	}
	out := struct {
		SchemaVersion int     `json:"schemaVersion"`
		Audits        []audit `json:"audits"`
		// Endpoints are those of a store that is verified whole.
		Endpoints []endpointAudit `json:"endpoints,omitempty"`
		// Deleted are rollouts that were listed and are not there any more.
		Deleted []string `json:"deleted,omitempty"`
		// Against is the comparison with a head, where one was given.
		Against *comparison `json:"against,omitempty"`
	}{SchemaVersion: api.SchemaVersion, Audits: []audit{}}
	if against != "" {
		var err error
		if out.Against, err = compare(ctx, r, against); err != nil {
			return err
		}
	}
	broken := 0
	if s, ok := r.(*storeReader); ok && all {
		var err error
		if out.Endpoints, err = s.auditEndpoints(ctx); err != nil {
			return err
		}
	}
	for _, a := range out.Endpoints {
		if a.Problem != "" {
			broken++
		}
	}
	for _, id := range ids {
		a, err := verify(ctx, r, id)
		if all && err == nil && len(a.Problems) > 0 {
			a, err = verify(ctx, r, id) // it may be being deleted: the plan goes before the journal
		}
		if all && errors.Is(err, rollout.ErrNotFound) {
			fmt.Fprintf(e.stderr, "belay audit verify: %s was deleted after it was listed (retention does that to "+
				"finished rollouts); it is not verified\n", id)
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
		for _, a := range out.Endpoints {
			if a.Problem != "" {
				fmt.Fprintf(w, "%s  %s  %d entries\n    %s\n", safe(a.Endpoint), e.paint(red, "BROKEN"), a.Entries,
					a.Problem)
			}
		}
		if c := out.Against; c != nil && c.Problem == "" {
			fmt.Fprintf(w, "all as at the head %s\n", c.Head)
		} else if c != nil {
			fmt.Fprintf(w, "%s  against the head %s: %s\n", e.paint(red, "BROKEN"), c.Head, safe(c.Problem))
		}
		return nil
	}, nil)
	if err == nil && broken == 0 && out.Against != nil && out.Against.Problem != "" {
		return &codeError{exitError, errors.New("the store is not what it was at the head")}
	}
	if err == nil && broken > 0 {
		return &codeError{exitError, fmt.Errorf("%d of %d journals are broken", broken, len(out.Audits)+
			len(out.Endpoints))}
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
	return journal.PlanHash(p)
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
	var last journal.Entry
	for entry, err := range r.Journal(ctx, id) {
		if err != nil {
			return a, err
		}
		a.Entries++
		if a.Entries == 1 && len(entry.Events) > 0 && entry.Events[0].Plan != "" && entry.Events[0].Plan != planned {
			wrong(entry.Seq, "the plan is not the one that it names (%.12s, it is %.12s)", entry.Events[0].Plan,
				planned)
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
			a.Problems = append(a.Problems, fmt.Sprintf("entry %d was changed, or entry %d does not follow it: the "+
				"hash of entry %d is %.12s, entry %d names %.12s",
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
	return a, folded(ctx, r, &a)
}

// folded folds a journal again whose chain is whole, and adds what comes out
// otherwise than it was recorded: a chain that was rewritten whole does not decide
// what it says.
func folded(ctx context.Context, r reader, a *audit) error {
	if len(a.Problems) > 0 {
		return nil
	}
	plan, err := r.Plan(ctx, a.Rollout)
	if err != nil {
		return err
	}
	out, err := refold(ctx, r, plan, plan, false)
	if err != nil || out.Same {
		return err
	}
	for _, d := range out.Differences {
		a.Problems = append(a.Problems, fmt.Sprintf("entry %d: folded again, %s; belay replay %s shows how", d.Seq,
			d.What, a.Rollout))
	}
	return nil
}
