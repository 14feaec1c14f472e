package azureml_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/failure"
	"github.com/belayd/belay/rollout/sight"
	"github.com/belayd/belay/rollout/split"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/azureml"
	"github.com/belayd/belay/rollout/traffic/azureml/armtest"
)

// inMemory serves requests without a socket, as testing/synctest needs. A
// handler that aborts breaks the connection.
type inMemory struct{ http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	defer func() {
		if v := recover(); v != nil {
			resp, err = nil, io.ErrUnexpectedEOF
			if r.Context().Err() != nil {
				err = r.Context().Err()
			}
		}
	}()
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI = r.URL.RequestURI()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, in)
	return w.Result(), nil
}

// A shell does what rollout.Next wants, one effect after the other, with the
// real router and with an emulator of ARM; time is synctest's.
type shell struct {
	t      *testing.T
	arm    *armtest.Server
	router *azureml.Router
	plan   *rollout.Plan
	state  rollout.State
	start  time.Time
	// breach is when the guardrail's metric goes bad; later events are at `at`.
	breach time.Duration
	at     []moment
	log    []string
	most   int
}

// A moment is something that happens at its time, once.
type moment struct {
	after time.Duration
	do    func(*shell)
}

func newShell(t *testing.T, foreign rollout.ForeignPolicy) *shell {
	t.Helper()
	s := &shell{t: t, arm: &armtest.Server{Subscription: "s-1", ResourceGroup: "rg-1", Workspace: "ws-1", Delay: 40 * time.Second}, start: time.Now()}
	if err := s.arm.SetEndpoint("recs", resource); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"blue", "green"} {
		s.arm.SetDeployment("recs", name, "ranker/versions/17", 3, 8)
	}
	var err error
	s.router, err = azureml.New(azureml.Config{
		Subscription: "s-1", ResourceGroup: "rg-1", Workspace: "ws-1", Credential: armtest.Credential("x"),
		Options: armtest.Options("http://arm.example", &http.Client{Transport: inMemory{s.arm}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.plan = &rollout.Plan{
		SchemaVersion: 1, ID: "r-1", Stable: "auto", OnForeignChange: foreign, Concurrency: rollout.ConcurrencyQueue,
		Endpoint: rollout.EndpointRef{Router: "azureml", Name: "recs"},
		Release:  rollout.Release{Candidate: "green", Version: "17"},
		Interval: 15 * time.Second, MaxExtend: 10 * time.Minute, OnUndecided: rollout.UndecidedHold,
		OnNoData:      sight.MissingPolicy{After: 2 * time.Minute, Then: analysis.ActionHold},
		OnSourceError: sight.MissingPolicy{After: 2 * time.Minute, Then: analysis.ActionHold},
		Rollback:      rollout.RollbackPolicy{VerifyWithin: 2 * time.Minute}, Page: []string{"oncall"},
		Panel: analysis.Panel{
			Metrics: []analysis.Metric{{Name: "cpu", Source: "prom", Value: &analysis.Value{Query: "cpu"}}},
			Guardrails: []analysis.Guardrail{{
				Name: "cpu", Metric: "cpu", Limit: analysis.Limit{Value: 85, Text: "<= 85%"}, OnBreach: analysis.ActionRollback,
				Evidence: analysis.EvidenceRequired, Test: analysis.TestThreshold, BreachAfter: analysis.KofN{K: 1, N: 1}, Steps: []int{0, 1, 2},
			}},
			Alpha: 0.01, Beta: 0.1, Steps: 3, Interval: 15 * time.Second,
		},
	}
	for i, w := range []int{5, 25, 100} {
		s.plan.Steps = append(s.plan.Steps, rollout.Step{Name: []string{"canary", "quarter", "full"}[i], Share: split.Share{Weight: w}, Bake: 5 * time.Minute})
	}
	s.state = rollout.Start(s.plan, time.Now())
	return s
}

func (s *shell) fold(ev rollout.Event) {
	ev.At = time.Now()
	s.state = rollout.Next(s.plan, s.state, ev)
	for _, d := range s.state.Last.Decisions {
		if kind := string(d.Kind); len(s.log) == 0 || s.log[len(s.log)-1] != kind {
			s.log = append(s.log, kind)
		}
	}
	live, _ := s.arm.Traffic("recs")
	s.most = max(s.most, live["green"])
}

// run goes on until the rollout is closed, or for two hours.
func (s *shell) run() {
	s.t.Helper()
	s.fold(rollout.Event{Kind: rollout.EventStarted})
	for time.Since(s.start) < 2*time.Hour && (!s.state.Phase.Terminal() || len(s.state.Outbox) > 0) {
		next := s.start.Add(2 * time.Hour)
		var due *rollout.Effect
		for i, e := range s.state.Outbox {
			if !e.NotBefore.After(time.Now()) && due == nil {
				due = &s.state.Outbox[i]
			}
			if e.NotBefore.Before(next) {
				next = e.NotBefore
			}
		}
		if due != nil {
			s.do(*due)
			continue
		}
		if len(s.at) > 0 && s.start.Add(s.at[0].after).Before(next) {
			next = s.start.Add(s.at[0].after)
		}
		time.Sleep(time.Until(next))
		if len(s.at) > 0 && time.Since(s.start) >= s.at[0].after {
			m := s.at[0]
			s.at = s.at[1:]
			m.do(s)
		}
	}
}

// do makes one effect and folds its answer.
func (s *shell) do(e rollout.Effect) {
	ev := rollout.Event{Effect: e.ID, Attempt: e.Attempt}
	switch e.Kind {
	case rollout.EffectClaim:
		ev.Kind = rollout.EventClaimed
	case rollout.EffectRelease:
		ev.Kind = rollout.EventReleased
	case rollout.EffectPreflight:
		ev.Kind, ev.Manual = rollout.EventPreflighted, "az ml …"
		ev.Split, ev.Failure = s.read()
	case rollout.EffectReadTraffic:
		ev.Kind = rollout.EventTraffic
		ev.Split, ev.Failure = s.read()
	case rollout.EffectSetTraffic:
		ev.Kind = rollout.EventTraffic
		err := s.router.Shift(s.t.Context(), "recs", *e.From, *e.To)
		ev.Split, _ = s.read()
		ev.Failure = failed(err)
	case rollout.EffectMeasure:
		ev.Kind = rollout.EventMeasured
		for metric, since := range e.Since {
			cpu := 40.0
			if s.breach > 0 && time.Since(s.start) >= s.breach {
				cpu = 99
			}
			ev.Readings = append(ev.Readings, analysis.Reading{
				Metric: metric, From: since, To: time.Now(), Status: analysis.StatusOK,
				Stable: analysis.Sample{Fresh: true, Value: 40}, Candidate: analysis.Sample{Fresh: true, Value: cpu},
			})
		}
	case rollout.EffectAsk, rollout.EffectTell, rollout.EffectPage:
		ev.Kind = rollout.EventDelivered
		if len(e.Notifiers) > 0 {
			ev.Notifier = e.Notifiers[0]
		}
	case rollout.EffectWake:
		ev.Kind = rollout.EventWoken
	}
	s.fold(ev)
}

func (s *shell) read() (*traffic.Split, *failure.Failure) {
	split, err := s.router.Split(s.t.Context(), "recs")
	if err != nil {
		return nil, failed(err)
	}
	return &split, nil
}

func failed(err error) *failure.Failure {
	if err == nil {
		return nil
	}
	f := &failure.Failure{Kind: failure.Transient, Message: err.Error()}
	if busy, ok := errors.AsType[*traffic.BusyError](err); ok {
		f.Kind, f.RetryAfter = failure.Busy, busy.RetryAfter
	}
	switch {
	case errors.Is(err, traffic.ErrForeignChange):
		f.Kind = failure.Foreign
	case errors.Is(err, traffic.ErrPermanent), errors.Is(err, traffic.ErrNotFound):
		f.Kind = failure.Permanent
	}
	return f
}

// operator changes the traffic as somebody else.
func operator(blue, green int) func(*shell) {
	return func(s *shell) { s.arm.Operate("recs", map[string]int{"blue": blue, "green": green}, nil) }
}

// A rollout over ARM with one fault each: what Belay did about it, and where the
// traffic ended. Whatever ARM does, a breach ends with stable at 100%, the
// candidate never has more than its step, and nobody's change is overwritten in
// silence.
func TestFaultTable(t *testing.T) {
	late := armtest.Ends(armtest.Outcome{Delay: 9 * time.Minute})
	never := armtest.Ends(armtest.Outcome{Ignored: true})
	ok := armtest.Ends(armtest.Outcome{})
	halfway := armtest.Ends(armtest.Outcome{Instead: map[string]int{"blue": 90, "green": 10}})
	fails := armtest.Ends(armtest.Outcome{State: "Failed"})
	const breach = 8 * time.Minute // while the second step is being asked for or serves
	tests := []struct {
		name    string
		faults  []armtest.Fault
		breach  time.Duration
		foreign rollout.ForeignPolicy
		at      []moment
		phase   rollout.Phase
		blue    int
	}{
		{"none", nil, 0, rollout.ForeignHold, nil, rollout.PhasePromoted, 0},
		{"none, breach", nil, breach, rollout.ForeignHold, nil, rollout.PhaseRolledBack, 100},
		{"step: answer lost", []armtest.Fault{ok, armtest.LoseAnswer}, 0, rollout.ForeignHold, nil, rollout.PhasePromoted, 0},
		{"step: 500", []armtest.Fault{ok, armtest.Fail, armtest.Fail}, 0, rollout.ForeignHold, nil, rollout.PhasePromoted, 0},
		{"step: 409", []armtest.Fault{ok, armtest.Conflict(0), armtest.Conflict(20 * time.Second)}, 0, rollout.ForeignHold, nil, rollout.PhasePromoted, 0},
		{"step: 429", []armtest.Fault{ok, armtest.Throttle(30 * time.Second)}, 0, rollout.ForeignHold, nil, rollout.PhasePromoted, 0},
		{"step: 9 minutes Updating", []armtest.Fault{ok, late}, 0, rollout.ForeignHold, nil, rollout.PhasePromoted, 0},
		{"step: accepted, never applied", []armtest.Fault{ok, never}, 0, rollout.ForeignHold, nil, rollout.PhasePromoted, 0},
		{"step: accepted, then Failed", []armtest.Fault{ok, fails}, 0, rollout.ForeignHold, nil, rollout.PhaseHeld, 95},
		{"step: something else applied", []armtest.Fault{ok, halfway}, 0, rollout.ForeignHold, nil, rollout.PhaseHeld, 90},
		{"step: 403", []armtest.Fault{ok, armtest.Answer(403, "AuthorizationFailed", "No.")}, 0, rollout.ForeignHold, nil, rollout.PhaseHeld, 95},
		{"step Updating, breach", []armtest.Fault{ok, late}, 6*time.Minute + 20*time.Second, rollout.ForeignHold, nil, rollout.PhaseRolledBack, 100},
		{"step Failed, breach", []armtest.Fault{ok, fails}, 6*time.Minute + 20*time.Second, rollout.ForeignHold, nil, rollout.PhaseRolledBack, 100},
		{"rollback: answer lost", []armtest.Fault{ok, ok, armtest.LoseAnswer}, breach, rollout.ForeignHold, nil, rollout.PhaseRolledBack, 100},
		{"rollback: 500 ×5", []armtest.Fault{ok, ok, armtest.Fail, armtest.Fail, armtest.Fail, armtest.Fail, armtest.Fail}, breach, rollout.ForeignHold, nil, rollout.PhaseRolledBack, 100},
		{"rollback: 403 ×3", []armtest.Fault{
			ok, ok, armtest.Answer(403, "AuthorizationFailed", "No."), armtest.Answer(403, "AuthorizationFailed", "No."),
			armtest.Answer(403, "AuthorizationFailed", "No."),
		}, breach, rollout.ForeignHold, nil, rollout.PhaseRolledBack, 100},
		{"rollback: 409, 429", []armtest.Fault{ok, ok, armtest.Conflict(0), armtest.Throttle(20 * time.Second)}, breach, rollout.ForeignHold, nil, rollout.PhaseRolledBack, 100},
		{"rollback: never applied", []armtest.Fault{ok, ok, never, never}, breach, rollout.ForeignHold, nil, rollout.PhaseRolledBack, 100},
		{"rollback: Failed", []armtest.Fault{ok, ok, fails, fails}, breach, rollout.ForeignHold, nil, rollout.PhaseRolledBack, 100},
		{"rollback: something else applied", []armtest.Fault{ok, ok, halfway}, breach, rollout.ForeignHold, nil, rollout.PhaseRolledBack, 100},
		{"operator: 50/50, hold", nil, 0, rollout.ForeignHold, []moment{{3 * time.Minute, operator(50, 50)}}, rollout.PhaseHeld, 50},
		{"operator: 50/50, restore", nil, 0, rollout.ForeignRestore, []moment{{3 * time.Minute, operator(50, 50)}}, rollout.PhasePromoted, 0},
		{"operator: 98/2, adopt", nil, 0, rollout.ForeignAdopt, []moment{{3 * time.Minute, operator(98, 2)}}, rollout.PhasePromoted, 0},
		{"operator: 50/50, rollback", nil, 0, rollout.ForeignRollback, []moment{{3 * time.Minute, operator(50, 50)}}, rollout.PhaseRolledBack, 100},
		{"operator: 100/0 before a rollback", nil, breach, rollout.ForeignHold, []moment{{breach - time.Second, operator(100, 0)}}, rollout.PhaseRolledBack, 100},
	}
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "fault\twhat Belay decided\tPUTs\tmost\tafter\tphase\ttraffic in the end")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShell(t, tt.foreign)
				s.arm.Next(tt.faults...)
				s.breach, s.at = tt.breach, slices.Clone(tt.at)
				s.run()
				live, _ := s.arm.Traffic("recs")
				end := traffic.Split{Weights: live}
				_, _ = fmt.Fprintf(out, "%s\t%s\t%d\t%d%%\t%s\t%s\t%s\n", tt.name, strings.Join(s.log, " "), len(s.arm.Puts()), s.most,
					s.state.PhaseSince.Sub(s.start).Round(time.Second), s.state.Phase, end)
				if s.state.Phase != tt.phase || live["blue"] != tt.blue || live["blue"]+live["green"] != 100 {
					t.Errorf("%s: got %s with %s, want %s with blue at %d (%s)", tt.name, s.state.Phase, end, tt.phase, tt.blue, s.state.Sentence)
				}
				for _, p := range s.arm.Puts() {
					if before, body := members(t, p.Before), members(t, p.Body); len(before) != len(body) {
						t.Errorf("%s: PUT %s lost members of %s", tt.name, p.Body, p.Before)
					}
				}
			})
		})
	}
	_ = out.Flush()
	t.Logf("faults of ARM:\n%s", &table)
}
