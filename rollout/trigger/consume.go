package trigger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
)

// The waits of a trigger.
const (
	callTimeout = 2 * time.Second  // of one call to NATS
	pullWait    = 10 * time.Second // of one pull
	heartbeat   = 2 * time.Second  // of the server while a pull waits
	startWait   = 10 * time.Second // of one event's start
	ackWait     = 20 * time.Second // longer than an event may take to start
)

// Run consumes events until ctx ends and returns nil then.
func (t *Trigger) Run(ctx context.Context) error {
	for tries := 1; ctx.Err() == nil; tries++ {
		began := time.Now()
		err := t.session(ctx)
		if ctx.Err() != nil {
			break
		}
		t.note(err)
		if time.Since(began) > pullWait {
			tries = 1
		}
		select {
		case <-time.After(retryAfter(tries)):
		case <-ctx.Done():
		}
	}
	t.note(errors.New("stopped"))
	return nil
}

// session connects once and consumes until something fails for good.
func (t *Trigger) session(ctx context.Context) error {
	nc, err := nats.Connect(t.c.URL, t.options()...)
	if err != nil {
		return fmt.Errorf("connect to nats: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return fmt.Errorf("open jetstream: %w", err)
	}
	for tries := 1; ctx.Err() == nil; tries++ {
		began := time.Now()
		err := t.consume(ctx, js)
		if ctx.Err() != nil || nc.IsClosed() {
			return err
		}
		if errors.Is(err, nats.ErrReconnectBufExceeded) { // how the client says it
			err = errors.New("not connected to nats")
		}
		t.note(err)
		if time.Since(began) > pullWait {
			tries = 1
		}
		select {
		case <-time.After(retryAfter(tries)):
		case <-ctx.Done():
		}
	}
	return nil
}

// options are those with which a trigger survives an absent NATS.
func (t *Trigger) options() []nats.Option {
	return append(append([]nats.Option(nil), t.c.Options...),
		nats.Name("belay "+t.c.Name),
		nats.Timeout(callTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 250*time.Millisecond),
		nats.ReconnectBufSize(-1), // a call while disconnected fails at once
		nats.PingInterval(2*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				t.note(fmt.Errorf("disconnected from nats: %w", err))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			t.c.Log.Warn("nats reports an error", "trigger", t.c.Name, "err", err)
		}),
	)
}

// consume makes sure of the durable consumer and handles its messages in order
// until a call fails.
func (t *Trigger) consume(ctx context.Context, js jetstream.JetStream) error {
	c, err := t.consumer(ctx, js)
	if err != nil {
		return err
	}
	t.note(nil)
	for ctx.Err() == nil {
		pull, cancel := context.WithTimeout(ctx, pullWait)
		msg, err := c.Next(jetstream.FetchContext(pull), jetstream.FetchHeartbeat(heartbeat))
		cancel()
		switch {
		case err == nil:
			t.handle(ctx, msg)
		case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		default:
			return fmt.Errorf("pull from stream %s: %w", t.c.Stream, err)
		}
	}
	return nil
}

// consumer creates the durable consumer, or brings an existing one up to date.
func (t *Trigger) consumer(ctx context.Context, js jetstream.JetStream) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	want := jetstream.ConsumerConfig{
		Durable:        t.c.Durable,
		Description:    "release events for belay",
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        ackWait,
		MaxDeliver:     -1,
		MaxAckPending:  1, // in order, whatever fails
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		FilterSubjects: t.c.Subjects,
	}
	if t.c.Deliver == DeliverNew {
		want.DeliverPolicy, want.OptStartTime = jetstream.DeliverByStartTimePolicy, &t.begin
	}
	there, err := js.Consumer(ctx, t.c.Stream, t.c.Durable)
	switch {
	case err == nil:
		// Where a consumer begins was decided when it was made.
		have := there.CachedInfo().Config
		want.DeliverPolicy, want.OptStartSeq, want.OptStartTime = have.DeliverPolicy, have.OptStartSeq, have.OptStartTime
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil, fmt.Errorf("find consumer %s of stream %s: %w", t.c.Durable, t.c.Stream, err)
	}
	c, err := js.CreateOrUpdateConsumer(ctx, t.c.Stream, want)
	if err != nil {
		return nil, fmt.Errorf("make consumer %s of stream %s: %w", t.c.Durable, t.c.Stream, err)
	}
	return c, nil
}

// A message is what the package needs of a JetStream message.
type message struct {
	subject   string
	header    nats.Header
	body      []byte
	sequence  uint64
	published time.Time
	delivered int
}

// handle deals with one message and answers it: acknowledged, terminated, or
// put back for later.
func (t *Trigger) handle(ctx context.Context, msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		t.c.Log.Error("message without metadata", "trigger", t.c.Name, "err", err) // unreachable: pulled messages have it
		return
	}
	m := message{
		subject: msg.Subject(), header: msg.Headers(), body: msg.Data(),
		sequence: meta.Sequence.Stream, published: meta.Timestamp, delivered: int(min(meta.NumDelivered, 1<<20)),
	}
	starting, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	refusal, err := t.take(starting, m)
	if refusal != nil {
		err = t.refuse(starting, *refusal)
	}
	// The answer may be sent although ctx has just ended: what it says is durable.
	answering, done := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer done()
	switch {
	case err != nil:
		t.c.Log.Warn("event put back", "trigger", t.c.Name, "stream", t.c.Stream, "sequence", m.sequence, "err", err)
		err = msg.NakWithDelay(retryAfter(m.delivered))
	case refusal != nil:
		err = msg.TermWithReason("refused by belay; see its log")
	default:
		err = msg.DoubleAck(answering)
	}
	t.begin = m.published // where a consumer that is made again begins: this one is known
	if err != nil {
		// The message comes again and finds the record of the first time.
		t.c.Log.Warn("event not answered", "trigger", t.c.Name, "stream", t.c.Stream, "sequence", m.sequence, "err", err)
	}
}

// take makes a message a rollout. It returns a refusal for what no retry will
// mend, and an error for what one may.
func (t *Trigger) take(ctx context.Context, m message) (*Refusal, error) {
	e, err := decode(t.c.Name, m.header, m.body)
	if err != nil {
		return new(t.refusal(m, e, err.Error())), nil
	}
	there, known, err := t.trail.find(ctx, e.source, e.id)
	if err != nil {
		return nil, err
	}
	if known {
		return t.repeated(m, e, there), nil
	}
	if age := time.Since(m.published); t.c.MaxAge > 0 && age > t.c.MaxAge {
		return new(t.refusal(m, e,
			fmt.Sprintf("it was published at %s, %s ago, and at most %s (maxAge) may pass; publish it again where it is "+
				"still wanted",
				m.published.UTC().Format(time.RFC3339), age.Round(time.Second), t.c.MaxAge))), nil
	}
	r, err := t.c.Map.release(e)
	if err != nil {
		return new(t.refusal(m, e, err.Error())), nil
	}
	r.Requester = person.Person{ID: t.c.Name, Name: t.c.Name, Via: "nats"}
	r.Source = t.c.Name + " " + e.source + " " + e.id
	id, err := t.c.Start(ctx, r, e.source, e.id)
	switch {
	case errors.Is(err, ErrRefused), errors.Is(err, rollout.ErrDifferent):
		return new(t.refusal(m, e, strings.TrimPrefix(err.Error(), ErrRefused.Error()+": "))), nil
	case err != nil:
		return nil, fmt.Errorf("start rollout: %w", err)
	}
	there, err = t.trail.create(ctx, Record{
		SchemaVersion: 1, Trigger: t.c.Name, Source: e.source, ID: e.id, Digest: e.digest, Rollout: id,
		Release: r, Subject: m.subject, Sequence: m.sequence, At: time.Now().UTC(),
	})
	if err != nil {
		return nil, err
	}
	t.c.Log.Info("event started a rollout", "trigger", t.c.Name, "rollout", there.Rollout, "source", e.source, "id", e.id)
	return t.repeated(m, e, there), nil
}

// repeated accepts a message whose key is on record, or refuses it when the
// record is of another body.
func (t *Trigger) repeated(m message, e event, there Record) *Refusal {
	if there.Digest == e.digest {
		return nil
	}
	return new(t.refusal(m, e, fmt.Sprintf("the same key came before with another body, as rollout %s", there.Rollout)))
}

// refuse keeps a refusal and tells about it. A message comes again when it was not
// terminated: whether it was told about is then known only to the process that did,
// so that another one tells again.
func (t *Trigger) refuse(ctx context.Context, r Refusal) error {
	fresh, err := t.trail.keep(ctx, r)
	if err != nil {
		return err
	}
	told := place(r) + " " + r.Published.UTC().Format(time.RFC3339Nano)
	if !fresh && t.told == told {
		return nil
	}
	t.told = told
	t.c.Log.Error("event refused", "trigger", t.c.Name, "stream", r.Stream, "sequence", r.Sequence, "source", r.Source,
		"id", r.ID, "reason", r.Reason)
	if t.c.Refused != nil {
		t.c.Refused(ctx, r)
	}
	if t.refused.Add(1)%pruneEvery == 1 {
		if err := t.trail.prune(ctx); err != nil && ctx.Err() == nil {
			t.c.Log.Warn("refusals not pruned", "trigger", t.c.Name, "err", err)
		}
	}
	return nil
}
