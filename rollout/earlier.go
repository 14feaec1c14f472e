package rollout

import (
	"encoding/json"
	"fmt"
)

// StateVersion is the version of State that this code writes. It reads version 1
// too, which knew pages as a queue of messages and did not know sights.
const StateVersion = 2

// UnmarshalJSON reads a state of this version or of an earlier one.
func (s *State) UnmarshalJSON(b []byte) error {
	type plain State
	if err := json.Unmarshal(b, (*plain)(s)); err != nil {
		return err
	}
	if s.SchemaVersion != 1 {
		return nil
	}
	var was stateV1
	if err := json.Unmarshal(b, &was); err != nil {
		return fmt.Errorf("decode state of version 1: %w", err)
	}
	was.upgrade(s)
	return nil
}

// A stateV1 is what version 1 wrote of pages.
type stateV1 struct {
	Page *struct {
		Told     []string `json:"told"`
		Notifier string   `json:"notifier"`
		Taken    []string `json:"taken"`
	} `json:"page"`
	PagedTo      string        `json:"pagedTo"`
	PageFailures []PageFailure `json:"pageFailures"`
}

// upgrade makes the state one of the present version: whoever showed the page, or was
// to be told of its end, may show it and is told how things are.
func (was stateV1) upgrade(s *State) {
	s.SchemaVersion = StateVersion
	s.Paging.TakenBy = was.PagedTo
	if was.Page != nil {
		for _, g := range was.Page.Told {
			s.Breached = append(s.Breached, PagedBreach{Guardrail: g, Reason: s.Page.Reason, Sentence: s.Page.Summary})
		}
		for _, to := range was.Page.Taken {
			s.Paging.view(to).Shows = pageUnknown
		}
		if to := was.Page.Notifier; to != "" {
			s.Paging.view(to).Shows = pageUnknown
			s.Paging.Calls, s.Paging.TakenBy = to, to
		}
	}
	kept := s.Messages[:0]
	for _, e := range s.Messages {
		if e.Kind != EffectPage {
			kept = append(kept, e)
		} else if e.Notice != nil && e.Notice.Resolve && len(e.Notifiers) == 1 {
			s.Paging.view(e.Notifiers[0]).Shows = pageUnknown
		}
	}
	s.Messages = kept
	for _, f := range was.PageFailures {
		s.Paging.view(f.Notifier).Failure = &f
	}
}
