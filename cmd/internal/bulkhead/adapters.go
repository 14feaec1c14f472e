package bulkhead

import (
	"context"
	"iter"
	"net/http"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/rollout/traffic"
)

// Router puts a router behind the bulkhead.
func (b *Bulkhead) Router(name string, r traffic.Router) traffic.Router {
	return router{r, compartment{b, kindRouter, name}}
}

type router struct {
	traffic.Router

	c compartment
}

// Split implements traffic.Router.
func (r router) Split(ctx context.Context, endpoint string) (split traffic.Split, err error) {
	defer r.c.closed("split", &err)
	return r.Router.Split(ctx, endpoint)
}

// Shift implements traffic.Router.
func (r router) Shift(ctx context.Context, endpoint string, from, to traffic.Split) (err error) {
	defer r.c.closed("shift", &err)
	return r.Router.Shift(ctx, endpoint, from, to)
}

// Describe implements traffic.Router.
func (r router) Describe(ctx context.Context, endpoint string) (d traffic.Description, err error) {
	defer r.c.closed("describe", &err)
	d, err = r.Router.Describe(ctx, endpoint)
	if manual := d.ManualRollback; manual != nil {
		d.ManualRollback = func(stable string) (command string) {
			var err error // a command that cannot be told is told of by its absence
			defer r.c.closed("manual rollback", &err)
			return manual(stable)
		}
	}
	return d, err
}

// Endpoints implements traffic.Router.
func (r router) Endpoints(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		next, stop := iter.Pull2(r.Router.Endpoints(ctx))
		for {
			name, err, ok := r.next(next)
			if !ok || !yield(name, err) {
				break
			}
		}
		var err error
		defer r.c.closed("endpoints", &err)
		stop()
	}
}

// next is one step of a listing; a panic is its last answer.
//
//nolint:revive // the order of iter.Pull2
func (r router) next(step func() (string, error, bool)) (name string, err error, ok bool) {
	ok = true
	defer r.c.closed("endpoints", &err)
	return step()
}

// Probe implements traffic.Router.
func (r router) Probe(
	ctx context.Context, endpoint, deployment string, req *http.Request,
) (resp *http.Response, err error) {
	defer r.c.closed("probe", &err)
	return r.Router.Probe(ctx, endpoint, deployment, req)
}

// Source puts a source behind the bulkhead.
func (b *Bulkhead) Source(name string, s analysis.Source) analysis.Source {
	return source{s, compartment{b, kindSource, name}}
}

type source struct {
	analysis.Source

	c compartment
}

// Read implements analysis.Source. Where an answer makes the adapter panic, the
// questions are asked in halves, so that whoever sent that answer blinds nobody
// else.
func (s source) Read(ctx context.Context, qs []analysis.Query) ([]analysis.Reading, error) {
	rs, err := s.read(ctx, qs)
	thrown, ok := err.(*PanicError) //nolint:errorlint // made here, never wrapped
	if !ok || ctx.Err() != nil {
		return rs, err
	}
	if len(qs) <= 1 {
		rs = make([]analysis.Reading, len(qs))
		for i, q := range qs {
			rs[i] = analysis.ErrorReading(q, thrown.Error())
		}
		return rs, nil
	}
	first, err := s.Read(ctx, qs[:len(qs)/2])
	if err != nil {
		return nil, err
	}
	second, err := s.Read(ctx, qs[len(qs)/2:])
	return append(first, second...), err
}

func (s source) read(ctx context.Context, qs []analysis.Query) (rs []analysis.Reading, err error) {
	defer s.c.closed("read", &err)
	return s.Source.Read(ctx, qs)
}

// Notifier puts a notifier behind the bulkhead.
func (b *Bulkhead) Notifier(name string, n notifier.Notifier) notifier.Notifier {
	return messenger{n, compartment{b, kindNotifier, name}}
}

type messenger struct {
	notifier.Notifier

	c compartment
}

// Notify implements notifier.Notifier.
func (m messenger) Notify(ctx context.Context, n notifier.Notice) (ref string, err error) {
	defer m.c.closed("notify", &err)
	return m.Notifier.Notify(ctx, n)
}

// Inbox puts an inbox behind the bulkhead; what it delivers to is the core.
func (b *Bulkhead) Inbox(name string, in notifier.Inbox) notifier.Inbox {
	return inbox{in, compartment{b, kindInbox, name}}
}

type inbox struct {
	notifier.Inbox

	c compartment
}

// Run implements notifier.Inbox.
func (i inbox) Run(
	ctx context.Context, deliver func(context.Context, notifier.Answer) (notifier.Reply, error),
) (err error) {
	defer i.c.closed("run", &err)
	return i.Inbox.Run(ctx, func(ctx context.Context, a notifier.Answer) (notifier.Reply, error) {
		return Core(func() (notifier.Reply, error) { return deliver(ctx, a) })
	})
}
