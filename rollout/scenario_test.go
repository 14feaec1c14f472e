package rollout_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/calendar"
	"github.com/belayd/belay/rollout/check"
	"github.com/belayd/belay/rollout/deployment"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/realtest/goldentest"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/sim"
	"github.com/belayd/belay/rollout/split"
)

// TestScenarios runs the narrated scenarios of testdata: each file tells a story
// in comments, sets up a world, and shows below the dashes what was decided and
// when. With -update the part below the dashes is written again; commit such a
// difference only when it is understood.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			story, _, _ := strings.Cut(string(b), "----\n")
			s := newScenario(t)
			for line := range strings.SplitSeq(story, "\n") {
				s.line(line)
			}
			got := s.out.String()
			goldentest.Check(t, file, story+"----\n"+got)
		})
	}
}

// A scenario is one story being told.
type scenario struct {
	t      *testing.T
	plan   *rollout.Plan
	world  *sim.World
	faults *scriptedFaults
	inv    *sim.Invariants
	models map[string][]change
	rps    float64
	scrape time.Duration
	start  time.Time
	out    strings.Builder
	begun  int
	// watched are the notifiers whose pages and questions are told, told how many of the
	// messages were.
	watched []string
	told    int
}

type change struct {
	from  time.Duration
	model sim.Model
}

func newScenario(t *testing.T) *scenario {
	s := &scenario{t: t, plan: demoPlan(), rps: 200, start: storyStart, faults: &scriptedFaults{},
		models: map[string][]change{"blue": {{model: healthy()}}, "green": {{model: healthy()}}}, inv: &sim.Invariants{}}
	return s
}

func healthy() sim.Model {
	return sim.Model{Rates: map[string]float64{"failures": 0.001, "watched": 0.9}, P95: 0.18, Sigma: 0.4, Value: 0.5}
}

// demoPlan is a ladder of four steps with the three usual guardrails.
func demoPlan() *rollout.Plan {
	all := []int{0, 1, 2, 3}
	p := &rollout.Plan{
		SchemaVersion: 1, ID: "r1", Policy: rollout.PolicyRef{Name: "recommendations", Owner: "team"},
		Release:  rollout.Release{Policy: "recommendations", Candidate: "green", Version: "v2", Requester: person.Person{ID: "ci"}},
		Endpoint: rollout.EndpointRef{Router: "edge", Name: "recs"}, Stable: "auto",
		OnForeignChange: rollout.ForeignHold, Concurrency: rollout.ConcurrencyQueue,
		Interval: 10 * time.Second, Settle: 30 * time.Second, MaxExtend: 10 * time.Minute, OnUndecided: rollout.UndecidedHold,
		OnNoData:      sight.MissingPolicy{After: time.Minute, Then: analysis.ActionHold, RollbackAfter: 5 * time.Minute},
		OnSourceError: sight.MissingPolicy{After: time.Minute, Then: analysis.ActionHold},
		Rollback:      rollout.RollbackPolicy{VerifyWithin: 2 * time.Minute, Cooldown: 24 * time.Hour},
		Page:          []string{"oncall"}, Notify: []string{"slack"},
	}
	for _, w := range []int{5, 25, 60, 100} {
		p.Steps = append(p.Steps, rollout.Step{Name: fmt.Sprintf("%d%%", w), Share: split.Share{Weight: w}, Bake: 5 * time.Minute})
	}
	p.Panel = analysis.Panel{
		Metrics: []analysis.Metric{
			{Name: "failures", Source: "sim", Counts: &analysis.Counts{Total: "t", Bad: "b", Deployment: "d"}},
			{Name: "latency", Source: "sim", Histogram: &analysis.Histogram{Series: "h", Unit: "s", Deployment: "d"}},
			{Name: "watched", Source: "sim", Counts: &analysis.Counts{Total: "t", Good: "g", Deployment: "d"}},
		},
		Guardrails: []analysis.Guardrail{
			{Name: "failures", Metric: "failures", Limit: analysis.Limit{Value: 0.02, Text: "<= 2%"}, Detect: 0.05,
				OnBreach: analysis.ActionRollback, Evidence: analysis.EvidenceRequired, Test: analysis.TestSequential, Steps: all},
			{Name: "p95", Metric: "latency", Quantile: 0.95, Limit: analysis.Limit{Value: 0.3, Text: "<= 300ms"}, Detect: 0.10,
				OnBreach: analysis.ActionRollback, Evidence: analysis.EvidenceRequired, Test: analysis.TestSequential, Steps: all},
			{Name: "watch-through", Metric: "watched", Limit: analysis.Limit{AtLeast: true, Relative: true, Value: 0.95, Text: ">= 0.95x stable"}, Detect: 0.85,
				OnBreach: analysis.ActionRollback, Evidence: analysis.EvidenceRequired, Test: analysis.TestSequential, Steps: all},
		},
		Alpha: 0.01, Beta: 0.05, Steps: 4, Interval: 10 * time.Second, OnSharedBreach: analysis.ActionHold,
	}
	return p
}

// line runs one line of the story.
func (s *scenario) line(line string) {
	line = strings.TrimSpace(line)
	if line == "" || strings.HasPrefix(line, "#") {
		return
	}
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "policy":
		s.policy(rest)
	case "model":
		s.model(rest)
	case "at":
		s.at(rest)
	case "fault":
		s.faults.add(s.t, rest)
	case "fact":
		s.fact(rest)
	case "watch":
		s.watched = strings.Fields(rest)
	case "begin":
		s.begin(rest)
	case "run":
		s.run(rest)
	default:
		s.t.Fatalf("unknown line %q", line)
	}
}

// words splits "a=b c="d e"" into a map.
func (s *scenario) words(text string) map[string]string {
	out := map[string]string{}
	for _, kv := range pairs(text) {
		out[kv[0]] = kv[1]
	}
	return out
}

// pairs splits "a=b c="d e"" in order.
func pairs(text string) [][2]string {
	var out [][2]string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		k, rest, _ := strings.Cut(text, "=")
		if strings.HasPrefix(rest, `"`) {
			v, after, _ := strings.Cut(rest[1:], `"`)
			out, text = append(out, [2]string{k, v}), after
			continue
		}
		v, after, _ := strings.Cut(rest, " ")
		out, text = append(out, [2]string{k, v}), after
	}
	return out
}

func (s *scenario) duration(v string) time.Duration {
	d, err := time.ParseDuration(v)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// policy changes the plan.
func (s *scenario) policy(text string) {
	p := s.plan
	for _, kv := range pairs(text) {
		k, v := kv[0], kv[1]
		switch k {
		case "bake":
			for i := range p.Steps {
				p.Steps[i].Bake = s.duration(v)
			}
		case "requires":
			step, gate, _ := strings.Cut(v, ":")
			i, _ := strconv.Atoi(step)
			p.Steps[i].Requires = append(p.Steps[i].Requires, gate)
			p.Approvals = append(p.Approvals, approval.Approval{Name: gate, Notifier: "slack", Quorum: 1, NotByRequester: true,
				Expires: 20 * time.Minute, OnExpiry: approval.ExpiryHold})
		case "quorum":
			p.Approvals[len(p.Approvals)-1].Quorum, _ = strconv.Atoi(v)
		case "expires":
			p.Approvals[len(p.Approvals)-1].Expires = s.duration(v)
		case "onExpiry":
			p.Approvals[len(p.Approvals)-1].OnExpiry = approval.ExpiryPolicy(v)
		case "onForeignChange":
			p.OnForeignChange = rollout.ForeignPolicy(v)
		case "onUndecided":
			p.OnUndecided = rollout.UndecidedPolicy(v)
		case "onNoData":
			p.OnNoData.Then = analysis.Action(v)
		case "onBreach":
			for i := range p.Panel.Guardrails {
				p.Panel.Guardrails[i].OnBreach = analysis.Action(v)
			}
		case "note":
			i := slices.IndexFunc(p.Panel.Guardrails, func(g analysis.Guardrail) bool { return g.Name == v })
			p.Panel.Guardrails[i].OnBreach = analysis.ActionNote
		case "maxExtend":
			p.MaxExtend = s.duration(v)
		case "concurrency":
			p.Concurrency = rollout.Concurrency(v)
		case "window":
			cron, d, _ := strings.Cut(v, " for ")
			p.Windows = &calendar.Windows{Timezone: "UTC", Open: []calendar.Window{{Cron: cron, For: s.duration(d)}}}
		case "patience":
			p.Preflight = []check.Check{{Kind: "ready", Within: s.duration(v)}}
		case "schedule":
			p.Schedule = &calendar.Schedule{Cron: v}
		case "mirror":
			m, _ := strconv.Atoi(v)
			p.Steps = append([]rollout.Step{{Name: "shadow", Share: split.Share{Mirror: m}, Bake: 3 * time.Minute}}, p.Steps...)
			p.Panel.Steps++
			for i := range p.Panel.Guardrails {
				p.Panel.Guardrails[i].Steps = append(p.Panel.Guardrails[i].Steps, 4)
			}
		case "scrape":
			s.scrape = s.duration(v)
		case "interval":
			p.Interval, p.Panel.Interval = s.duration(v), s.duration(v)
		case "rps":
			s.rps, _ = strconv.ParseFloat(v, 64)
		case "evidence":
			for i := range p.Panel.Guardrails {
				p.Panel.Guardrails[i].Evidence = analysis.Required(v)
			}
		case "value":
			n, _ := strconv.ParseFloat(v, 64)
			p.Panel.Metrics = append(p.Panel.Metrics, analysis.Metric{Name: "cpu", Source: "sim", Value: &analysis.Value{Query: "q"}})
			p.Panel.Guardrails = append(p.Panel.Guardrails, analysis.Guardrail{Name: "cpu", Metric: "cpu", Limit: analysis.Limit{Value: n, Text: "<= " + v},
				OnBreach: analysis.ActionRollback, Evidence: analysis.EvidenceRequired, Test: analysis.TestThreshold,
				BreachAfter: analysis.KofN{K: 3, N: 5}, Steps: []int{0, 1, 2, 3}})
		case "only":
			p.Panel.Guardrails = slices.DeleteFunc(p.Panel.Guardrails, func(g analysis.Guardrail) bool { return g.Name != v })
		case "onSourceError":
			p.OnSourceError.Then = analysis.Action(v)
		case "noDataAfter":
			p.OnNoData.After = s.duration(v)
		case "rollbackAfter":
			p.OnNoData.RollbackAfter, p.OnSourceError.RollbackAfter = s.duration(v), s.duration(v)
		case "budgetOf":
			metric, most, _ := strings.Cut(v, ":")
			n, _ := strconv.ParseFloat(most, 64)
			p.Panel.Metrics = append(p.Panel.Metrics, analysis.Metric{Name: metric, Source: "sim", Counts: &analysis.Counts{Total: "t", Bad: "b", Deployment: "d"}})
			p.Panel.Budget = &analysis.Budget{Metric: metric, AtMost: n}
		case "budget":
			n, _ := strconv.ParseFloat(v, 64)
			p.Panel.Budget = &analysis.Budget{Metric: "failures", AtMost: n}
		case "page":
			p.Page = strings.Split(v, ",")
		default:
			s.t.Fatalf("unknown policy word %q", k)
		}
	}
}

// model sets how a deployment behaves from an instant on: "green from=4m failures=20%".
func (s *scenario) model(text string) {
	name, rest, _ := strings.Cut(text, " ")
	c := change{model: healthy()}
	for k, v := range s.words(rest) {
		f, err := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
		switch k {
		case "from":
			c.from = s.duration(v)
			continue
		case "p95":
			c.model.P95 = s.duration(v).Seconds()
			continue
		case "gone":
			c.model.Gone = true
			continue
		}
		if err != nil {
			s.t.Fatal(err)
		}
		c.model.Rates[k] = f / 100
	}
	s.models[name] = append(s.models[name], c)
}

// fact says what the router tells of a deployment from an instant on: "green from=4m
// version=v4 instances=2 ready=no". What was told before goes on to be told.
func (s *scenario) fact(text string) {
	name, rest, _ := strings.Cut(text, " ")
	told := telling{name: name}
	for _, t := range s.faults.facts {
		if t.name == name {
			told.fact = t.fact
		}
	}
	for k, v := range s.words(rest) {
		switch k {
		case "from":
			told.from = s.duration(v)
		case "version":
			told.fact.Version = v
		case "instances":
			n, _ := strconv.Atoi(v)
			told.fact.Instances = &n
		case "ready":
			told.fact.Ready = map[string]string{"yes": deployment.Ready, "no": deployment.NotReady}[v]
		default:
			s.t.Fatalf("unknown fact %q", k)
		}
	}
	s.faults.facts = append(s.faults.facts, told)
}

func (s *scenario) modelAt(name string, at time.Time, _ int) sim.Model {
	var m sim.Model
	for _, c := range s.models[name] {
		if !s.start.Add(c.from).After(at) {
			m = c.model
		}
	}
	return m
}

// begin starts a rollout: the world with it, when it is the first.
func (s *scenario) begin(text string) {
	words := s.words(text)
	p := *s.plan
	if s.world == nil {
		s.world = sim.New(sim.Config{Start: s.start, Split: split.Split{Weights: map[string]int{"blue": 100}}, Faults: s.faults,
			Source: &sim.Traffic{Seed: 11, RPS: sim.Steady(s.rps), Scrape: s.scrape, Model: s.modelAt, Bounds: []float64{0.05, 0.1, 0.2, 0.3, 0.5, 1}}})
		s.inv.Watch(s.world)
		watch := s.world.Watch
		s.world.Watch = func(w *sim.World, r *sim.Run, l sim.Line) { watch(w, r, l); s.print(w, r, l) }
	}
	s.begun++
	p.ID = fmt.Sprintf("r%d", s.begun)
	if v := words["version"]; v != "" {
		p.Release.Version = v
	}
	if v := words["concurrency"]; v != "" {
		p.Concurrency = rollout.Concurrency(v)
	}
	after := time.Duration(0)
	if v := words["at"]; v != "" {
		after = s.duration(v)
	}
	if after == 0 {
		s.world.Begin(&p)
		return
	}
	s.world.At(s.start.Add(after), func(w *sim.World) { w.Begin(&p) })
}

// at schedules what people and others do: "3m command=pause by=ann", "2m write=blue:0".
func (s *scenario) at(text string) {
	when, rest, _ := strings.Cut(text, " ")
	words := s.words(rest)
	s.world.At(s.start.Add(s.duration(when)), func(w *sim.World) {
		r := w.Runs[0]
		by := &person.Person{ID: words["by"]}
		switch {
		case words["command"] != "":
			w.Fold(r, rollout.Event{Kind: rollout.EventCommanded, Command: rollout.Command(words["command"]), By: by, Reason: words["reason"]})
		case words["approve"] != "":
			w.Fold(r, rollout.Event{Kind: rollout.EventAnswered, Gate: words["approve"], Nonce: r.State.Gates[words["approve"]].Nonce, Approve: true, By: by})
		case words["reject"] != "":
			w.Fold(r, rollout.Event{Kind: rollout.EventAnswered, Gate: words["reject"], Nonce: r.State.Gates[words["reject"]].Nonce, By: by, Reason: words["reason"]})
		case words["write"] != "":
			w.Write(splitOf(words["write"]))
		case words["suspect"] != "":
			split := w.Endpoint.Split.Clone()
			w.Fold(r, rollout.Event{Kind: rollout.EventSuspected, Split: &split, Reason: words["suspect"]})
		case words["known"] != "": // people gives a name another id
			i := strings.LastIndex(words["known"], ":")
			w.People = map[string]string{words["known"][:i]: words["known"][i+1:]}
		case words["away"] != "":
			w.Away(s.duration(words["away"]))
		default:
			s.t.Fatalf("unknown act %q", text)
		}
	})
}

// splitOf reads "blue:95,green:5" and "blue:100,mirror/green:10".
func splitOf(text string) split.Split {
	split := split.Split{Weights: map[string]int{}}
	for pair := range strings.SplitSeq(text, ",") {
		n, v, _ := strings.Cut(pair, ":")
		share, _ := strconv.Atoi(v)
		if name, mirror := strings.CutPrefix(n, "mirror/"); mirror {
			split.Mirror = map[string]int{name: share}
			continue
		}
		split.Weights[n] = share
	}
	return split
}

// run lets the world go on and says how it stands.
func (s *scenario) run(text string) {
	s.world.Run(s.start.Add(s.duration(text)))
	s.inv.Finish(s.world)
	for _, r := range s.world.Runs {
		fmt.Fprintf(&s.out, "%s is %s after %s; the endpoint shows %s\n", r.Plan.ID, r.State.Phase, s.since(s.world.Now), s.world.Endpoint.Split)
	}
	for _, v := range s.inv.Violations {
		s.t.Errorf("invariant: %s", v)
	}
}

func (s *scenario) since(t time.Time) string {
	return t.Sub(s.start).Round(100 * time.Millisecond).String()
}

// print tells one event's decisions.
func (s *scenario) print(w *sim.World, r *sim.Run, l sim.Line) {
	if l.Ignored != "" && (l.Event.Kind == rollout.EventCommanded || l.Event.Kind == rollout.EventAnswered) {
		fmt.Fprintf(&s.out, "%-9s %s ignored: %s\n", s.since(w.Now), r.Plan.ID, l.Ignored)
	}
	for _, d := range l.Decisions {
		fmt.Fprintf(&s.out, "%-9s %s %-14s %s\n", s.since(w.Now), r.Plan.ID, d.Kind, d.Sentence)
	}
	s.show(w)
}

// show tells what the watched notifiers were given of pages and questions.
func (s *scenario) show(w *sim.World) {
	for ; s.told < len(w.Notices); s.told++ {
		d := w.Notices[s.told]
		n := d.Effect.Notice
		if !slices.Contains(s.watched, d.Notifier) || d.Effect.Kind == rollout.EffectTell {
			continue
		}
		what := string(d.Effect.Kind)
		if n.Resolve {
			what = "resolved"
		}
		fmt.Fprintf(&s.out, "%-9s    %s shows %s: %s\n", s.since(d.At), d.Notifier, what, n.Summary)
	}
}

// scriptedFaults fail what a scenario names: "source from=3m to=6m", "router from=…
// to=…", "slack from=… to=…", with every=5m until=1h again and again.
type scriptedFaults struct {
	sim.Fine
	spells []spell
	facts  []telling
}

// A telling is what the router tells of a deployment from an instant on.
type telling struct {
	name string
	from time.Duration
	fact deployment.Fact
}

// Describe tells what the story says.
func (f *scriptedFaults) Describe(w *sim.World, _ *sim.Run) map[string]deployment.Fact {
	var out map[string]deployment.Fact
	for _, t := range f.facts {
		if w.Now.Sub(storyStart) < t.from {
			continue
		}
		if out == nil {
			out = map[string]deployment.Fact{}
		}
		out[t.name] = t.fact
	}
	return out
}

// storyStart is when every scenario begins.
var storyStart = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

type spell struct {
	what     string
	from, to time.Duration
	// every is after how long it comes again, up to until; 0 is never.
	every, until time.Duration
}

func (f *scriptedFaults) add(t *testing.T, text string) {
	what, rest, _ := strings.Cut(text, " ")
	s := scenario{t: t}
	w := s.words(rest)
	sp := spell{what: what, from: s.duration(w["from"]), to: s.duration(w["to"])}
	if w["every"] != "" {
		sp.every, sp.until = s.duration(w["every"]), s.duration(w["until"])
	}
	f.spells = append(f.spells, sp)
}

func (f *scriptedFaults) on(w *sim.World, what string) bool {
	for _, s := range f.spells {
		in := w.Now.Sub(storyStart) - s.from
		if s.every > 0 && in > 0 && in < s.until-s.from {
			in %= s.every
		}
		if s.what == what && in >= 0 && in < s.to-s.from {
			return true
		}
	}
	return false
}

// Read fails while the source, or the one metric, is down; it lacks the candidate while
// that is stale, one metric's while that is absent, fails and lacks in turns while it
// alternates, brings nothing new while it is late, and tells of three minutes ago while
// it is behind.
func (f *scriptedFaults) Read(w *sim.World, _ *sim.Run, q analysis.Query) *analysis.Reading {
	failed := analysis.ErrorReading(q, "connection refused")
	lacking := analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.To, Status: analysis.StatusOK, Stable: analysis.Sample{Fresh: true, N: 100}}
	late := analysis.Reading{Metric: q.Metric.Name, From: q.From, To: q.From, Status: analysis.StatusOK}
	behind := lacking
	behind.Stable.Buckets = []analysis.Bucket{{Upper: 0.05}, {Upper: 0.1, Count: 50}, {Upper: 0.2, Count: 50}, {Upper: 0.3}, {Upper: 0.5}, {Upper: 1}}
	if q.Metric.Name == "watched" {
		behind.Stable.K = 90
	}
	behind.To, behind.Candidate = w.Now.Add(-3*time.Minute), behind.Stable
	if !behind.To.After(q.From) {
		behind = late
	}
	turn := w.Now.Unix()/10%2 == 0
	switch {
	case f.on(w, "source"), f.on(w, "metric/"+q.Metric.Name), f.on(w, "alternating") && turn:
		return &failed
	case f.on(w, "stale"), f.on(w, "absent/"+q.Metric.Name), f.on(w, "alternating"):
		return &lacking
	case f.on(w, "late"):
		return &late
	case f.on(w, "behind"):
		return &behind
	}
	return nil
}

// Hangs leaves readings without an answer while the source hangs.
func (f *scriptedFaults) Hangs(w *sim.World, _ *sim.Run) bool { return f.on(w, "hang") }

// Shift fails while the router is down, and loses answers while it is lossy.
func (f *scriptedFaults) Shift(w *sim.World, _ sim.Write) sim.ShiftFault {
	gone := &failure.Failure{Kind: failure.Transient, Message: "connection reset"}
	switch {
	case f.on(w, "router"):
		return sim.ShiftFault{Failure: gone}
	case f.on(w, "lossy"):
		return sim.ShiftFault{Apply: true, Failure: gone}
	case f.on(w, "slow"):
		return sim.ShiftFault{Apply: true, Delay: 20 * time.Second}
	case f.on(w, "unfenced"):
		return sim.ShiftFault{Apply: true, Delay: 20 * time.Second, Unfenced: true}
	}
	return sim.ShiftFault{Apply: true}
}

// Split fails while the router is down.
func (f *scriptedFaults) Split(w *sim.World) *failure.Failure {
	if f.on(w, "router") {
		return &failure.Failure{Kind: failure.Transient, Message: "connection reset"}
	}
	return nil
}

// Checks find the candidate unready for a while.
func (f *scriptedFaults) Checks(w *sim.World, _ *sim.Run) []check.Result {
	ok := !f.on(w, "unready")
	found := map[bool]string{true: "2 instances, ready", false: "0 of 2 instances ready"}[ok]
	return []check.Result{{Check: "ready", OK: ok, Found: found, Expected: "green ready", Remedy: "look at its deployment log", Awaited: !ok}}
}

// Notify fails while the notifier is down.
func (f *scriptedFaults) Notify(w *sim.World, name string) *failure.Failure {
	if f.on(w, name) {
		return &failure.Failure{Kind: failure.Busy, Message: "503"}
	}
	return nil
}
