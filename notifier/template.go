package notifier

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/rollout/approval"
	"github.com/belayd/belay/rollout/view"
)

// maxTemplate bounds a template's source and what it may write, in bytes.
const maxTemplate = 16 << 10

// Templates are the words of a messenger, by the name of the message. A team may
// override them one by one; they are Go text/templates over a Notice. The values
// they see have been cleaned for the messenger before, so no template can let a
// label or a reason through that would act as markup. It is safe for concurrent
// use.
type Templates struct {
	clean    func(string) string
	defaults *template.Template
	words    *template.Template
}

// ParseTemplates parses the defaults, a messenger's own, and the overrides of a
// team. clean is applied to every text of a notice before a template sees it;
// funcs are the messenger's functions besides the common ones:
//
//	{{weights .Rollout.Weights}}   blue 75%, green 25%
//	{{time .At}}                   2026-11-24 12:00 UTC
//	{{until .At .Question.Expires}} 4h0m0s
//	{{count .Question.RequestsPerHour}} 205,000
//	{{upper s}} {{lower s}} {{cut 40 s}} {{join ", " list}} {{or s "-"}}
//
// Every template is tried on sample notices, so that a mistake shows when the
// configuration is read; all mistakes are reported at once. An override under a
// name that has no default is a mistake.
func ParseTemplates(
	defaults, overrides map[string]string, clean func(string) string, funcs template.FuncMap,
) (*Templates, error) {
	t := &Templates{clean: clean}
	var problems []error
	parse := func(texts map[string]string) *template.Template {
		set := template.New("").Option("missingkey=error").Funcs(common()).Funcs(funcs)
		for _, name := range slices.Sorted(maps.Keys(texts)) {
			if len(texts[name]) > maxTemplate {
				problems = append(problems, fmt.Errorf("template %s: want at most %d bytes (got %d)", name, maxTemplate,
					len(texts[name])))
				continue
			}
			if _, ok := defaults[name]; !ok {
				problems = append(problems, fmt.Errorf("template %s: no message has this name; there are %s", name,
					strings.Join(slices.Sorted(maps.Keys(defaults)), ", ")))
				continue
			}
			if _, err := set.New(name).Parse(texts[name]); err != nil {
				problems = append(problems, fmt.Errorf("template %s: %w", name, err))
			}
		}
		return set
	}
	t.defaults = parse(defaults)
	all := maps.Clone(defaults)
	maps.Copy(all, overrides)
	t.words = parse(all)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if t.words.Lookup(name) == nil {
			continue // it is a problem already
		}
		for _, n := range samples() {
			if _, err := t.execute(t.words, name, n); err != nil {
				problems = append(problems, fmt.Errorf("template %s: %w", name, err))
				break
			}
		}
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	return t, nil
}

// Text gives the words of a message. Where a team's template fails on a notice that
// no sample foresaw, the default's words are given: a broken template loses no
// page.
func (t *Templates) Text(name string, n Notice) string {
	text, err := t.execute(t.words, name, n)
	if err != nil {
		text, err = t.execute(t.defaults, name, n)
	}
	if err != nil {
		// Unreachable unless a default fails where every sample passed.
		return t.clean(n.Summary)
	}
	return text
}

func (t *Templates) execute(set *template.Template, name string, n Notice) (string, error) {
	var b bounded
	if err := set.ExecuteTemplate(&b, name, Clean(n, t.clean)); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

// Clean returns a copy of n with f applied to every text in it, keys of maps
// included. Key, Delivery, Ref and ThreadRef are kept as they are.
func Clean(n Notice, f func(string) string) Notice {
	out, _ := reflect.TypeAssert[Notice](cleaned(reflect.ValueOf(n), f))
	out.Key, out.Delivery, out.Ref, out.ThreadRef = n.Key, n.Delivery, n.Ref, n.ThreadRef
	return out
}

func cleaned(v reflect.Value, f func(string) string) reflect.Value {
	if v.Type() == reflect.TypeFor[time.Time]() {
		return v
	}
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() { //nolint:exhaustive // a notice holds no other kinds that hold text
	case reflect.String:
		out.SetString(f(v.String()))
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(cleaned(v.Field(i), f))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(cleaned(v.Elem(), f))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(cleaned(v.Index(i), f))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for k, e := range v.Seq2() {
				out.SetMapIndex(cleaned(k, f), cleaned(e, f))
			}
		}
	default:
		out.Set(v)
	}
	return out
}

// bounded is a builder that refuses to grow beyond maxTemplate.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > 4*maxTemplate {
		return 0, fmt.Errorf("writes more than %d bytes", 4*maxTemplate)
	}
	return b.Builder.Write(p)
}

// common are the functions of every template: they compute texts and nothing else.
func common() template.FuncMap {
	return template.FuncMap{
		"weights": Weights, "count": view.Count,
		"time": func(at time.Time) string {
			if at.IsZero() {
				return "-"
			}
			return at.UTC().Format("2006-01-02 15:04 MST")
		},
		"until": func(from, to time.Time) string { return to.Sub(from).Round(time.Second).String() },
		"upper": strings.ToUpper, "lower": strings.ToLower,
		"cut":  func(n int, s string) string { return Truncate(s, max(n, 1)) },
		"join": func(sep string, list []string) string { return strings.Join(list, sep) },
	}
}

// Weights writes a split: "blue 75%, green 25%".
func Weights(ws map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(ws)) {
		parts = append(parts, fmt.Sprintf("%s %d%%", k, ws[k]))
	}
	return strings.Join(parts, ", ")
}

// samples are the notices that every template is tried on: one with nothing in it
// but what every notice has, and one with everything.
func samples() []Notice {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	bare := Notice{Key: "k", Topic: TopicAsk, Summary: "s", At: at, Question: &Question{
		Gate: "g", Question: view.Question{State: approval.Open, Expires: at}}}
	full := bare
	full.Rollout = Rollout{
		ID: "r", Policy: "p", Owner: "o", Router: "r", Endpoint: "e", Stable: "blue", Candidate: "green", Version: "1",
		Requester:  "q",
		OnBehalfOf: "b", Labels: map[string]string{"l": "v"}, Runbook: "https://r", Phase: "baking", Reason: "r",
		Sentence: "s", Step: "t",
		Weights: map[string]int{"blue": 75, "green": 25}, WaitingFor: "w", ManualRollback: "m", BelayRollback: "b",
		URL: "https://u", Server: "https://s", Started: at,
		Guardrails: []Guardrail{{Candidate: "1", Stable: "1", Interval: "1-2", N: "10",
			Guardrail: view.Guardrail{Name: "g", Verdict: analysis.OutcomePass, Limit: "<= 2", Sentence: "s"}}},
	}
	q := *bare.Question
	q.Users, q.Groups, q.Quorum, q.RequestsPerHour = []string{"u"}, []string{"g"}, 1, 1000
	q.Answers = []ShownVote{{Who: "w", When: at, Approve: true, Reason: "r"}}
	full.Question = &q
	full.Since, full.Acknowledged, full.Rollout.BelayAck = at, &Acknowledgement{Who: "w", When: at, Reason: "r"}, "a"
	return []Notice{bare, full}
}
