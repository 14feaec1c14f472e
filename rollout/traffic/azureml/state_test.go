package azureml_test

import (
	"errors"
	"testing"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/azureml/armtest"
)

// Only a settled resource is written or read. What failed or was cancelled is
// written again, even where it shows what is wanted: that is what mends it.
func TestStates(t *testing.T) {
	tests := []struct {
		state        string
		busy, writes bool
	}{
		{"Succeeded", false, true}, {"Failed", false, true}, {"Canceled", false, true},
		{"Creating", true, false}, {"Updating", true, false}, {"Deleting", true, false}, {"SomethingNew", true, false},
	}
	for _, tt := range tests {
		w := open(t)
		w.arm.SetState("recs", "", tt.state)
		var busy *traffic.BusyError
		_, err := w.router.Split(t.Context(), "recs")
		if errors.As(err, &busy) != tt.busy || (err == nil) != (tt.state == "Succeeded") {
			t.Errorf("Split in state %s: got %v, want busy %v", tt.state, err, tt.busy)
		}
		err = w.router.Shift(t.Context(), "recs", weights(100, 0), weights(95, 5))
		if errors.As(err, &busy) != tt.busy || (err == nil) != tt.writes || (len(w.arm.Puts()) == 1) != tt.writes {
			t.Errorf("Shift in state %s: got %v and %d writes, want busy %v, writes %v", tt.state, err, len(w.arm.Puts()), tt.busy, tt.writes)
		}
	}
	w := open(t)
	w.arm.SetState("recs", "", "Failed")
	w.shift(t, weights(95, 5), weights(100, 0))
	if got, err := w.router.Split(t.Context(), "recs"); err != nil || !got.Equal(weights(100, 0)) || len(w.arm.Puts()) != 1 {
		t.Errorf("Shift of a failed resource to what it shows: got %s, %v and %d writes, want one that mends it", got, err, len(w.arm.Puts()))
	}
}

// An accepted write that ends in Failed never counts as in effect.
func TestAcceptedThenFailed(t *testing.T) {
	w := open(t)
	w.arm.Next(armtest.Ends(armtest.Outcome{State: "Failed"}))
	w.shift(t, weights(100, 0), weights(95, 5))
	if s, err := w.router.Split(t.Context(), "recs"); err == nil {
		t.Errorf("Split: got %s, want an error", s)
	}
	if got := w.truth(); !got.Equal(weights(100, 0)) {
		t.Errorf("in effect: got %s, want %s", got, weights(100, 0))
	}
	w.shift(t, weights(100, 0), weights(95, 5))
	if got, err := w.router.Split(t.Context(), "recs"); err != nil || !got.Equal(weights(95, 5)) {
		t.Errorf("Split after the second write: got %s, %v, want %s", got, err, weights(95, 5))
	}
}

// A forward write that failed leaves a resource that shows what was asked and
// cannot be read: the rollback is written all the same, another step is not.
func TestRollbackOfFailed(t *testing.T) {
	w := open(t)
	w.shift(t, weights(100, 0), weights(95, 5))
	w.arm.Next(armtest.Ends(armtest.Outcome{State: "Failed"}))
	w.shift(t, weights(95, 5), weights(75, 25))
	if s, err := w.router.Split(t.Context(), "recs"); err == nil {
		t.Errorf("Split: got %s, want an error", s)
	}
	if err := w.router.Shift(t.Context(), "recs", weights(95, 5), weights(40, 60)); !errors.Is(err, traffic.ErrForeignChange) {
		t.Errorf("another step: got %v, want ErrForeignChange", err)
	}
	w.shift(t, weights(95, 5), weights(100, 0))
	if got, err := w.router.Split(t.Context(), "recs"); err != nil || !got.Equal(weights(100, 0)) || !w.truth().Equal(got) {
		t.Errorf("Split after the rollback: got %s, %v, want %s", got, err, weights(100, 0))
	}
}

// A service that echoes Succeeded while it is still updating misleads nobody,
// whether GET shows the old traffic or the new.
func TestEchoIsNotProof(t *testing.T) {
	for _, old := range []bool{true, false} {
		w := open(t)
		w.arm.EchoesSucceeded, w.arm.ShowsOld, w.arm.Delay = true, old, armtest.Settled
		w.shift(t, weights(100, 0), weights(95, 5))
		var busy *traffic.BusyError
		if s, err := w.router.Split(t.Context(), "recs"); !errors.As(err, &busy) {
			t.Errorf("Split while updating, shows old %v: got %s, %v, want a BusyError", old, s, err)
		}
		w.arm.Settle("recs")
		if got, err := w.router.Split(t.Context(), "recs"); err != nil || !got.Equal(weights(95, 5)) {
			t.Errorf("Split when settled: got %s, %v, want %s", got, err, weights(95, 5))
		}
	}
}

// A rollback that comes while a forward shift is in progress waits for ARM and
// for nothing else: it is written at the first try after the operation has
// ended.
func TestRollbackWaitsForTheForwardShift(t *testing.T) {
	w := open(t)
	w.arm.Next(armtest.Ends(armtest.Outcome{Delay: armtest.Settled}))
	w.shift(t, weights(100, 0), weights(40, 60))
	var busy *traffic.BusyError
	for range 3 {
		if err := w.router.Shift(t.Context(), "recs", weights(40, 60), weights(100, 0)); !errors.As(err, &busy) {
			t.Fatalf("rollback while the shift is in progress: got %v, want a BusyError", err)
		}
	}
	if n := len(w.arm.Puts()); n != 1 {
		t.Errorf("writes while the shift is in progress: got %d, want 1", n)
	}
	w.arm.Settle("recs")
	w.shift(t, weights(40, 60), weights(100, 0))
	if got, err := w.router.Split(t.Context(), "recs"); err != nil || !got.Equal(weights(100, 0)) {
		t.Errorf("Split: got %s, %v, want %s", got, err, weights(100, 0))
	}
}
