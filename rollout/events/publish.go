package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/store"
)

// The waits of a publisher.
const (
	callTimeout = 2 * time.Second
	// saveEvery is how often the cursor is written after events, saveIdle when
	// only entries without events have passed.
	saveEvery = time.Second
	saveIdle  = time.Minute
)

// Run publishes until ctx ends and returns nil then.
func (p *Publisher) Run(ctx context.Context) error {
	var saving sync.WaitGroup
	saving.Go(func() { p.keep(ctx) })
	defer saving.Wait()
	for tries := 1; ctx.Err() == nil; tries++ {
		began := time.Now()
		err := p.session(ctx)
		if ctx.Err() != nil {
			break
		}
		p.note(err)
		if time.Since(began) > 10*time.Second {
			tries = 1
		}
		pause(ctx, retryAfter(tries))
	}
	p.note(errors.New("stopped"))
	return nil
}

// session connects once and publishes until the connection is closed.
func (p *Publisher) session(ctx context.Context) error {
	nc, err := nats.Connect(p.c.URL, p.options()...)
	if err != nil {
		return fmt.Errorf("connect to nats: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	for tries := 1; ctx.Err() == nil; tries++ {
		before := p.position()
		err := p.follow(ctx, js)
		if ctx.Err() != nil || nc.IsClosed() {
			return err
		}
		p.note(err)
		if p.position() != before {
			tries = 1
		}
		pause(ctx, retryAfter(tries))
	}
	return nil
}

// options are those with which a publisher survives an absent NATS.
func (p *Publisher) options() []nats.Option {
	return append(append([]nats.Option(nil), p.c.Options...),
		nats.Name("belay events "+p.c.Sink),
		nats.Timeout(callTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 250*time.Millisecond),
		nats.ReconnectBufSize(-1), // a call while disconnected fails at once
		nats.PingInterval(2*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(*nats.Conn) { p.note(nil) }),
		nats.ReconnectHandler(func(*nats.Conn) { p.note(nil) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				p.note(fmt.Errorf("disconnected from nats: %w", err))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			p.c.Log.Warn("nats reports an error", "sink", p.c.Sink, "err", err)
		}),
	)
}

// follow publishes what comes after the last revision that was published, until a
// call fails.
func (p *Publisher) follow(ctx context.Context, js jetstream.JetStream) error {
	for change, err := range p.c.Rollouts.Changes(ctx, uint64(p.position())) {
		if err != nil {
			return fmt.Errorf("read changes: %w", err)
		}
		events, err := p.eventsOf(ctx, change)
		if err != nil {
			return err
		}
		for _, e := range events {
			p.metrics.waits.CompareAndSwap(0, e.Time().UnixNano())
			if err := p.publish(ctx, js, e); err != nil {
				return err
			}
		}
		p.published(store.Revision(change.Revision), len(events) > 0)
	}
	return nil
}

// eventsOf makes the events of one change, with the plan of its rollout.
func (p *Publisher) eventsOf(ctx context.Context, change journal.Change) ([]outgoing, error) {
	if len(change.Entry.Phases) == 0 {
		return nil, nil
	}
	plan, ok := p.plans.get(change.Rollout)
	if !ok {
		snap, err := p.c.Rollouts.Rollout(ctx, change.Rollout)
		if errors.Is(err, rollout.ErrNotFound) {
			// Deleted by somebody who did not wait for this sink.
			p.c.Log.Error("events of a deleted rollout lost", "sink", p.c.Sink, "rollout", change.Rollout)
			return nil, nil
		}
		if errors.Is(err, rollout.ErrFormat) {
			// What a newer version wrote holds up nobody else's events.
			p.metrics.published.WithLabelValues(p.c.Sink, "unreadable").Inc()
			if p.unreadable != change.Rollout {
				p.unreadable = change.Rollout
				p.c.Log.Error("events of an unreadable rollout lost", "sink", p.c.Sink, "rollout", change.Rollout, "err", err)
			}
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read rollout %s: %w", change.Rollout, err)
		}
		plan = snap.Plan
		p.plans.put(plan)
	}
	return describe(p.c.Source, plan, &change.Entry)
}

// publish hands one event to the stream and waits until it is stored.
func (p *Publisher) publish(ctx context.Context, js jetstream.JetStream, e outgoing) error {
	count := func(outcome string) { p.metrics.published.WithLabelValues(p.c.Sink, outcome).Inc() }
	msg, err := p.message(ctx, e)
	if err != nil {
		count("error")
		return err
	}
	if !js.Conn().IsConnected() {
		count("error")
		return errors.New("not connected to nats")
	}
	calling, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ack, err := js.PublishMsg(calling, msg, jetstream.WithMsgID(e.ID()), jetstream.WithRetryAttempts(0))
	switch {
	case err != nil:
		count("error")
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			err = fmt.Errorf("no stream takes %s.>: create one", p.c.SubjectPrefix)
		}
		return fmt.Errorf("publish event %s: %w", e.ID(), err)
	case ack.Duplicate:
		count("duplicate")
	default:
		count("ok")
	}
	p.note(nil)
	return nil
}

// message is the event in the binary mode of the NATS binding.
func (p *Publisher) message(ctx context.Context, e outgoing) (*nats.Msg, error) {
	var body bytes.Buffer
	header, err := nats_jetstream.WriteMsg(ctx, binding.ToMessage(&e.Event), &body)
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", e.ID(), err)
	}
	return &nats.Msg{Subject: p.c.SubjectPrefix + "." + e.subject, Header: header, Data: body.Bytes()}, nil
}

// position is the revision up to which everything was published.
func (p *Publisher) position() store.Revision {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// published moves on in memory; keep writes the cursor.
func (p *Publisher) published(at store.Revision, loud bool) {
	p.metrics.waits.Store(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = max(p.done, at)
	p.loud = p.loud || loud
}

// keep writes the cursor as publishing goes on, and once more at the end.
func (p *Publisher) keep(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	last := time.Now()
	failed := ""
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-tick.C:
		}
		p.mu.Lock()
		due := p.loud || time.Since(last) >= saveIdle
		p.mu.Unlock()
		if !due {
			continue
		}
		last = time.Now()
		switch err := p.save(ctx); {
		case err == nil:
			failed = ""
		case ctx.Err() == nil && err.Error() != failed:
			failed = err.Error()
			p.c.Log.Warn("cursor not written", "sink", p.c.Sink, "err", err)
		}
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := p.save(ending); err != nil {
		// The events since are published again after the next start.
		p.c.Log.Warn("cursor not written", "sink", p.c.Sink, "err", err)
	}
}

// save writes the cursor where it has moved.
func (p *Publisher) save(ctx context.Context) error {
	p.mu.Lock()
	at, loud := p.done, p.loud
	p.loud = false
	p.mu.Unlock()
	if at <= p.cursor.position() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := p.cursor.write(ctx, at); err != nil {
		p.mu.Lock()
		p.loud = p.loud || loud
		p.mu.Unlock()
		return err
	}
	return nil
}

// planCacheMax bounds the plans kept: those of the endpoints that move now.
const planCacheMax = 256

// A planCache keeps the plans used last. It is used by one goroutine.
type planCache struct{ plans map[string]*rollout.Plan }

func (c *planCache) get(id string) (*rollout.Plan, bool) {
	p, ok := c.plans[id]
	return p, ok
}

// put keeps a plan; when there are too many, all others go.
func (c *planCache) put(p *rollout.Plan) {
	if c.plans == nil || len(c.plans) >= planCacheMax {
		c.plans = make(map[string]*rollout.Plan, planCacheMax)
	}
	c.plans[p.ID] = p
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
