package sim

import (
	"slices"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/failure"
)

// budget is the budget's name among the things that are judged.
const budget = "the budget"

// A sight keeps account of what was seen of everything that is judged, from the
// readings alone.
type sight struct {
	// cursor is up to when a metric was read in the daemon's life.
	cursor map[string]time.Time
	life   int
	// seen is up to when a thing was read, or since when a reading was due;
	// read are the things that were read since the step was reached at step.
	seen map[string]time.Time
	read map[string]bool
	step time.Time
	// since is when that was by the world's clock; all and bad are what the readings of
	// the time after told of the candidate, by metric, most the bad of one reading.
	since          time.Time
	all, bad, most map[string]float64
	// excused is when a person last went on in spite of whatever was missing.
	excused time.Time
	// rounds counts the readings in a row that brought everything.
	rounds int
	// labels are why things were missing since everything was seen; told is whether
	// somebody was told of it.
	labels map[analysis.Outcome]bool
	told   bool
	// called: people were called for it at the last event; brought: that event brought
	// something that was missing.
	called, brought bool
	// split is when the endpoint was last read; unread: the last read did not show it.
	split  time.Time
	unread bool
	// bake is what the bake was before the event.
	bake time.Duration
}

// A thing is what is judged: a guardrail or the budget.
type thing struct {
	name, metric       string
	required, relative bool
}

// judged lists the things that are judged in the step that was reached.
func judged(r *Run) []thing {
	s := r.State
	if s.Reached < 0 || s.Confirmed == nil {
		return nil
	}
	var out []thing
	stable := s.Confirmed.Weights[s.Stable] > 0
	for _, g := range r.Plan.Panel.Guardrails {
		if slices.Contains(g.Steps, s.Reached) && (stable || !g.Limit.Relative) && g.OnBreach != analysis.ActionNote {
			required := g.Evidence == analysis.EvidenceRequired
			out = append(out, thing{name: g.Name, metric: g.Metric, required: required, relative: g.Limit.Relative})
		}
	}
	if b := r.Plan.Panel.Budget; b != nil && stable {
		out = append(out, thing{name: budget, metric: b.Metric, required: true})
	}
	return out
}

// label says why a reading is of no use to a thing; "" when it is of use, and undecided
// when it brings nothing new.
func (g *sight) label(x thing, rd analysis.Reading, serving bool) analysis.Outcome {
	switch {
	case rd.Status != analysis.StatusOK:
		return analysis.OutcomeError
	case !rd.To.After(rd.From) || !rd.To.After(g.cursor[rd.Metric]):
		return analysis.OutcomeUndecided
	case rd.From.Before(g.cursor[rd.Metric]):
		return analysis.OutcomeError
	case !rd.Candidate.Fresh && serving:
		return analysis.OutcomeNoData
	case !rd.Candidate.Fresh: // the endpoint is idle: there is nothing to read
		return ""
	case x.relative && !rd.Stable.Fresh:
		return analysis.OutcomeError
	}
	return ""
}

// see takes an event in.
func (i *Invariants) see(w *World, r *Run, a *account, l Line) {
	g := &a.sight
	things := judged(r)
	if len(things) == 0 {
		*g = sight{}
		return
	}
	if g.cursor == nil {
		*g = sight{split: a.clock, life: w.life,
			cursor: map[string]time.Time{}, seen: map[string]time.Time{}, labels: map[analysis.Outcome]bool{}}
	}
	if !g.step.Equal(r.State.StepSince) {
		g.step, g.read, g.since = r.State.StepSince, map[string]bool{}, w.Now
		g.all, g.bad, g.most = map[string]float64{}, map[string]float64{}, map[string]float64{}
	}
	again := g.life != w.life
	if again { // what was not appended is read again
		g.life = w.life
		clear(g.cursor)
	}
	// nobody watched: that is not the source's fault
	if gap := a.clock.Sub(a.before); again || gap > r.Plan.UnwatchedAfter() {
		for name := range g.seen {
			g.seen[name] = later(g.seen[name], a.clock)
		}
		g.split, g.rounds = a.clock, 0
	}
	for name := range g.seen {
		if !slices.ContainsFunc(things, func(x thing) bool { return x.name == name }) {
			delete(g.seen, name)
		}
	}
	for _, x := range things {
		if _, known := g.seen[x.name]; !known {
			g.seen[x.name] = later(a.clock, r.State.StepSince.Add(r.Plan.Settle))
		}
	}
	g.brought = false
	if l.Event.Kind == rollout.EventMeasured && l.Ignored == "" {
		i.readings(w, r, a, l, things)
	}
	if ev := l.Event; ev.Kind == rollout.EventTraffic && l.Ignored == "" {
		busy := ev.Failure != nil && ev.Failure.Kind == failure.Busy
		if g.unread = ev.Split == nil; !g.unread || busy {
			g.split = a.clock
		}
	}
	if went(l) {
		g.excused = a.clock
		clear(g.all)
		clear(g.bad)
		clear(g.most)
	}
	if monitored(r.State) {
		i.checkSelf(w, r, a)
		i.checkBlind(w, r, a, l)
		i.checkWanted(w, r)
	}
	g.bake = r.State.Bake.Watched
}

// readings takes the answers of one reading in.
func (i *Invariants) readings(w *World, r *Run, a *account, l Line, things []thing) {
	g := &a.sight
	byMetric := map[string]analysis.Reading{}
	for _, rd := range l.Event.Readings {
		byMetric[rd.Metric] = rd
	}
	serves := a.serves(r, l.Event.Readings, g.cursor)
	whole, lacks := true, ""
	for _, x := range things {
		rd, asked := byMetric[x.metric]
		label := analysis.OutcomeUndecided
		if asked {
			label = g.label(x, rd, serves)
		}
		if label == "" {
			g.brought, g.read[x.name] = true, true
		}
		if late := a.clock.Sub(rd.To) >= r.Plan.OnNoData.After; label == "" && !late { // it counts when it comes
			g.seen[x.name] = later(g.seen[x.name], a.clock)
			continue
		}
		whole = false
		if label == "" { // as no data
			g.labels[analysis.OutcomeNoData] = true
			continue
		}
		if g.labels[label] = true; x.required {
			lacks = x.name + " (" + string(label) + ")"
		}
	}
	for _, rd := range l.Event.Readings {
		if rd.Status == analysis.StatusOK && rd.To.After(g.cursor[rd.Metric]) && rd.Candidate.Fresh {
			g.cursor[rd.Metric] = rd.To
			if !rd.From.Before(g.since.Add(r.Plan.Settle)) {
				g.all[rd.Metric] += rd.Candidate.N
				g.bad[rd.Metric] += rd.Candidate.K
				g.most[rd.Metric] = max(g.most[rd.Metric], rd.Candidate.K)
			}
		}
	}
	i.checkDeaf(w, r, a)
	if lacks != "" && r.State.Bake.Watched > g.bake {
		i.fail(w, r, BlindBake, "the bake went from %s to %s in a reading that lacks %s", g.bake, r.State.Bake.Watched, lacks)
	}
	g.rounds++
	if !whole {
		g.rounds = 0
		return
	}
	g.labels = map[analysis.Outcome]bool{}
}

// checkDeaf: a candidate of which the readings say that it fails several times as often
// as it may is not left where it is; one reading alone, however bad, decides nothing.
func (i *Invariants) checkDeaf(w *World, r *Run, a *account) {
	g, phase := &a.sight, r.State.Phase
	if a.looks > 0 || phase == rollout.PhaseHeld || phase == rollout.PhaseSuspect || !monitored(r.State) {
		return
	}
	for _, m := range r.Plan.Panel.Metrics {
		for _, rail := range r.Plan.Panel.Guardrails {
			plain := m.Counts != nil && m.Counts.Bad != "" && !rail.Limit.Relative && rail.OnBreach == analysis.ActionRollback
			if !plain || rail.Metric != m.Name || !slices.Contains(rail.Steps, r.State.Reached) {
				continue
			}
			if bad, all := g.bad[m.Name], g.all[m.Name]; bad > 100+4*g.most[m.Name] && bad > 5*rail.Limit.Value*all {
				i.fail(w, r, Deaf, "%s: %g of %g failed since %s, and the rollout is %s",
					rail.Name, bad, all, g.since.UTC().Format("15:04:05"), phase)
			}
		}
	}
}

// serves reports whether the endpoint served requests, as far as metrics that count
// tell.
func (a *account) serves(r *Run, rs []analysis.Reading, cursor map[string]time.Time) bool {
	elsewhere := r.State.Observed != nil && r.State.Observed.Weights[r.State.Stable] == 0
	if r.State.Confirmed.Weights[r.State.Stable] == 0 || elsewhere {
		return true
	}
	idle := false
	for _, rd := range rs {
		j := slices.IndexFunc(r.Plan.Panel.Metrics, func(m analysis.Metric) bool { return m.Name == rd.Metric })
		if j < 0 || r.Plan.Panel.Metrics[j].Kind() == analysis.KindValue || rd.Status != analysis.StatusOK ||
			!rd.To.After(rd.From) {
			continue
		}
		if rd.Stable.N > 0 || rd.Candidate.N > 0 {
			return true
		}
		idle = idle || rd.Stable.Fresh
	}
	return !idle
}

// blindSince is since when something that is judged was not seen, and what.
func (a *account) blindSince() (time.Time, string) {
	var since time.Time
	what := ""
	for name, at := range a.sight.seen {
		if since.IsZero() || at.Before(since) || at.Equal(since) && name < what {
			since, what = at, name
		}
	}
	return since, what
}

// seesAll reports whether everything that is judged came with the last readings, and
// the next one is not late.
func (a *account) seesAll(r *Run) bool {
	since, _ := a.blindSince()
	return a.sight.rounds >= 2 && a.clock.Sub(since) <= r.Plan.Interval+slack
}

// unseen reports whether the reason is that readings are missing.
func unseen(why decision.Reason) bool {
	return why == decision.ReasonNoData || why == decision.ReasonSourceError
}

// went reports whether a person went on in spite of whatever there was.
func went(l Line) bool {
	c := l.Event.Command
	return l.Event.Kind == rollout.EventCommanded && l.Ignored == "" &&
		(c == rollout.CommandResume || c == rollout.CommandPromote)
}

// acts reports whether a person acted.
func acts(l Line) bool {
	return l.Event.Kind == rollout.EventCommanded || l.Event.Kind == rollout.EventAnswered ||
		l.Event.Kind == rollout.EventSuspected
}

// unreadMost is how long the endpoint's split may go unread.
const unreadMost = 2 * time.Minute

// timeout is how long a call may take.
func (w *World) timeout() time.Duration { return w.latency }

// allowance is how long something may go unseen until the rule must have been applied:
// its `after`, one interval, and the call's timeout. A reading that does not come at
// all fails when it is two intervals overdue.
func (w *World) allowance(r *Run, a *account) (after, more time.Duration) {
	after = max(r.Plan.OnNoData.After, r.Plan.OnSourceError.After)
	if a.sight.labels[analysis.OutcomeError] && len(a.sight.labels) == 1 {
		after = r.Plan.OnSourceError.After
	}
	if a.sight.labels[analysis.OutcomeNoData] && len(a.sight.labels) == 1 {
		after = r.Plan.OnNoData.After
	}
	return max(after, 3*r.Plan.Interval), r.Plan.Interval + w.timeout()
}

// checkBlind: when something was not seen for longer than its rule allows, the rollout
// is held or rolling back, or people are called where the rule says no more.
func (i *Invariants) checkBlind(w *World, r *Run, a *account, l Line) {
	g := &a.sight
	since, what := a.blindSince()
	since = later(since, g.excused)
	age := a.clock.Sub(since)
	after, more := w.allowance(r, a)
	if called(r.State) && (age >= r.Plan.OnNoData.After || age >= r.Plan.OnSourceError.After) && !g.told {
		g.told = true
		if beyond := age - after; beyond <= more { // more is a violation, and told as one
			i.Longest = max(i.Longest, age)
			i.Beyond = max(i.Beyond, float64(beyond)/float64(more))
		}
	}
	spell := a.clock.Sub(since) >= min(r.Plan.OnNoData.After, r.Plan.OnSourceError.After)
	if was := g.called; was && spell && !called(r.State) && !g.brought && !acts(l) {
		i.fail(w, r, EarlyRelief, "%s is not seen for %s, and people are not called any more", what, age)
	}
	p := r.State.Page
	g.called = spell && p != nil && unseen(p.Reason)
	if age < min(r.Plan.OnNoData.After, r.Plan.OnSourceError.After) {
		g.told = false
	}
	if unread := a.clock.Sub(later(g.split, g.excused)); unread > unreadMost+more {
		age, after, what = unread, unreadMost, "the split"
	}
	if age <= after+more || called(r.State) {
		return
	}
	name := Blind
	if r.State.Phase == rollout.PhasePaused {
		name = BlindPaused
	}
	i.fail(w, r, name, "%s was not seen for %s, the rollout is %s and nobody is called", what, age, r.State.Phase)
}

// monitored reports whether the candidate may have traffic that is watched.
func monitored(s rollout.State) bool {
	return s.Reached >= 0 && s.Phase != rollout.PhaseRollingBack && !s.Phase.Terminal()
}

// checkWanted: while the candidate has traffic the next reading is wanted.
func (i *Invariants) checkWanted(w *World, r *Run) {
	if !wants(r.State, rollout.EffectMeasure) {
		i.fail(w, r, Unwatched, "no reading is wanted while %s: %v", r.State.Phase, kinds(r.State.Outbox))
	}
}

// wants reports whether an effect of the kind is wanted.
func wants(s rollout.State, k rollout.EffectKind) bool {
	return slices.ContainsFunc(s.Outbox, func(e rollout.Effect) bool { return e.Kind == k })
}

// called reports whether people are called for the rollout, as far as it knows.
func called(s rollout.State) bool { return s.Page != nil }

// checkSelf: a hold for missing readings ends when they are back.
func (i *Invariants) checkSelf(w *World, r *Run, a *account) {
	h := r.State.Hold
	if h == nil || !h.Self || r.State.Phase != rollout.PhaseHeld || !unseen(h.Reason) {
		return
	}
	if r.State.At.Sub(h.Since) < r.Plan.Interval {
		return // it may begin right before the reading that ends it
	}
	if a.seesAll(r) && !a.told.unread && a.clock.Sub(a.sight.split) < unreadMost {
		i.fail(w, r, SelfHold, "held since %s for readings that are back", h.Since.UTC().Format("15:04:05"))
	}
}

// checkSeenStep: a step ends only after everything that it requires was read in it, while
// none of that is missing for longer than its rule allows, and after something was read
// where nothing is required.
func (i *Invariants) checkSeenStep(w *World, r *Run, a *account, step string) {
	things, any := judged(r), false
	after, more := w.allowance(r, a)
	for _, x := range things {
		if age := a.clock.Sub(a.sight.seen[x.name]); x.required && age > after+more {
			i.fail(w, r, BlindStep, "step %s ends and %s was not seen for %s", step, x.name, age)
		}
		any = any || a.sight.read[x.name]
		if x.required && !a.sight.read[x.name] {
			i.fail(w, r, UnreadStep, "step %s ends and %s was never read in it", step, x.name)
		}
	}
	if len(things) > 0 && !any {
		i.fail(w, r, UnreadStep, "step %s ends and nothing was read in it", step)
	}
}

// later is the later of two instants.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
