package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/api"
)

// What an A/A test over stable's own instances takes: so many readings of the last while,
// none shorter than aaShortest, of at most so many metrics of a source, and so long.
const (
	aaReadings = 15
	aaShortest = time.Minute
	aaMetrics  = 12
	aaTimeout  = 10 * time.Second
)

// aaTests replays stable's last while for the targets that were read: each of its instances
// in turn plays the candidate. Where the source cannot look back, or does not answer in
// time, nothing is said.
func (l *SourceProbe) aaTests(ctx context.Context, source analysis.Source, targets []*probeTarget) {
	ctx, cancel := context.WithTimeout(ctx, aaTimeout)
	defer cancel()
	var qs []analysis.Query
	var of []*probeTarget
	tested := 0
	for _, s := range targets {
		if s.aaTest = s.untested(); s.aaTest != nil || tested == aaMetrics {
			continue
		}
		tested++
		every := max(s.plan.Interval, aaShortest)
		for i := aaReadings - 1; i >= 0; i-- {
			q := s.query(s.reading.To.Add(-time.Duration(i) * every))
			q.From, q.Names.Candidate, q.Names.CandidateVersion = q.To.Add(-every), q.Names.Stable, q.Names.StableVersion
			qs, of = append(qs, q), append(of, s)
		}
	}
	if len(qs) == 0 {
		return
	}
	rs, err := source.Read(ctx, qs)
	if err != nil || len(rs) != len(qs) {
		return
	}
	readings := map[*probeTarget][]analysis.Reading{}
	for i, r := range rs {
		if r.Status == analysis.StatusOK && r.To.After(r.From) && r.Stable.Fresh {
			readings[of[i]] = append(readings[of[i]], r)
		}
	}
	for s, rs := range readings {
		if len(rs) > 1 {
			s.aaTest = s.outcome(rs)
		}
	}
}

// untested is why there is no A/A test of a target: nil where there can be one, or nothing
// is to be said.
func (s *probeTarget) untested() *api.AATest {
	const why = "no label tells stable's instances apart: name one as instance, where clients stick to a " +
		"deployment the one by which the router splits them"
	kind := s.metric.Kind()
	if s.reading.Status != analysis.StatusOK || !s.reading.Stable.Fresh || kind == analysis.KindValue ||
		s.metric.Rate() || !slices.ContainsFunc(s.plan.Panel.Guardrails, s.judges) {
		return &api.AATest{}
	}
	if s.reading.From.After(s.from.Add(aaShortest)) {
		return &api.AATest{} // the source cannot look back
	}
	switch len(s.reading.Stable.Instances) {
	case 0:
		return &api.AATest{Sentence: why}
	case 1:
		return &api.AATest{Sentence: "stable has one instance: there is none to compare it with"}
	}
	return nil
}

// judges reports whether a guardrail judges the target's metric by evidence.
func (s *probeTarget) judges(g analysis.Guardrail) bool {
	return g.Metric == s.metric.Name && g.Test == analysis.TestSequential
}

// outcome is the A/A test of the readings.
func (s *probeTarget) outcome(rs []analysis.Reading) *api.AATest {
	panel := s.plan.Panel
	panel.Guardrails = slices.DeleteFunc(slices.Clone(panel.Guardrails), func(g analysis.Guardrail) bool {
		return !s.judges(g)
	})
	p := panel.AATest(rs)
	out := &api.AATest{Instances: p.Trials, Alarms: p.Broken, Dispersion: p.Phi}
	span := shortDuration(rs[len(rs)-1].To.Sub(rs[0].From).Round(time.Second))
	out.Sentence = fmt.Sprintf("%d of %d instances of %s, compared with the others over %s, would have been rolled back",
		len(p.Broken), p.Trials, s.serving.Stable, span)
	if len(p.Broken) > 0 {
		const most = 5
		names := p.Broken
		more := ""
		if len(names) > most {
			names, more = names[:most], ", …"
		}
		out.Sentence += fmt.Sprintf(" (%s%s): false alarms in %.0f%%", strings.Join(names, ", "), more, 100*p.Rate())
		out.Remedy = "see how these differ; where clients stick to a deployment, let instance be the label by which the " +
			"router splits them"
	}
	if p.Phi > 0 {
		out.Sentence += fmt.Sprintf("; events cluster by φ %.2g", p.Phi)
	}
	return out
}
