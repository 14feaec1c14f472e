package demo

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"time"
)

// onChange watches the endpoint's own weights: the trouble begins with the
// candidate's 25% step.
func (w *World) onChange(at time.Time, weights map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, change{at, weights})
	if w.troubled {
		if w.opts.Fault == FaultForeignChange && w.faultAt.IsZero() && len(weights) == 0 {
			w.faultAt = at
		}
		return
	}
	if w.opts.Fault == FaultNone || weights[Candidate] < faultWeight {
		return
	}
	w.troubled = true
	if w.opts.Fault != FaultForeignChange {
		w.faultAt = at
	}
	w.models[Candidate].set(w.opts.Fault.under())
	close(w.trouble)
}

// disturb plays the somebody who changes the traffic from outside, shortly
// after the candidate reached its 25%.
func (w *World) disturb(ctx context.Context) error {
	if w.opts.Fault != FaultForeignChange {
		return nil
	}
	select {
	case <-w.trouble:
	case <-ctx.Done():
		return nil
	}
	select {
	case <-time.After(w.opts.Speed.scale(2 * time.Second)):
	case <-ctx.Done():
		return nil
	}
	if w.arm != nil {
		w.arm.zero()
		return nil
	}
	url := strings.TrimSuffix(w.load.url, "/score") + "/endpoints/" + Endpoint
	body := fmt.Sprintf(`{"weights":{%q:0,%q:0},"mirror":{}}`, Stable, Candidate)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("zero the traffic: %w", err)
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("zero the traffic: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("zero the traffic: got %s", resp.Status)
	}
	return nil
}

// FaultAt is when the fault began: when the candidate's 25% took effect, or when
// the traffic was zeroed. It is false before.
func (w *World) FaultAt() (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.faultAt, !w.faultAt.IsZero()
}

// Weights are the endpoint's present weights by deployment, as it holds them
// itself.
func (w *World) Weights() map[string]int { return w.endpoint.read().weights }

// BackAt is when the endpoint itself last began to send everything to stable,
// after the fault; false when it does not.
func (w *World) BackAt() (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.changes) == 0 || w.faultAt.IsZero() {
		return time.Time{}, false
	}
	last := w.changes[len(w.changes)-1]
	return last.at, maps.Equal(last.weights, map[string]int{Stable: 100}) && last.at.After(w.faultAt)
}

// Facts counts in the request log what was served between the fault's start and
// the given instant.
func (w *World) Facts(to time.Time) (Facts, error) {
	if err := w.log.flush(); err != nil {
		return Facts{}, fmt.Errorf("write request log: %w", err)
	}
	from, begun := w.FaultAt()
	if !begun {
		from = to
	}
	f, err := os.Open(w.RequestLog)
	if err != nil {
		return Facts{}, fmt.Errorf("read request log: %w", err)
	}
	defer f.Close()
	return readFacts(f, w.opts.Fault, w.opts.Speed, from, to)
}
