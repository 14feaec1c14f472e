package view

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/rollout"
)

// A Filter chooses rollouts; empty fields choose all.
type Filter struct {
	ID       string // what the id begins with
	Endpoint string // a name, or router/name
	Phases   []string
	Owners   []string
	Version  string
	// Labels are the policy's labels that a rollout must have, all of them.
	Labels map[string]string
	// Since and Until are when it was made: at or after the one, before the other.
	Since, Until time.Time
	// After is the Cursor of the rollout after which a list begins; Limit ends it after so
	// many: 0 is all.
	After string
	Limit int
}

// PhaseOpen chooses all phases that are not terminal.
const PhaseOpen = "open"

// Card is of a rollout what lists are sorted and chosen by.
type Card struct {
	ID             string
	Endpoint       rollout.EndpointRef
	Owner, Version string
	Labels         map[string]string
	Phase          rollout.Phase
	CreatedAt      time.Time
}

// Card is the rollout's.
func (r *Rollout) Card() Card {
	return Card{ID: r.ID, Endpoint: r.Endpoint, Owner: r.Owner, Version: r.Version, Labels: r.Labels, Phase: r.Phase,
		CreatedAt: r.CreatedAt}
}

// Before orders cards: the newest first, then by id.
func (c *Card) Before(d *Card) int {
	return cmp.Or(d.CreatedAt.Compare(c.CreatedAt), cmp.Compare(c.ID, d.ID))
}

// Cursor names a card's place in a list.
func (c *Card) Cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(c.CreatedAt.UTC().Format(time.RFC3339Nano) + " " + c.ID))
}

// ParseCursor finds a place in a list again, also when the rollout is gone; nil is its
// beginning.
func ParseCursor(s string) (*Card, error) {
	if s == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	at, id, ok := strings.Cut(string(b), " ")
	created, timeErr := time.Parse(time.RFC3339Nano, at)
	if err != nil || !ok || timeErr != nil {
		return nil, errors.New("want the `next` of a page before")
	}
	return &Card{ID: id, CreatedAt: created}, nil
}

// Chooses reports whether the filter lets a rollout through.
func (f *Filter) Chooses(c *Card) bool {
	router, name, both := strings.Cut(f.Endpoint, "/")
	if !both {
		router, name = "", f.Endpoint
	}
	switch {
	case !strings.HasPrefix(c.ID, f.ID),
		name != "" && name != c.Endpoint.Name,
		router != "" && router != c.Endpoint.Router,
		f.Version != "" && f.Version != c.Version,
		len(f.Owners) > 0 && !slices.Contains(f.Owners, c.Owner),
		!f.Since.IsZero() && c.CreatedAt.Before(f.Since),
		!f.Until.IsZero() && !c.CreatedAt.Before(f.Until):
		return false
	}
	for k, v := range f.Labels {
		if has, ok := c.Labels[k]; !ok || has != v {
			return false
		}
	}
	return f.ChoosesPhase(c.Phase)
}

// ChoosesPhase reports whether the filter lets a phase through.
func (f *Filter) ChoosesPhase(p rollout.Phase) bool {
	return len(f.Phases) == 0 || slices.Contains(f.Phases, string(p)) ||
		slices.Contains(f.Phases, PhaseOpen) && !p.Terminal()
}

// Check says what is wrong with a filter, naming the parameter.
func (f *Filter) Check() error {
	for _, p := range f.Phases {
		if p != PhaseOpen && !slices.Contains(rollout.Phases, rollout.Phase(p)) {
			return fmt.Errorf("phase: there is no phase %.40q; there are open, %s", p, phaseNames())
		}
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return fmt.Errorf("until: want a time after since, %s", f.Since.Format(time.RFC3339))
	}
	return nil
}

// phaseNames lists the phases.
func phaseNames() string {
	names := make([]string, len(rollout.Phases))
	for i, p := range rollout.Phases {
		names[i] = string(p)
	}
	return strings.Join(names, ", ")
}

// ParseLabels reads labels written as key=value,key=value.
func ParseLabels(s string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	out := map[string]string{}
	for pair := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if _, twice := out[k]; !ok || k == "" || twice {
			return nil, fmt.Errorf("label: want key=value, with commas, each key once (got %.80q)", pair)
		}
		out[k] = v
	}
	return out, nil
}
