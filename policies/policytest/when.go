package policytest

import (
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/decision"
)

// Instant is a time with its offset.
type Instant time.Time

// UnmarshalText reads RFC 3339.
func (i *Instant) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return errors.New("must be a time with its offset, like 2026-11-24T10:00:00+01:00")
	}
	*i = Instant(t)
	return nil
}

// When is a time in a test: an offset from the start, a step or a question.
type When struct {
	// Step or Gate name the anchor; both are empty for the start.
	Step, Gate string
	Offset     time.Duration
	Text       string
}

var whenText = regexp.MustCompile(`^(.*?)(([+-])([0-9][0-9a-z.]*))?$`)

// UnmarshalText reads "40m", "canary+5m" or "asked:product-owner+1m".
func (w *When) UnmarshalText(b []byte) error {
	w.Text = strings.TrimSpace(string(b))
	if d, err := document.ParseDuration(strings.TrimPrefix(w.Text, "+")); err == nil {
		w.Offset = d
		return nil
	}
	m := whenText.FindStringSubmatch(w.Text)
	if m == nil || m[1] == "" {
		return errors.New("must be a time since the start (40m), a step (canary+5m) or a question (asked:GATE+1m)")
	}
	if m[4] != "" {
		d, err := document.ParseDuration(m[4])
		if err != nil {
			return err
		}
		w.Offset = d
		if m[3] == "-" {
			w.Offset = -d
		}
	}
	if gate, ok := strings.CutPrefix(m[1], "asked:"); ok {
		w.Gate = gate
		return nil
	}
	w.Step = m[1]
	return nil
}

// Probability is a claim about how often an event comes.
type Probability struct {
	Event   decision.Kind
	AtLeast bool
	Share   policies.Fraction
	Text    string
}

var probabilityText = regexp.MustCompile(`^P\(([a-z-]+)\) *(<=|>=) *(\S+)$`)

// UnmarshalText reads "P(rollback) <= 2%".
func (p *Probability) UnmarshalText(b []byte) error {
	m := probabilityText.FindStringSubmatch(string(b))
	if m == nil || !slices.Contains(testEvents(), m[1]) {
		return errors.New("must be like P(rollback) <= 2%, with an event of policy tests")
	}
	p.Event, p.AtLeast, p.Text = decision.Kind(m[1]), m[2] == ">=", string(b)
	return p.Share.UnmarshalText([]byte(m[3]))
}

// testEvents are the events that expectations may name.
func testEvents() []string {
	f, _ := document.FieldNamed(reflect.TypeFor[Expectation](), "event")
	return f.Enum
}

func (Instant) JSONSchema() map[string]any {
	return map[string]any{"type": "string", "format": "date-time", "examples": []string{"2026-11-24T10:00:00+01:00"}}
}

func (When) JSONSchema() map[string]any {
	return map[string]any{"type": "string", "examples": []string{"40m", "canary+5m", "asked:product-owner+1m"}}
}

func (Probability) JSONSchema() map[string]any {
	return document.TextSchema(`^P\([a-z-]+\) *(<=|>=) *\S+%$`, "P(rollback) <= 2%")
}
