// Package notary takes the head of all journals once a day and makes it known where
// whoever changes the store cannot change it too: in /metrics, and as an event.
//
// It verifies nothing: `belay audit verify --against HEAD` does, when somebody asks.
package notary

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belayd/belay/rollout/audit"
	"github.com/belayd/belay/store"
)

// again is after how long what failed is tried once more.
const again = time.Minute

// Publish sends the head of a day to who keeps it. It does nothing where nobody does.
type Publish func(ctx context.Context, day time.Time, h audit.Checkpoint) error

// A Notary takes heads. It is safe for concurrent use.
type Notary struct {
	store   store.Store
	publish Publish
	log     *slog.Logger

	last atomic.Pointer[taken]
}

// A taken head, and when that was.
type taken struct {
	audit.Checkpoint
	at time.Time
}

// New makes a Notary.
func New(s store.Store, publish Publish, log *slog.Logger) *Notary {
	return &Notary{store: s, publish: publish, log: log}
}

// Run takes a head at once and at the beginning of every day (UTC), until ctx ends.
// A head that cannot be published is tried again until the next is due.
func (n *Notary) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		day := time.Now().UTC().Truncate(24 * time.Hour)
		next := day.Add(24 * time.Hour)
		for wait := n.serve(ctx, day); ; wait = n.serve(ctx, day) {
			left := time.Until(next)
			if wait == 0 || wait > left {
				wait = left
			}
			if !pause(ctx, wait) || !time.Now().Before(next) {
				break
			}
		}
	}
	return nil
}

// serve takes the head of a day, unless it has one, and publishes it. It returns
// after how long to try again; 0 when all is done.
func (n *Notary) serve(ctx context.Context, day time.Time) time.Duration {
	t := n.last.Load()
	if t == nil || t.at.Before(day) {
		h, err := audit.Now(ctx, n.store)
		if err != nil {
			if ctx.Err() == nil {
				n.log.Warn("audit head not taken", "outcome", err.Error())
			}
			return again
		}
		t = &taken{h, time.Now()}
		n.last.Store(t)
		n.log.Info("audit head", "head", h.String())
	}
	if err := n.publish(ctx, day, t.Checkpoint); err != nil {
		if ctx.Err() == nil {
			n.log.Warn("audit head not published", "outcome", err.Error())
		}
		return again
	}
	return 0
}

// pause waits; it reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// The metrics: one series a day.
var (
	headDesc = prometheus.NewDesc("belay_audit_head_info",
		"1; the label is the head of all journals as it was taken last, for belay audit verify --against.",
		[]string{"head"}, nil)
	atDesc = prometheus.NewDesc("belay_audit_head_timestamp_seconds", "When the head of all journals was taken last.",
		nil, nil)
)

// Describe implements prometheus.Collector.
func (n *Notary) Describe(ch chan<- *prometheus.Desc) { ch <- headDesc; ch <- atDesc }

// Collect implements prometheus.Collector.
func (n *Notary) Collect(ch chan<- prometheus.Metric) {
	if t := n.last.Load(); t != nil {
		ch <- prometheus.MustNewConstMetric(headDesc, prometheus.GaugeValue, 1, t.String())
		ch <- prometheus.MustNewConstMetric(atDesc, prometheus.GaugeValue, float64(t.at.UnixNano())/1e9)
	}
}

// Data is what the event of a day says.
type Data struct {
	SchemaVersion int    `json:"schemaVersion"`
	Head          string `json:"head"`
	Revision      uint64 `json:"revision"`
	Rollouts      int    `json:"rollouts"`
}

// DataOf is the data of a head's event.
func DataOf(h audit.Checkpoint) Data {
	return Data{SchemaVersion: 1, Head: h.String(), Revision: uint64(h.Revision), Rollouts: h.Rollouts}
}

// EventID is the id of a day's event: the same however often it is sent.
func EventID(day time.Time) string { return fmt.Sprintf("audit/%s", day.Format(time.DateOnly)) }
