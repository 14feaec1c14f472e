package traffictest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/belayd/belay/rollout/traffic"
)

// A conformance is one case of Exercise; run returns what happened, for the
// table.
type conformance struct {
	name                   string
	fault                  FaultKind
	mirrors, versions, off bool
	run                    func(*exercise) string
}

var cases = []conformance{
	{name: "shift", run: shiftsAndReadsBack},
	{name: "idempotent", run: isIdempotent},
	{name: "concurrent", run: isConcurrent},
	{name: "invalid split", run: refusesInvalid},
	{name: "unknown names", run: refusesUnknown},
	{name: "traffic off", off: true, run: readsTrafficOff},
	{name: "mirror", mirrors: true, run: mirrorsAndClears},
	{name: "foreign before", run: foreignBefore},
	{name: "foreign third", run: foreignThird},
	{name: "foreign mirror", mirrors: true, run: foreignMirror},
	{name: "foreign between", fault: FaultNone, run: foreignBetween},
	{name: "foreign after", run: foreignAfter},
	{name: "foreign and back", versions: true, run: foreignAndBack},
	{name: "lost answer", fault: FaultLostAnswer, run: lostAnswer},
	{name: "failed", fault: FaultFailed, run: failed},
	{name: "late", fault: FaultLate, run: late},
	{name: "never applied", fault: FaultNever, run: neverApplied},
	{name: "partly applied", fault: FaultPartly, run: partlyApplied},
	{name: "slow", fault: FaultSlow, run: slow},
	{name: "slow, applied", fault: FaultSlowApplied, run: slowApplied},
	{name: "busy", fault: FaultBusy, run: busy},
	{name: "throttled", fault: FaultThrottled, run: throttled},
	{name: "cancelled", run: cancelled},
	{name: "describe", run: describes},
	{name: "endpoints", run: lists},
}

func shiftsAndReadsBack(x *exercise) string {
	from := x.reads(x.all)
	for _, weight := range []int{5, 25, 60, 100, 0} {
		to := x.split(100-weight, weight)
		if err := x.shift(from, to); err != nil {
			x.Fatalf("Shift to %s: %v", to, err)
		}
		from = x.reads(to)
	}
	if n := len(x.Sent()); n != 5 {
		x.Errorf("writes: got %d, want 5", n)
	}
	return "up the ladder and back, each read back"
}

// A shift to what already is writes nothing, whatever it required.
func isIdempotent(x *exercise) string {
	to := x.split(95, 5)
	for range 3 {
		if err := x.shift(x.all, to); err != nil {
			x.Fatalf("Shift: %v", err)
		}
	}
	if err := x.shift(x.split(40, 60), to); err != nil {
		x.Errorf("Shift to what is, from something else: got %v, want nil", err)
	}
	if n := len(x.Sent()); n != 1 {
		x.Errorf("writes: got %d, want 1", n)
	}
	x.reads(to)
	return "one write for four calls"
}

// Readers and equal writers may come together; every one of them either
// succeeds or is told to wait or that the split changed under it.
func isConcurrent(x *exercise) string {
	to := x.split(95, 5)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var busy *traffic.BusyError
			if err := x.shift(x.all, to); err != nil && !errors.As(err, &busy) &&
				!errors.Is(err, traffic.ErrForeignChange) {
				x.Errorf("Shift: %v", err)
			}
		})
		wg.Go(func() {
			s, err := x.Router.Split(x.Context(), x.Endpoint)
			if x.note(err) != nil || !s.Equal(x.all) && !s.Equal(to) {
				x.Errorf("Split: got %s, %v, want one of the two", s, err)
			}
		})
	}
	wg.Wait()
	x.reads(to)
	return "8 equal writers, 8 readers"
}

func refusesInvalid(x *exercise) string {
	zero := traffic.Split{Weights: map[string]int{x.Deployments[0]: 0, x.Deployments[1]: 0}}
	for _, to := range []traffic.Split{{}, zero, x.split(99), x.split(96, 5), x.split(105, -5)} {
		if err := x.shift(x.all, to); !errors.Is(err, traffic.ErrPermanent) {
			x.Errorf("Shift to %v: got %v, want ErrPermanent", to.Weights, err)
		}
	}
	if !x.Mirrors {
		if err := x.shift(x.all, x.mirrored(x.all, 10)); !errors.Is(err, traffic.ErrPermanent) {
			x.Errorf("Shift with a mirror: got %v, want ErrPermanent", err)
		}
	}
	if n := len(x.Sent()); n != 0 {
		x.Errorf("writes: got %d, want 0", n)
	}
	x.reads(x.all)
	return "refused, nothing sent"
}

func refusesUnknown(x *exercise) string {
	const name = "no-such-name"
	_, err := x.Router.Split(x.Context(), name)
	wantNotFound(x, "Split", err)
	_, err = x.Router.Describe(x.Context(), name)
	wantNotFound(x, "Describe", err)
	wantNotFound(x, "Shift", x.Router.Shift(x.Context(), name, x.all, x.split(95, 5)))
	r, err := http.NewRequestWithContext(x.Context(), http.MethodGet, "", http.NoBody)
	if err != nil {
		x.Fatal(err)
	}
	resp, err := x.Router.Probe(x.Context(), name, x.Deployments[0], r)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(x.note(err), traffic.ErrNotFound) && !errors.Is(err, traffic.ErrPermanent) {
		x.Errorf("Probe: got %v, want ErrNotFound or ErrPermanent", err)
	}
	err = x.shift(x.all, traffic.Split{Weights: map[string]int{x.Deployments[0]: 95, name: 5}})
	if !errors.Is(err, traffic.ErrNotFound) && !errors.Is(err, traffic.ErrPermanent) {
		x.Errorf("Shift to an unknown deployment: got %v, want ErrNotFound or ErrPermanent", err)
	}
	x.reads(x.all)
	return "not found, nothing changed"
}

func wantNotFound(x *exercise, what string, err error) {
	x.Helper()
	if !errors.Is(x.note(err), traffic.ErrNotFound) {
		x.Errorf("%s of an unknown endpoint: got %v, want ErrNotFound", what, err)
	}
}

// Someone turned the traffic off: it is read as such, and turned on again only
// by who says that it is off.
func readsTrafficOff(x *exercise) string {
	x.Foreign(traffic.Split{})
	x.reads(traffic.Split{})
	if err := x.shift(x.all, x.split(95, 5)); !errors.Is(err, traffic.ErrForeignChange) {
		x.Errorf("Shift: got %v, want ErrForeignChange", err)
	}
	if err := x.shift(traffic.Split{}, x.all); err != nil {
		x.Errorf("Shift from nothing: %v", err)
	}
	x.reads(x.all)
	return "read as off, turned on by who knew"
}

// A mirror is written beside the weights and ends in the same write that gives
// the deployment live traffic.
func mirrorsAndClears(x *exercise) string {
	shadow := x.mirrored(x.all, 10)
	if err := x.shift(x.all, shadow); err != nil {
		x.Fatalf("Shift to a mirror: %v", err)
	}
	got := x.reads(shadow)
	five := x.split(95, 5)
	if err := x.shift(got, five); err != nil {
		x.Fatalf("Shift from a mirror to weights: %v", err)
	}
	x.reads(five)
	if n := len(x.Sent()); n != 2 {
		x.Errorf("writes: got %d, want 2: the mirror is cleared in the write of the weights", n)
	}
	return "mirror cleared in the write of the weights"
}

// wantForeign checks that Shift(from, to) is refused and that nothing was sent
// or changed.
func wantForeign(x *exercise, from, to traffic.Split) {
	x.Helper()
	before, sent := x.Truth(), len(x.Sent())
	if err := x.shift(from, to); !errors.Is(err, traffic.ErrForeignChange) {
		x.Errorf("Shift from %s to %s: got %v, want ErrForeignChange", from, to, err)
	}
	if n := len(x.Sent()) - sent; n != 0 {
		x.Errorf("writes: got %d, want 0", n)
	}
	x.reads(before)
}

func foreignBefore(x *exercise) string {
	x.Foreign(x.split(40, 60))
	wantForeign(x, x.all, x.split(95, 5))
	x.Foreign(x.split(0, 100))
	wantForeign(x, x.all, x.split(95, 5))
	return "refused, nothing sent"
}

func foreignThird(x *exercise) string {
	x.Foreign(x.split(90, 0, 10))
	wantForeign(x, x.all, x.split(95, 5))
	return "refused, nothing sent"
}

func foreignMirror(x *exercise) string {
	x.Foreign(x.mirrored(x.all, 20))
	wantForeign(x, x.all, x.split(95, 5))
	return "refused, nothing sent"
}

// Someone writes between the router's read and its write. Where the endpoint
// has a fence nothing is overwritten; where it has none, the read that follows
// must at least show what is true.
func foreignBetween(x *exercise) string {
	theirs, ours := x.split(50, 50), x.split(95, 5)
	x.Inject(Fault{Kind: FaultNone, Arrived: func() { x.Foreign(theirs) }})
	err := x.shift(x.all, ours)
	if x.Fenced {
		if !errors.Is(err, traffic.ErrForeignChange) {
			x.Errorf("Shift: got %v, want ErrForeignChange", err)
		}
		x.reads(theirs)
		return "refused by the endpoint's fence"
	}
	if err != nil && !errors.Is(err, traffic.ErrForeignChange) {
		x.Errorf("Shift: got %v, want nil or ErrForeignChange", err)
	}
	if truth := x.reads(x.Truth()); truth.Equal(ours) {
		return "no fence: overwritten; what is true was read"
	}
	return "no fence: theirs stayed; what is true was read"
}

func foreignAfter(x *exercise) string {
	to := x.split(95, 5)
	if err := x.shift(x.all, to); err != nil {
		x.Fatalf("Shift: %v", err)
	}
	x.Foreign(x.split(50, 50))
	x.reads(x.split(50, 50))
	wantForeign(x, to, x.split(75, 25))
	return "seen by the next read, next shift refused"
}

// Someone changed the split and changed it back: who compares versions notices,
// who compares weights alone does not care.
func foreignAndBack(x *exercise) string {
	from := x.reads(x.all)
	x.Foreign(x.split(50, 50))
	x.Foreign(x.all)
	wantForeign(x, from, x.split(95, 5))
	if err := x.shift(x.all, x.split(95, 5)); err != nil {
		x.Errorf("Shift without a version: %v", err)
	}
	return "refused by version, allowed by weights"
}

// wantUnknown checks that an error says that the outcome is unknown.
func wantUnknown(x *exercise, err error) {
	x.Helper()
	var busy *traffic.BusyError
	if err == nil || errors.Is(err, traffic.ErrForeignChange) || errors.Is(err, traffic.ErrPermanent) ||
		errors.As(err, &busy) {
		x.Errorf("Shift: got %v, want a transient error", err)
	}
}

func lostAnswer(x *exercise) string {
	to := x.split(95, 5)
	x.Inject(Fault{Kind: FaultLostAnswer})
	wantUnknown(x, x.shift(x.all, to))
	x.reads(to)
	if err := x.shift(x.all, to); err != nil {
		x.Errorf("Shift again: got %v, want nil", err)
	}
	if n := len(x.Sent()); n != 1 {
		x.Errorf("writes: got %d, want 1: the router does not retry", n)
	}
	return "error; read back shows it; again is a no-op"
}

func failed(x *exercise) string {
	to := x.split(95, 5)
	x.Inject(Fault{Kind: FaultFailed})
	wantUnknown(x, x.shift(x.all, to))
	x.reads(x.all)
	if n := len(x.Sent()); n != 1 {
		x.Errorf("writes: got %d, want 1: the router does not retry", n)
	}
	if err := x.shift(x.all, to); err != nil {
		x.Errorf("Shift again: got %v, want nil", err)
	}
	x.reads(to)
	return "error; read back shows the old; again succeeds"
}

// Accepted is not in effect: until it lands, the router reads what is true, or
// says that the endpoint is busy.
func late(x *exercise) string {
	to := x.split(95, 5)
	x.Inject(Fault{Kind: FaultLate})
	if err := x.shift(x.all, to); err != nil {
		x.Fatalf("Shift: %v", err)
	}
	var busy *traffic.BusyError
	outcome := "accepted; old is read until it lands"
	switch got, err := x.Router.Split(x.Context(), x.Endpoint); {
	case errors.As(x.note(err), &busy):
		outcome = "accepted; cannot be read until it lands"
	case err != nil || !got.Equal(x.all):
		x.Errorf("Split before it landed: got %s, %v, want %s or a BusyError", got, err, x.all)
	}
	err := x.shift(x.all, x.split(75, 25))
	waits := errors.As(err, &busy)
	if err != nil && !waits {
		x.Errorf("Shift before it landed: got %v, want nil or a BusyError", err)
	}
	x.Settle()
	if waits {
		x.reads(to)
		return outcome + "; meanwhile busy"
	}
	x.reads(x.Truth())
	return outcome
}

func neverApplied(x *exercise) string {
	to := x.split(95, 5)
	x.Inject(Fault{Kind: FaultNever})
	if err := x.shift(x.all, to); err != nil {
		x.Fatalf("Shift: got %v, want nil: accepted", err)
	}
	x.Settle()
	x.reads(x.all)
	if err := x.shift(x.all, to); err != nil {
		x.Errorf("Shift again: %v", err)
	}
	x.reads(to)
	return "accepted; read back shows the old; again succeeds"
}

func partlyApplied(x *exercise) string {
	to := x.split(95, 5)
	x.Inject(Fault{Kind: FaultPartly})
	told := "accepted"
	if err := x.shift(x.all, to); err != nil {
		wantUnknown(x, err)
		told = "error"
	}
	truth := x.reads(x.Truth())
	if truth.Equal(x.all) || truth.Equal(to) {
		x.Fatalf("fault: got %s, want neither old nor new", truth)
	}
	wantForeign(x, x.all, to)
	if err := x.shift(truth, to); err != nil {
		x.Errorf("Shift from what is true: %v", err)
	}
	x.reads(to)
	return told + "; neither is read; mended from what is true"
}

// The caller gives up while the endpoint has the write in hand.
func giveUp(x *exercise, kind FaultKind) {
	ctx, cancel := context.WithCancel(x.Context())
	defer cancel()
	x.Inject(Fault{Kind: kind, Arrived: cancel})
	wantUnknown(x, x.note(x.Router.Shift(ctx, x.Endpoint, x.all, x.split(95, 5))))
}

func slow(x *exercise) string {
	giveUp(x, FaultSlow)
	x.reads(x.all)
	return "gave up; read back shows the old"
}

func slowApplied(x *exercise) string {
	giveUp(x, FaultSlowApplied)
	x.Settle()
	x.reads(x.split(95, 5))
	return "gave up; read back shows the new"
}

func wantBusy(x *exercise, kind FaultKind) string {
	to := x.split(95, 5)
	x.Inject(Fault{Kind: kind})
	err := x.shift(x.all, to)
	var busy *traffic.BusyError
	if !errors.As(err, &busy) || errors.Is(err, traffic.ErrPermanent) {
		x.Fatalf("Shift: got %v, want a BusyError", err)
	}
	x.reads(x.all)
	if n := len(x.Sent()); n != 1 {
		x.Errorf("writes: got %d, want 1: the router does not retry", n)
	}
	if err := x.shift(x.all, to); err != nil {
		x.Errorf("Shift again: %v", err)
	}
	x.reads(to)
	return "told to wait " + busy.RetryAfter.String() + "; again succeeds"
}

func busy(x *exercise) string { return wantBusy(x, FaultBusy) }

func throttled(x *exercise) string { return wantBusy(x, FaultThrottled) }

func cancelled(x *exercise) string {
	ctx, cancel := context.WithCancel(x.Context())
	cancel()
	if err := x.note(x.Router.Shift(ctx, x.Endpoint, x.all, x.split(95, 5))); !errors.Is(err, context.Canceled) {
		x.Errorf("Shift: got %v, want context canceled", err)
	}
	if _, err := x.Router.Split(ctx, x.Endpoint); !errors.Is(x.note(err), context.Canceled) {
		x.Errorf("Split: got %v, want context canceled", err)
	}
	if n := len(x.Sent()); n != 0 {
		x.Errorf("writes: got %d, want 0", n)
	}
	x.reads(x.all)
	return "nothing sent"
}

// Every deployment is described or said to be untold, and the way back by hand
// names what it leads to and no secret.
func describes(x *exercise) string {
	d, err := x.Router.Describe(x.Context(), x.Endpoint)
	if x.note(err) != nil {
		x.Fatalf("Describe: %v", err)
	}
	for _, name := range x.Deployments[:1] {
		_, told := d.Deployments[name]
		if !told && !slices.Contains(d.Unknown, "deployments") && !slices.Contains(d.Unknown, "deployments."+name) {
			x.Errorf("Describe: deployment %s is neither told nor in Unknown %q", name, d.Unknown)
		}
	}
	if d.CanMirror != x.Mirrors {
		x.Errorf("CanMirror: got %v, want %v", d.CanMirror, x.Mirrors)
	}
	if d.ManualRollback == nil {
		x.Fatal("ManualRollback: got nil")
	}
	command := d.ManualRollback(x.Deployments[0])
	if !strings.Contains(command, x.Deployments[0]) {
		x.Errorf("ManualRollback: got %q, want it to name the deployment", command)
	}
	for _, secret := range x.Secrets {
		if strings.Contains(command, secret) {
			x.Errorf("ManualRollback tells a secret: %q", command)
		}
	}
	return "untold: " + strings.Join(d.Unknown, " ")
}

func lists(x *exercise) string {
	var names []string
	for name, err := range x.Router.Endpoints(x.Context()) {
		if x.note(err) != nil {
			x.Fatalf("Endpoints: %v", err)
		}
		names = append(names, name)
	}
	if !slices.Contains(names, x.Endpoint) {
		x.Errorf("Endpoints: got %q, want %q among them", names, x.Endpoint)
	}
	for range x.Router.Endpoints(x.Context()) {
		break
	}
	return strings.Join(names, " ")
}
