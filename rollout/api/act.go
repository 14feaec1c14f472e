package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/undo"
	"github.com/belayd/belay/rollout/view"
)

// keyHeader makes a request repeatable.
const keyHeader = "Idempotency-Key"

// The bounds of what a request may say, in bytes and numbers.
const (
	nameMax   = 256
	reasonMax = 2000
	labelsMax = 64
	extendMax = 30 * 24 * time.Hour
)

// start makes a rollout of a request.
func (s *Server) start(w http.ResponseWriter, r *http.Request, a Actor) error {
	key, err := keyRequired(r)
	if err != nil {
		return err
	}
	var in StartRequest
	if err := read(r, &in, policyBodyMax); err != nil {
		return err
	}
	if err := in.check(); err != nil {
		return err
	}
	release := rollout.Release{
		Policy: in.Policy, Candidate: in.Candidate, Version: in.Version,
		Requester: a.Person, OnBehalfOf: s.canonical(in.RequestedBy),
		Labels: in.Labels, Artifact: in.Artifact, Environment: in.Environment, Source: "api " + key,
	}
	id := rollout.NewID("api:"+a.Person.ID, key)
	return s.release(w, r, a, id, release, in.PolicyText, func(context.Context) (*rollout.Plan, error) {
		return s.plan(r, a, id, release, in.PolicyText)
	})
}

// release starts the rollout id of a release and answers with it. text is the policy
// that the request brought, "" where it names one.
func (s *Server) release(
	w http.ResponseWriter, r *http.Request, a Actor, id string, release rollout.Release, text string,
	resolve func(context.Context) (*rollout.Plan, error),
) error {
	snap, created, err := s.c.Engine.Release(r.Context(), id, release, resolve)
	if err != nil {
		return err
	}
	if text != "" {
		if sum := sha256.Sum256([]byte(text)); snap.Plan.Policy.Hash != hex.EncodeToString(sum[:]) {
			return fmt.Errorf("rollout %s under another policy: %w", id, rollout.ErrDifferent)
		}
	}
	s.c.Log.Info("rollout asked for", "rollout", id, "policy", snap.Plan.Policy.Name, "by", a.Person.ID,
		"created", created)
	w.Header().Set("Location", "/v1/rollouts/"+id)
	return send(w, status(created), view.OfSnapshot(snap))
}

// canonical is who a name is.
func (s *Server) canonical(name string) string {
	name = strings.TrimSpace(name)
	if s.c.Canonical == nil {
		return name
	}
	return s.c.Canonical(name)
}

func status(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

// plan resolves the policy that the request names or brings.
func (s *Server) plan(
	r *http.Request, a Actor, id string, release rollout.Release, text string,
) (*rollout.Plan, error) {
	if text != "" {
		if !a.May(nil, RoleAdmin) {
			return nil, forbidden(a, nil)
		}
		plan, problems := s.c.Catalog.PlanText(r.Context(), id, release, []byte(text))
		if plan == nil {
			p := problem(http.StatusUnprocessableEntity, TypeInvalidPolicy, "The policy is not valid", "")
			p.Problems = problems
			return nil, p
		}
		return plan, nil
	}
	plan, err := s.c.Catalog.Plan(r.Context(), id, release)
	switch {
	case errors.Is(err, ErrNoPolicy):
		return nil, err
	case err != nil:
		return nil,
			problem(http.StatusUnprocessableEntity, TypeBadRequest, "The policy does not allow this release", err.Error())
	case !a.May(plan.Policy.Labels, RoleStart):
		return nil, forbidden(a, []Role{RoleStart})
	}
	return plan, nil
}

// check refuses what cannot be a release.
func (in StartRequest) check() error {
	var wrong []string
	bad := func(field, why string) { wrong = append(wrong, field+": "+why) }
	if (in.Policy == "") == (in.PolicyText == "") {
		bad("policy", "want a policy's name, or policyText")
	}
	for _, f := range []struct {
		name, value string
		required    bool
	}{
		{"policy", in.Policy, false}, {"candidate", in.Candidate, true}, {"version", in.Version, true},
		{"requestedBy", in.RequestedBy, false}, {"artifact", in.Artifact, false}, {"environment", in.Environment, false},
	} {
		switch {
		case f.value == "" && f.required:
			bad(f.name, "is missing")
		case len(f.value) > 2*nameMax || !printable(f.value):
			bad(f.name, fmt.Sprintf("want at most %d bytes of printable text", 2*nameMax))
		}
	}
	if len(in.Labels) > labelsMax {
		bad("labels", fmt.Sprintf("want at most %d", labelsMax))
	}
	for _, k := range slices.Sorted(maps.Keys(in.Labels)) {
		if k == "" || len(k) > nameMax || len(in.Labels[k]) > nameMax || !printable(k+in.Labels[k]) {
			bad("labels."+clip(k, 40), fmt.Sprintf("want at most %d bytes of printable text", nameMax))
		}
	}
	if len(wrong) > 0 {
		return badRequest(strings.Join(wrong, "; "))
	}
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// answer is a person's yes or no to an approval.
func (s *Server) answer(approve bool) func(http.ResponseWriter, *http.Request, Actor) error {
	return func(w http.ResponseWriter, r *http.Request, a Actor) error {
		in, err := readAct(r, !approve)
		if err != nil {
			return err
		}
		same := func(ev rollout.Event) bool {
			return ev.Kind == rollout.EventAnswered && ev.Approve == approve && ev.Reason == in.Reason &&
				(in.Gate == "" || in.Gate == ev.Gate) && (in.Nonce == "" || in.Nonce == ev.Nonce)
		}
		return s.act(w, r, a, same, func(snap rollout.Snapshot) (rollout.Event, error) {
			gate, question, err := openGate(snap, in.Gate)
			return rollout.Event{
				Kind: rollout.EventAnswered, Gate: gate.Name, Nonce: cmp.Or(in.Nonce, question.Nonce),
				Approve: approve, Reason: in.Reason,
			}, err
		})
	}
}

// openGate finds the approval that is answered.
func openGate(snap rollout.Snapshot, name string) (approval.Approval, approval.Question, error) {
	var open []approval.Approval
	for _, a := range snap.Plan.Approvals {
		if q, ok := snap.State.Gates[a.Name]; ok && (a.Name == name || name == "" && q.State == approval.Open) {
			open = append(open, a)
		}
	}
	switch {
	case len(open) == 1:
		return open[0], snap.State.Gates[open[0].Name], nil
	case len(open) == 0 && name != "":
		return approval.Approval{}, approval.Question{}, problem(http.StatusConflict, TypeNoEffect, "Nothing to answer",
			fmt.Sprintf("approval %q is not asked for now", clip(name, 60)))
	case len(open) == 0:
		return approval.Approval{}, approval.Question{},
			problem(http.StatusConflict, TypeNoEffect, "Nothing to answer", "no approval is asked for now")
	}
	names := make([]string, len(open))
	for i, a := range open {
		names[i] = a.Name
	}
	return approval.Approval{}, approval.Question{},
		badRequest("gate: several approvals are open, name one: " + strings.Join(names, ", "))
}

// command is a person's order.
func (s *Server) command(c rollout.Command) func(http.ResponseWriter, *http.Request, Actor) error {
	return func(w http.ResponseWriter, r *http.Request, a Actor) error {
		in, err := readAct(r, c != rollout.CommandAck)
		if err != nil {
			return err
		}
		ev := rollout.Event{Kind: rollout.EventCommanded, Command: c, Reason: in.Reason}
		if c == rollout.CommandExtend {
			ev.Extend, err = time.ParseDuration(in.Extend)
			if err != nil || ev.Extend <= 0 || ev.Extend > extendMax {
				return badRequest("extend: want a duration like 30m, at most 720h")
			}
		} else if in.Extend != "" {
			return badRequest("extend: only extend takes it")
		}
		if ev.To = in.To; (c == rollout.CommandSkip) != (in.To != "") {
			return badRequest("to: skip takes the name of a later step, and nothing else does")
		}
		same := func(was rollout.Event) bool {
			return was.Kind == ev.Kind && was.Command == c && was.Reason == ev.Reason && was.Extend == ev.Extend &&
				was.To == ev.To
		}
		return s.act(w, r, a, same, func(rollout.Snapshot) (rollout.Event, error) { return ev, nil })
	}
}

// act hands over what the actor asks for, once they may, and answers with what it
// led to. A request that repeats the key of one that was taken up is that one, as
// same tells, whatever has become of the rollout since.
func (s *Server) act(w http.ResponseWriter, r *http.Request, a Actor, same func(rollout.Event) bool,
	ask func(rollout.Snapshot) (rollout.Event, error)) error {
	snap, err := s.find(r, a)
	if err != nil {
		return err
	}
	key, err := keyOf(r)
	if err != nil {
		return err
	}
	id := snap.Plan.ID
	act := rollout.NewID("act:"+id+":"+cmp.Or(a.Person.As, a.Person.ID), cmp.Or(key, rand.Text()))
	var ev rollout.Event
	once := func(now rollout.Snapshot, was *rollout.Event) (_ rollout.Event, err error) {
		switch {
		case was != nil && !same(*was):
			return ev, fmt.Errorf("%s %q: %w", keyHeader, clip(key, 40), rollout.ErrDifferent)
		case was != nil:
			ev = *was
			return ev, nil
		}
		ev, err = ask(now)
		ev.By = &a.Person
		return ev, err
	}
	after, err := s.c.Engine.Act(r.Context(), id, act, a, once)
	var forbidden *access.ForbiddenError
	switch {
	case errors.As(err, &forbidden):
		return problem(http.StatusForbidden, TypeForbidden, "Not allowed", forbidden.Why)
	case errors.Is(err, rollout.ErrEnded):
		if snap, err = s.find(r, a); err != nil {
			return err
		}
		return problem(http.StatusConflict, TypeEnded, "The rollout has ended", undo.Instead(snap.Plan, &snap.State))
	case err != nil:
		return err
	}
	what := cmp.Or(string(ev.Command), string(ev.Kind))
	s.c.Log.Info("act delivered", "rollout", id, "act", what, "gate", ev.Gate, "by", a.Person.ID,
		"ignored", after.State.Last.Ignored)
	if why := after.State.Last.Ignored; why != "" {
		return problem(http.StatusConflict, TypeNoEffect, "Nothing changed", why)
	}
	return send(w, http.StatusOK, view.OfSnapshot(after))
}

// readAct reads the body of an order; it may be empty where no reason is needed.
func readAct(r *http.Request, reason bool) (Act, error) {
	var in Act
	if r.ContentLength != 0 {
		if err := read(r, &in, bodyMax); err != nil {
			return Act{}, err
		}
	}
	if err := checkReason(&in.Reason, reason); err != nil {
		return Act{}, err
	}
	if len(in.Nonce) > nameMax || len(in.Gate) > nameMax || len(in.To) > nameMax || !printable(in.Nonce+in.Gate+in.To) {
		return Act{}, badRequest("gate, nonce, to: want short printable text")
	}
	return in, nil
}

// checkReason trims a reason and refuses what is none.
func checkReason(reason *string, required bool) error {
	*reason = strings.TrimSpace(*reason)
	switch {
	case required && *reason == "":
		return badRequest("reason: say why; it is journalled")
	case len(*reason) > reasonMax ||
		strings.ContainsFunc(*reason, func(c rune) bool { return !unicode.IsPrint(c) && c != '\n' && c != '\t' }):
		return badRequest(fmt.Sprintf("reason: want at most %d bytes of text", reasonMax))
	}
	return nil
}

// keyRequired is the request's idempotency key, which must be there.
func keyRequired(r *http.Request) (string, error) {
	key, err := keyOf(r)
	if key == "" && err == nil {
		err = problem(http.StatusBadRequest, TypeKeyRequired, "Idempotency-Key is missing",
			"send a header Idempotency-Key that is new for each release and the same when you repeat the request")
	}
	return key, err
}

// keyOf is the request's idempotency key; "" when it has none.
func keyOf(r *http.Request) (string, error) {
	keys := r.Header.Values(keyHeader)
	if len(keys) == 0 {
		return "", nil
	}
	if len(keys) > 1 || keys[0] == "" || len(keys[0]) > nameMax || !printable(keys[0]) {
		return "", badRequest(fmt.Sprintf("%s: want one, of 1 to %d printable characters", keyHeader, nameMax))
	}
	return keys[0], nil
}
