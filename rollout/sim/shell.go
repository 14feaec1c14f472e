package sim

import (
	"cmp"
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/split"
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
		if _, on := r.started[key(e)]; on || !w.may(r, e) {
			continue
		}
		w.seq++
		token := w.seq
		r.started[key(e)] = token
		w.await(r, e, token)
	}
}

// may reports whether the effect may start: its intent is durable, or it needs none,
// or it is a rollback that has waited for the store long enough.
func (w *World) may(r *Run, e rollout.Effect) bool {
	durable := func(o rollout.Effect) bool { return key(o) == key(e) }
	if r.behind.IsZero() || slices.ContainsFunc(r.durable.Outbox, durable) {
		return true
	}
	urgent := w.Now.Sub(r.behind) >= rollbackPatience
	switch e.Kind {
	case rollout.EffectWake, rollout.EffectReadTraffic, rollout.EffectMeasure:
		return true
	case rollout.EffectSetTraffic:
		return urgent && !e.Forward
	case rollout.EffectPage:
		return urgent && r.State.Phase == rollout.PhaseRollingBack
	case rollout.EffectClaim, rollout.EffectRelease, rollout.EffectPreflight, rollout.EffectAsk, rollout.EffectTell:
		return false
	}
	return false
}

// await runs the effect when the rollout's time has come to its NotBefore.
func (w *World) await(r *Run, e rollout.Effect, token int) {
	wait := time.Duration(0)
	if !e.NotBefore.IsZero() {
		wait = max(0, e.NotBefore.Sub(w.time(r)))
	}
	if w.alarm > 0 {
		wait = min(wait, w.alarm)
	}
	w.schedule(w.Now.Add(wait), func(w *World) {
		switch {
		case !w.current(r, e, token):
		case e.NotBefore.After(w.time(r)):
			w.await(r, e, token)
		default:
			w.do(r, e, token)
		}
	})
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
		out.Effect, out.Attempt, out.At = e.ID, e.Attempt, w.time(r)
		w.Fold(r, out)
	})
}

// do runs one effect.
func (w *World) do(r *Run, e rollout.Effect, token int) {
	switch e.Kind {
	case rollout.EffectClaim:
		w.claim(r, e, token)
	case rollout.EffectRelease:
		w.Record = claim.Admit(w.Record, claim.ForRelease(r.Plan, r.State, e, w.time(r)))
		w.answer(r, e, token, 0, func(*World) rollout.Event { return rollout.Event{Kind: rollout.EventReleased} })
		w.reclaim(r)
	case rollout.EffectPreflight:
		w.answer(r, e, token, w.latency, func(w *World) rollout.Event {
			s, f := w.read()
			ev := rollout.Event{Kind: rollout.EventPreflighted, Split: s, Manual: "set all traffic to stable by hand",
				Checks: w.faults.Checks(w, r)}
			ev.Deployments, ev.Versions = w.faults.Describe(w, r), map[string]string{}
			for name, d := range ev.Deployments {
				ev.Versions[name] = d.Version
			}
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
			ev := rollout.Event{Kind: rollout.EventTraffic, Split: s, Failure: f}
			if e.Describe {
				ev.Deployments = w.faults.Describe(w, r)
			}
			return ev
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
	w.Record = claim.Admit(w.Record, claim.ForClaim(r.Plan, e, w.time(r)))
	if before.Active != w.Record.Active || before.Scheduled != w.Record.Scheduled ||
		len(before.Queue) != len(w.Record.Queue) {
		w.reclaim(r)
	}
	standing := w.Record.Result(r.Plan, e)
	w.answer(r, e, token, 0, func(*World) rollout.Event { return standing })
	if w.Record.Superseding != "" {
		ahead := w.Record.Superseding
		for _, o := range w.Runs {
			if o.Plan.ID == w.Record.Active && o.State.Phase != rollout.PhaseRollingBack {
				w.schedule(w.Now, func(w *World) { w.Fold(o, rollout.Event{Kind: rollout.EventSuperseded, SupersededBy: ahead}) })
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
	if e.Forward && !w.mayRaise(r, e, token) {
		return
	}
	wr := Write{At: w.Now, Sent: w.Now, Run: r, From: *e.From, To: *e.To, Effect: e.ID}
	f := w.faults.Shift(w, wr)
	var failed *failure.Failure
	if f.Failure != nil {
		failed = f.Failure
	}
	switch {
	case !f.Apply:
	case f.Delay > 0:
		if refused := w.Endpoint.refuses(wr); refused != nil { // looked at when it is accepted, and again when it lands
			failed = cmp.Or(failed, refused)
			break
		}
		w.landing++
		w.schedule(w.Now.Add(f.Delay), func(w *World) {
			w.landing--
			_ = w.Endpoint.shift(w.Now, wr, !f.Unfenced)
		})
	default:
		if refused := w.Endpoint.shift(w.Now, wr, true); refused != nil && failed == nil {
			failed = refused
		}
	}
	w.answer(r, e, token, w.latency, func(w *World) rollout.Event {
		s, _ := w.read()
		return rollout.Event{Kind: rollout.EventTraffic, Split: s, Failure: failed}
	})
}

// mayRaise looks once more right before a forward write, as the engine does: the core
// hears first when nobody watched for a while, and nothing is sent for a rollout that
// was stopped meanwhile.
func (w *World) mayRaise(r *Run, e rollout.Effect, token int) bool {
	if w.time(r).Sub(r.State.At) > r.Plan.UnwatchedAfter() {
		delete(r.started, key(e))
		w.Fold(r, rollout.Event{Kind: rollout.EventWoken})
		return false
	}
	if stopped(r.State.Phase) {
		w.answer(r, e, token, 0, func(*World) rollout.Event {
			return rollout.Event{Kind: rollout.EventTraffic, Failure: &failure.Failure{Kind: failure.Transient,
				Message: "not sent: the rollout was stopped meanwhile"}}
		})
		return false
	}
	return true
}

// stopped reports whether a rollout in the phase begins no forward write.
func stopped(p rollout.Phase) bool {
	return p == rollout.PhaseHeld || p == rollout.PhasePaused || p == rollout.PhaseSuspect
}

// read is what a read of the endpoint answers now.
func (w *World) read() (*split.Split, *failure.Failure) {
	if f := w.faults.Split(w); f != nil {
		return nil, f
	}
	s := w.Endpoint.Split.Clone()
	return &s, nil
}

// measure asks the source, each metric from its cursor.
func (w *World) measure(r *Run, e rollout.Effect, token int) {
	if w.faults.Hangs(w, r) {
		return
	}
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

// deliver sends one message. One that was taken arrives also when it is no longer
// wanted, or when the daemon that sent it is gone.
func (w *World) deliver(r *Run, e rollout.Effect, token int) {
	to, life := e.Notifiers[0], w.life
	if f := w.faults.Notify(w, to); f != nil {
		w.answer(r, e, token, w.latency, func(*World) rollout.Event {
			return rollout.Event{Kind: rollout.EventUndelivered, Notifier: to, Failure: f}
		})
		return
	}
	w.schedule(w.Now.Add(w.latency), func(w *World) {
		w.Notices = append(w.Notices, Delivered{At: w.Now, Run: r, Notifier: to, Effect: e})
		if w.down || w.life != life {
			return
		}
		w.Fold(r, rollout.Event{Kind: rollout.EventDelivered, Effect: e.ID, Attempt: e.Attempt,
			Notifier: to, Ref: to + "/" + e.Notice.Key, Key: e.Notice.Key})
	})
}
