package probe

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/traffic"
)

const (
	// lookTimeout bounds a look at all sources, servingTimeout the routers' part.
	lookTimeout    = 25 * time.Second
	servingTimeout = 8 * time.Second
	// lookPast is how far back a look reads: further than the slowest source lags.
	lookPast = 15 * time.Minute
	// lookAgain is after how long a source that cannot look back is read again,
	// lookReads how often it is read at most.
	lookAgain = 2 * time.Second
	lookReads = 3
	// lookRouters is how many questions to routers are under way.
	lookRouters = 8
)

// Flight lets one look be under way at a time.
type Flight struct {
	mu  sync.Mutex
	now *underWay
}

// underWay is a look that others may wait for.
type underWay struct {
	done  chan struct{}
	found []api.SourceLook
	// cut: who began it went away before it was finished.
	cut bool
}

// Share looks, or waits for the look that is under way. Nothing is returned when
// ctx ends first.
func (s *Flight) Share(ctx context.Context, look func(context.Context) []api.SourceLook) []api.SourceLook {
	for ctx.Err() == nil {
		s.mu.Lock()
		u := s.now
		if u == nil {
			u = &underWay{done: make(chan struct{})}
			s.now = u
			s.mu.Unlock()
			return s.lead(ctx, u, look)
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-u.done:
			if !u.cut {
				return u.found
			}
		}
	}
	return nil
}

// lead looks for all who wait.
func (s *Flight) lead(ctx context.Context, u *underWay, look func(context.Context) []api.SourceLook) []api.SourceLook {
	u.cut = true // unless it is finished
	defer func() {
		s.mu.Lock()
		s.now = nil
		s.mu.Unlock()
		close(u.done)
	}()
	found := look(ctx)
	u.found, u.cut = found, ctx.Err() != nil
	return found
}

// A SourceProbe reads sources as a rollout would, without one.
type SourceProbe struct {
	Sources map[string]config.Source
	Routers map[string]traffic.Router
	// Kinds are the sources' kinds.
	Kinds map[string]string
}

// A probeTarget is one metric of one policy: what to ask and what came back.
type probeTarget struct {
	policy  string
	plan    *rollout.Plan
	metric  analysis.Metric
	serving *servingSeen
	reading analysis.Reading
	// from is since when it was asked.
	from time.Time
	// aaTest is what came of stable's own instances; nil where nothing did.
	aaTest *api.AATest
}

// servingSeen is who serves an endpoint, or why that is not known.
type servingSeen struct {
	ref    rollout.EndpointRef
	stable string // as the policy names it
	Serving
	err error
}

// Look reads all sources at once, within lookTimeout.
func (l *SourceProbe) Look(ctx context.Context, set *config.PolicySet) []api.SourceLook {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	bySource := l.targets(ctx, set)
	out := make([]api.SourceLook, 0, len(l.Sources))
	for _, name := range slices.Sorted(maps.Keys(l.Sources)) {
		out = append(out, api.SourceLook{Name: name, Kind: l.Kinds[name], Metrics: []api.MetricLook{}})
	}
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() { l.one(ctx, &out[i], bySource[out[i].Name]) })
	}
	wg.Wait()
	return out
}

// targets are what the policies ask, by source.
func (l *SourceProbe) targets(ctx context.Context, set *config.PolicySet) map[string][]*probeTarget {
	type key struct {
		ref    rollout.EndpointRef
		stable string
	}
	found := map[key]*servingSeen{}
	out := map[string][]*probeTarget{}
	for _, name := range slices.Sorted(maps.Keys(set.ByName)) {
		plan, err := lookPlan(set.ByName[name])
		if err != nil {
			continue // a policy in force compiles, unless it names no metric that is known
		}
		k := key{plan.Endpoint, plan.Stable}
		if found[k] == nil {
			found[k] = &servingSeen{ref: plan.Endpoint, stable: plan.Stable}
		}
		for _, m := range plan.Panel.Metrics {
			out[m.Source] = append(out[m.Source], &probeTarget{policy: name, plan: plan, metric: m, serving: found[k]})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, servingTimeout)
	defer cancel()
	slots := make(chan struct{}, lookRouters)
	var wg sync.WaitGroup
	for _, s := range found {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s.Serving, s.err = servingAt(ctx, l.Routers, s.ref, s.stable, "")
		})
	}
	wg.Wait()
	return out
}

// nobodyServes is a deployment that is none.
const nobodyServes = "belay-doctor"

// lookPlan compiles a policy for its panel; the candidate is nobody.
func lookPlan(p *policies.Policy) (*rollout.Plan, error) {
	return p.Compile(rollout.Release{Policy: p.Document.Metadata.Name, Candidate: nobodyServes}, "doctor")
}

// one reads one source and says what it saw. A source is also asked where nobody
// says who serves, to see whether it answers; targets to scrape are named by
// deployment and cannot be.
func (l *SourceProbe) one(ctx context.Context, out *api.SourceLook, targets []*probeTarget) {
	var ask []*probeTarget
	for _, s := range targets {
		if s.serving.Stable != "" || out.Kind != "scrape" {
			ask = append(ask, s)
		}
	}
	if len(ask) > 0 {
		began := time.Now()
		qs := make([]analysis.Query, len(ask))
		for i, s := range ask {
			qs[i] = s.query(began.Truncate(time.Millisecond))
			s.from = qs[i].From
		}
		rs, err := read(ctx, l.Sources[out.Name], qs)
		out.Took = time.Since(began).Round(time.Millisecond).String()
		if err != nil {
			out.Error = timeoutOr(ctx, err)
		}
		for i := range rs {
			ask[i].reading = rs[i]
		}
		if err == nil {
			l.aaTests(ctx, l.Sources[out.Name], ask)
		}
	}
	now, failed := time.Now(), out.Error
	for _, s := range targets {
		out.Metrics = append(out.Metrics, l.metric(s, now, failed))
	}
	if out.Error == "" {
		out.Error = oneError(ask)
	}
	if out.Error != "" {
		out.Remedy = remedy(out.Name, out.Error)
	}
}

// timeoutOr says that the look was out of time, where that is why.
func timeoutOr(ctx context.Context, err error) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "it did not answer within " + lookTimeout.String()
	}
	return err.Error()
}

// oneError is what all questions fail with, if it is the same.
func oneError(asked []*probeTarget) string {
	for _, s := range asked {
		if s.reading.Status == analysis.StatusOK || s.reading.Reason != asked[0].reading.Reason {
			return ""
		}
	}
	if len(asked) == 0 {
		return ""
	}
	return asked[0].reading.Reason
}

// query asks for the last while. Where there is no candidate, stable stands in
// its place, and the answer is left out.
func (s *probeTarget) query(to time.Time) analysis.Query {
	names := analysis.Names{Endpoint: s.serving.ref.Name, Stable: s.serving.Stable, Candidate: s.serving.Candidate}
	if names.Stable == "" {
		names.Stable = nobodyServes
	}
	if names.Candidate == "" {
		names.Candidate = names.Stable
	}
	names.StableVersion = s.serving.Description.Deployments[names.Stable].Version
	names.CandidateVersion = s.serving.Description.Deployments[names.Candidate].Version
	return analysis.Query{Metric: s.metric, Names: names, From: to.Add(-lookPast), To: to,
		Cuts: s.plan.Panel.Cuts(s.metric.Name, analysis.Evidence{})}
}

// remedy says what to do about a source's error.
func remedy(source, reason string) string {
	low := strings.ToLower(reason)
	has := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(low, t) })
	}
	switch {
	case has("401", "403", "unauthorized", "forbidden", "token", "credential"):
		return "check the credentials of sources." + source + " in belayd's config, and what they may read"
	case has("refused", "no such host", "unreachable", "no route", "reset", "eof", "tls", "certificate"):
		return "check the address of sources." + source + " in belayd's config, and that it runs"
	case has("timeout", "timed out", "deadline", "within"):
		return "check that sources." + source + " answers in time; narrow the metrics' matchers or raise its timeout"
	}
	return "correct the metric in the policy, or ask the source by hand"
}
