package analysis

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// sentence says a verdict and why, in words that a product owner understands.
func sentence(p *Panel, g *Guardrail, s *GuardrailState, at StepContext, v *Verdict) string {
	switch v.Outcome {
	case OutcomeBreach:
		return breachSentence(p, g, v)
	case OutcomePass:
		if v.LogEPassNeeds == 0 {
			return fmt.Sprintf("%s keeps its limit %s: %s.", g.Name, v.Limit, figures(g, v, p.metric(g.Metric)))
		}
		return fmt.Sprintf("%s keeps its limit %s: %s; a regression to %s would look this good less than once in %s "+
			"releases.",
			g.Name, v.Limit, figures(g, v, p.metric(g.Metric)), p.detectText(g.passing(float64(at.CandidateWeight))),
			odds(math.Max(v.LogEPass, v.LogEPassNeeds)))
	case OutcomeNoData, OutcomeError:
		what := map[Outcome]string{OutcomeNoData: "no data", OutcomeError: "not judged"}[v.Outcome]
		return fmt.Sprintf("%s: %s: %s.", g.Name, what,
			strings.TrimSuffix(orElse(s.Reason, "its metric is not defined"), "."))
	case OutcomeResting:
		if g.rests(at) {
			return fmt.Sprintf("%s rests: stable has no traffic to compare with.", g.Name)
		}
		return fmt.Sprintf("%s rests: it is not judged in this step.", g.Name)
	case OutcomeUndecided:
	}
	if at.Settling {
		return fmt.Sprintf("%s cannot pass while the new weight settles: %s.", g.Name, figures(g, v, p.metric(g.Metric)))
	}
	return fmt.Sprintf("%s is undecided: %s; a pass takes %s.", g.Name, figures(g, v, p.metric(g.Metric)), v.Needed)
}

func breachSentence(p *Panel, g *Guardrail, v *Verdict) string {
	text := fmt.Sprintf("%s broke its limit %s: %s", g.Name, v.Limit, figures(g, v, p.metric(g.Metric)))
	if k, n := g.kOfN(); v.LogEThreshold == 0 && n > 1 {
		text += fmt.Sprintf("; at least %d of the last %d readings were beyond it", k, n)
	}
	if v.LogEThreshold != 0 {
		text += fmt.Sprintf("; a release within the limit would look this bad less than once in %s rollouts",
			odds(math.Max(v.LogE, math.Log(2))))
	}
	switch v.Cause {
	case CauseShared:
		text += "; stable breaks the same limit at the same time, so the release is hardly the cause"
	case CauseSingleInstance:
		text += fmt.Sprintf("; without instance %s the limit would be kept, so a bad node is likelier than a bad release",
			v.Instance)
	case CauseCandidate:
	}
	return text + "."
}

// figures are the estimates in words.
func figures(g *Guardrail, v *Verdict, m *Metric) string {
	if !v.Candidate.Known {
		return "nothing was measured yet"
	}
	show := func(f float64) string { return figure(v.Unit, f) }
	text := show(v.Candidate.Value)
	if g.Quantile > 0 && v.Unit == "s" {
		text = quantileName(g.Quantile) + " " + text
	}
	if v.Candidate.Low < v.Candidate.High {
		text += fmt.Sprintf(" (%s to %s)", show(v.Candidate.Low), show(v.Candidate.High))
	}
	switch {
	case m.Rate():
		text += " per " + perText(m) + " over " + span(v.Candidate.N)
	case m.Kind() != KindValue:
		text += " of " + grouped(math.Round(v.Candidate.N)) + " " + events(m)
	}
	if v.Stable.Known {
		text += ", stable " + show(v.Stable.Value)
	}
	return text
}

// detectText is the regression that must be caught, in words.
func (p *Panel) detectText(g *Guardrail) string {
	switch m := p.metric(g.Metric); {
	case g.DetectLatency:
		return latency(g.Detect)
	case g.Quantile > 0:
		if g.Limit.Relative {
			return fmt.Sprintf("%s times the slow requests", number(g.Detect))
		}
		return fmt.Sprintf("%s slower than the limit", percent(g.Detect))
	case g.Limit.Relative:
		text := number(g.Detect) + "x stable"
		if g.PassFloor > 0 {
			text += " and " + percent(g.PassFloor)
		}
		return text
	case m.Rate():
		return number(g.Detect*Trials) + " per " + perText(m)
	}
	return figure("share", g.Detect)
}

// perText is a rate's time in words: 1h, 30m.
func perText(m *Metric) string {
	text := m.Counts.Per.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

func budgetSentence(b *Budget, spent float64) string {
	return fmt.Sprintf("the budget is spent: at least %s failures more than stable would have had, at most %s were "+
		"allowed.",
		grouped(math.Round(spent)), grouped(b.AtMost))
}

// effective says what is really judged where it differs from the limit.
func (s *GuardrailState) effective(g *Guardrail, m *Metric) string {
	if g.method(m) == methodMean && s.Moments != nil && s.Moments.PastStable.Batches >= meanBatches {
		// The standard error of a standard deviation out of so many batches.
		unsure := 1 / math.Sqrt(2*(s.Moments.PastStable.Batches-1))
		return fmt.Sprintf("how much the values spread is estimated from %.0f batches, to within %.0f%%, because their "+
			"squares are not counted",
			s.Moments.PastStable.Batches, 100*unsure)
	}
	if g.method(m) != methodQuantile {
		return ""
	}
	name := quantileName(g.Quantile)
	if g.Limit.Relative {
		if s.Tail == nil || s.Tail.Aim == nil {
			return ""
		}
		a := s.Tail.Aim
		if a.Limit != 1 {
			return fmt.Sprintf("with these buckets %s %s is judged on the requests slower than %s: at most %s times stable's "+
				"for rollback",
				name, g.Limit.Text, latency(a.Stable), number(a.Limit))
		}
		text := fmt.Sprintf("with these buckets %s %s is judged as %sx at stable's %s for rollback",
			name, g.Limit.Text, number(a.Breach/a.Stable), latency(a.Stable))
		if a.Pass != a.Breach {
			text += fmt.Sprintf(" and as %sx for promotion", number(a.Pass/a.Stable))
		}
		return text
	}
	b := s.Bounds
	if b == nil {
		return ""
	}
	limit, pass := g.Limit.Value, g.Limit.Value
	if g.DetectLatency {
		pass = g.Detect
	}
	if near(b.Breach, limit) && near(b.Pass, pass) {
		return ""
	}
	sign := "<="
	if g.Limit.AtLeast {
		sign = ">="
	}
	return fmt.Sprintf("with these buckets %s %s is judged as %s %s for rollback and as %s %s for promotion",
		name, g.Limit.Text, sign, latency(b.Breach), sign, latency(b.Pass))
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*math.Abs(b) }

// events is what a metric counts, in words.
func events(m *Metric) string {
	if m.Kind() == KindMean || m.Counts != nil && m.Counts.Good != "" {
		return "events"
	}
	return "requests"
}

// quantileName is p95 for 0.95.
func quantileName(q float64) string {
	return "p" + strconv.FormatFloat(math.Round(q*1e8)/1e6, 'f', -1, 64)
}

// figure is f in a verdict's unit.
func figure(unit string, f float64) string {
	switch unit {
	case "share":
		return percent(f)
	case "s":
		return latency(f)
	}
	return number(f)
}

// number has four significant digits at most.
func number(f float64) string { return strconv.FormatFloat(f, 'g', 4, 64) }

func percent(f float64) string {
	f *= 100
	digits := 2
	if math.Abs(f) >= 10 {
		digits = 1
	}
	return strconv.FormatFloat(f, 'f', digits, 64) + "%"
}

func latency(s float64) string {
	if s < 1 {
		return strconv.FormatFloat(math.Round(s*1e6)/1e3, 'g', 4, 64) + " ms"
	}
	return strconv.FormatFloat(s, 'g', 4, 64) + " s"
}

// grouped writes a whole number with commas.
func grouped(f float64) string {
	digits := strconv.FormatFloat(math.Round(f), 'f', 0, 64)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// roughly is a count with two significant digits.
func roughly(f float64) string {
	f = math.Ceil(f)
	if f > 100 {
		scale := math.Pow(10, math.Floor(math.Log10(f))-1)
		f = math.Ceil(f/scale) * scale
	}
	return grouped(f)
}

// span is a duration in seconds, in words.
func span(s float64) string {
	switch {
	case s < 90:
		return fmt.Sprintf("%.0f s", math.Ceil(s))
	case s < 90*60:
		return fmt.Sprintf("%.0f min", math.Ceil(s/60))
	case s < 48*3600:
		return fmt.Sprintf("%.0f h", math.Ceil(s/3600))
	}
	return fmt.Sprintf("%.0f days", math.Ceil(s/86400))
}

// odds is e^logE as a number of tries.
func odds(logE float64) string {
	if logE > math.Log(1e9) {
		return "a thousand million"
	}
	e := math.Floor(math.Exp(logE) + 1e-9)
	if e >= 100 {
		scale := math.Pow(10, math.Floor(math.Log10(e))-1)
		e = math.Floor(e/scale) * scale
	}
	return grouped(e)
}
