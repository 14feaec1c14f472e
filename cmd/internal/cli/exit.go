package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/view"
)

// The exit codes.
const (
	exitOK          = 0   // done, or promoted
	exitError       = 1   // an error; audit or replay found a mismatch
	exitUsage       = 2   // the command line is not right
	exitInvalid     = 3   // a policy or its test is not valid
	exitNotAllowed  = 4   // not allowed
	exitRolledBack  = 5   // rolled back by a rule
	exitStopped     = 6   // put back by a person, or superseded
	exitTimeout     = 7   // --timeout passed and it still runs
	exitRunning     = 8   // it runs, waits, is held or suspect
	exitRefused     = 9   // refused before any traffic moved
	exitUnconfirmed = 10  // verifyWithin passed and the rollback is not confirmed
	exitDetached    = 130 // Ctrl-C; the rollout goes on
)

// codesHelp is what the overview says about exit codes.
const codesHelp = `
Exit codes: 0 done, promoted · 1 error, mismatch · 2 usage · 3 policy invalid · 4 not allowed
  5 rolled back by a rule · 6 stopped by a person or superseded · 7 --timeout passed
  8 still running, waiting, held · 9 refused before any traffic moved
  10 rollback not confirmed in time · 130 detached by Ctrl-C
`

// A codeError ends a command with a code. Its error may be nil: then all was
// said already.
type codeError struct {
	code int
	err  error
}

func (x *codeError) Error() string {
	if x.err == nil {
		return fmt.Sprintf("exit code %d", x.code)
	}
	return x.err.Error()
}

func (x *codeError) Unwrap() error { return x.err }

// usageError is a mistake on the command line that only the command can see.
func usageError(format string, args ...any) error {
	return &codeError{exitUsage, fmt.Errorf(format, args...)}
}

// codeOf is the exit code of a rollout as it stands.
func codeOf(r view.Rollout) int {
	switch r.Phase {
	case rollout.PhasePromoted:
		return exitOK
	case rollout.PhaseRolledBack:
		return exitRolledBack
	case rollout.PhaseStopped:
		return exitStopped
	case rollout.PhaseRefused:
		return exitRefused
	case rollout.PhaseQueued, rollout.PhaseScheduled, rollout.PhasePreflight, rollout.PhaseShifting,
		rollout.PhaseBaking,
		rollout.PhaseWaiting, rollout.PhaseHeld, rollout.PhasePaused, rollout.PhaseRollingBack, rollout.PhaseSuspect:
	}
	if r.Unconfirmed {
		return exitUnconfirmed
	}
	return exitRunning
}

// ended makes the code of a rollout the command's; nil for 0.
func ended(r view.Rollout) error {
	if code := codeOf(r); code != exitOK {
		return &codeError{code: code}
	}
	return nil
}

// exit says what went wrong and returns the code for it.
func (e *env) exit(path string, err error) int {
	code := exitCode(err)
	x, ok := errors.AsType[*codeError](err)
	switch {
	case err == nil, ok && x.err == nil:
	case code == exitUsage:
		return e.usage(path, err.Error())
	default:
		fmt.Fprintf(e.stderr, "%s: %s\n", path, view.Told(sentence(err), e.reach, e.when))
	}
	return code
}

// exitCode is the code with which a command that returned err ends.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if x, ok := errors.AsType[*codeError](err); ok {
		return x.code
	}
	if p, ok := errors.AsType[*api.ProblemDetails](err); ok {
		switch {
		case p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden:
			return exitNotAllowed
		case p.Type == api.TypeInvalidPolicy:
			return exitInvalid
		}
	}
	if errors.Is(err, context.Canceled) {
		return exitDetached
	}
	return exitError
}

// sentence is an error for people: of a problem what it says, with the request's
// id where the daemon's log has more.
func sentence(err error) string {
	p, ok := errors.AsType[*api.ProblemDetails](err)
	if !ok {
		return err.Error()
	}
	var b strings.Builder
	b.WriteString(p.Title)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	if p.Type == api.TypeNotFound && strings.Contains(p.Detail, "rollout") {
		b.WriteString("; belay list --limit 0 shows all that there are")
	}
	if p.Status == http.StatusUnauthorized {
		b.WriteString("; name a token with --token-file, or a client certificate with --cert-file, or both in a " +
			"context (belay context set)")
	}
	for _, x := range p.Problems {
		b.WriteString("\n" + x.String())
	}
	if p.Status >= http.StatusInternalServerError && p.Instance != "" {
		b.WriteString(" (request " + p.Instance + ")")
	}
	return b.String()
}
