package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/notice"
)

// A notifierHandle is a notifier with its share of concurrent deliveries: pages have a lane
// of their own, so that none waits for what people are only told.
type notifierHandle struct {
	notifier.Notifier
	name  string
	slots chan struct{}
	pages chan struct{}
	// took is when it last took a page, in nanoseconds since the Unix epoch.
	took atomic.Int64
}

// deliver hands one message to one notifier.
func (l *runner) deliver(ctx context.Context, s rollout.State, e rollout.Effect) (rollout.Event, bool) {
	if len(e.Notifiers) == 0 || e.Notice == nil {
		return undelivered("", failure.Permanent, "the message has no notifier"), true
	}
	name := e.Notifiers[0]
	o := l.e.notifiers[name]
	if o == nil {
		return undelivered(name, failure.Permanent, fmt.Sprintf("notifier %q is not configured", name)), true
	}
	lane := o.slots
	if e.Kind == rollout.EffectPage {
		lane = o.pages
	}
	if !acquire(ctx, lane) {
		return rollout.Event{}, false
	}
	defer func() { <-lane }()
	call, cancel := context.WithTimeout(ctx, l.e.cfg.NotifyTimeout)
	defer cancel()
	ref, err := o.Notify(call, notice.Of(l.plan, &s, e, l.e.cfg.ExternalURL, l.now()))
	if ctx.Err() != nil && err != nil {
		return rollout.Event{}, false
	}
	l.e.metrics.notified(name, err)
	if err == nil {
		if e.Kind == rollout.EffectPage {
			l.e.PageTaken(name)
		}
		return rollout.Event{Kind: rollout.EventDelivered, Notifier: name, Ref: ref, Key: e.Notice.Key}, true
	}
	l.warn(ctx, "message not delivered", err, "notifier", name)
	f := failureOfMessage(err)
	return rollout.Event{Kind: rollout.EventUndelivered, Notifier: name, Failure: &f}, true
}

// failureOfMessage says what can be done about a notifier's error.
func failureOfMessage(err error) failure.Failure {
	f := failure.Failure{Kind: failure.Busy, Message: err.Error()}
	var later *notifier.RetryError
	switch {
	case errors.Is(err, notifier.ErrPermanent):
		f.Kind = failure.Permanent
	case errors.As(err, &later):
		f.RetryAfter = later.After
	case mayHaveArrived(err):
		f.Kind = failure.Transient
	}
	return f
}

// sendPage delivers a page that is nobody's rollout's.
func (e *Engine) sendPage(ctx context.Context, name string, n notifier.Notice) (ref string, err error) {
	to := e.notifiers[name]
	if to == nil {
		return "", fmt.Errorf("notifier %q is not configured: %w", name, notifier.ErrPermanent)
	}
	if !acquire(ctx, to.pages) {
		return "", context.Cause(ctx)
	}
	defer func() { <-to.pages }()
	ctx, cancel := context.WithTimeout(ctx, e.cfg.NotifyTimeout)
	defer cancel()
	ref, err = to.Notify(ctx, n)
	e.metrics.notified(name, err)
	if err != nil {
		if e.logged.changed("page/"+name, err.Error()) {
			e.log.Warn("page not delivered", "notifier", name, "outcome", err.Error())
		}
		return "", err
	}
	e.logged.forget("page/" + name)
	e.PageTaken(name)
	return ref, nil
}

// mayHaveArrived reports whether a message that failed may have been taken all the
// same: it was sent, and its answer was lost.
func mayHaveArrived(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op != "dial"
	}
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// referred is the message with what its notifier returned for its key. The core
// does not know it yet when the message was replaced while it was under way.
func (l *runner) referred(e rollout.Effect) rollout.Effect {
	if e.Notice == nil || len(e.Notifiers) == 0 {
		return e
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := *e.Notice
	n.Ref = cmp.Or(n.Ref, l.refs[e.Notifiers[0]+"|"+n.Key])
	n.ThreadRef = cmp.Or(n.ThreadRef, l.refs[e.Notifiers[0]+"|"+l.id+"/status"])
	e.Notice = &n
	return e
}

func undelivered(name string, kind failure.Kind, why string) rollout.Event {
	failure := &failure.Failure{Kind: kind, Message: why}
	return rollout.Event{Kind: rollout.EventUndelivered, Notifier: name, Failure: failure}
}
