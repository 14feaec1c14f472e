package sim

import (
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
)

// start begins every wanted effect that is not under way and forgets those that
// are no longer wanted, as the engine does.
func (w *World) start(r *Run) {
	wanted := map[string]bool{}
	for _, e := range r.State.Outbox {
		wanted[key(e)] = true
	}
	for k := range r.started {
		if !wanted[k] {
			delete(r.started, k)
		}
	}
	for _, e := range r.State.Outbox {
		if _, on := r.started[key(e)]; on {
			continue
		}
		w.seq++
		token := w.seq
		r.started[key(e)] = token
		w.schedule(e.NotBefore, func(w *World) {
			if w.current(r, e, token) {
				w.do(r, e, token)
			}
		})
	}
}

// current reports whether the effect, as started with the token, is still wanted.
func (w *World) current(r *Run, e rollout.Effect, token int) bool {
	return !w.down && r.started[key(e)] == token
}

// answer gives the effect's answer after the latency, if it is still wanted.
func (w *World) answer(r *Run, e rollout.Effect, token int, after time.Duration, ev func(*World) rollout.Event) {
	w.schedule(w.Now.Add(after), func(w *World) {
		if !w.current(r, e, token) {
			return
		}
		out := ev(w)
		out.Effect, out.Attempt, out.At = e.ID, e.Attempt, w.faults.Clock(w)
		w.Fold(r, out)
	})
}

// do runs one effect.
func (w *World) do(r *Run, e rollout.Effect, token int) {
	switch e.Kind {
	case rollout.EffectClaim:
		w.claim(r, e, token)
	case rollout.EffectRelease:
		w.Record = rollout.Admit(w.Record, rollout.ReleaseEvent(r.Plan, r.State, e, w.Now))
		w.answer(r, e, token, 0, func(*World) rollout.Event { return rollout.Event{Kind: rollout.EventReleased} })
		w.reclaim(r)
	case rollout.EffectPreflight:
		w.answer(r, e, token, w.latency, func(w *World) rollout.Event {
			s, f := w.read()
			ev := rollout.Event{Kind: rollout.EventPreflighted, Split: s, Manual: "set all traffic to stable by hand", Checks: w.faults.Checks(w, r)}
			if f != nil {
				ev.Reason = f.Message
			}
			return ev
		})
	case rollout.EffectSetTraffic:
		w.setTraffic(r, e, token)
	case rollout.EffectReadTraffic:
		w.answer(r, e, token, w.latency, func(w *World) rollout.Event {
			s, f := w.read()
			return rollout.Event{Kind: rollout.EventTraffic, Split: s, Failure: f}
		})
	case rollout.EffectMeasure:
		w.measure(r, e, token)
	case rollout.EffectAsk, rollout.EffectTell, rollout.EffectPage:
		w.deliver(r, e, token)
	case rollout.EffectWake:
		w.answer(r, e, token, 0, func(*World) rollout.Event { return rollout.Event{Kind: rollout.EventWoken} })
	}
}

// claim asks Admit, and again whenever the record changes.
func (w *World) claim(r *Run, e rollout.Effect, token int) {
	before := w.Record
	w.Record = rollout.Admit(w.Record, rollout.ClaimEvent(r.Plan, e, w.Now))
	if before.Active != w.Record.Active || before.Scheduled != w.Record.Scheduled || len(before.Queue) != len(w.Record.Queue) {
		w.reclaim(r)
	}
	standing := w.Record.Standing(r.Plan, e)
	w.answer(r, e, token, 0, func(*World) rollout.Event { return standing })
	if w.Record.Superseding != "" {
		ahead := w.Record.Superseding
		for _, o := range w.Runs {
			if o.Plan.ID == w.Record.Active && o.State.Phase != rollout.PhaseRollingBack {
				w.schedule(w.Now, func(w *World) { w.Fold(o, rollout.Event{Kind: rollout.EventSuperseded, Ahead: ahead}) })
			}
		}
	}
}

// reclaim asks again for every other rollout that waits: the record changed.
func (w *World) reclaim(but *Run) {
	for _, r := range w.Runs {
		if r == but {
			continue
		}
		for _, e := range r.State.Outbox {
			if e.Kind == rollout.EffectClaim {
				w.schedule(w.Now, func(w *World) {
					if token, on := r.started[key(e)]; on && !w.down {
						w.claim(r, e, token)
					}
				})
			}
		}
	}
}

// setTraffic sends one write and reads back once. What the fault says decides
// whether and when it lands, and what is heard of it.
func (w *World) setTraffic(r *Run, e rollout.Effect, token int) {
	wr := Write{At: w.Now, Sent: w.Now, Run: r, From: *e.From, To: *e.To, Effect: e.ID}
	f := w.faults.Shift(w, wr)
	var failure *rollout.Failure
	if f.Failure != nil {
		failure = f.Failure
	}
	switch {
	case !f.Apply:
	case f.Delay > 0:
		w.schedule(w.Now.Add(f.Delay), func(w *World) { _ = w.Endpoint.shift(w.Now, wr, !f.Unfenced) })
	default:
		if refused := w.Endpoint.shift(w.Now, wr, true); refused != nil && failure == nil {
			failure = refused
		}
	}
	w.answer(r, e, token, w.latency, func(w *World) rollout.Event {
		s, _ := w.read()
		return rollout.Event{Kind: rollout.EventTraffic, Split: s, Failure: failure}
	})
}

// read is what a read of the endpoint answers now.
func (w *World) read() (*rollout.Split, *rollout.Failure) {
	if f := w.faults.Split(w); f != nil {
		return nil, f
	}
	s := w.Endpoint.Split.Clone()
	return &s, nil
}

// measure asks the source, each metric from its cursor.
func (w *World) measure(r *Run, e rollout.Effect, token int) {
	w.answer(r, e, token, w.latency, func(w *World) rollout.Event {
		ev := rollout.Event{Kind: rollout.EventMeasured}
		for _, m := range r.Plan.Panel.Metrics {
			from, asked := e.Since[m.Name]
			if !asked {
				continue
			}
			q := analysis.Query{Metric: m, From: from, To: e.NotBefore,
				Names: analysis.Names{Endpoint: r.Plan.Endpoint.Name, Stable: r.State.Stable, Candidate: r.Plan.Release.Candidate}}
			reading := w.source.Read(w, r, q)
			if failed := w.faults.Read(w, r, q); failed != nil {
				reading = *failed
			}
			ev.Readings = append(ev.Readings, reading)
		}
		return ev
	})
}

// deliver sends one message.
func (w *World) deliver(r *Run, e rollout.Effect, token int) {
	to := e.Notifiers[0]
	f := w.faults.Notify(w, to)
	w.answer(r, e, token, w.latency, func(w *World) rollout.Event {
		if f != nil {
			return rollout.Event{Kind: rollout.EventUndelivered, Notifier: to, Failure: f}
		}
		w.Notices = append(w.Notices, Delivered{At: w.Now, Run: r, Notifier: to, Effect: e})
		return rollout.Event{Kind: rollout.EventDelivered, Notifier: to, Ref: to + "/" + e.Notice.Key}
	})
}
