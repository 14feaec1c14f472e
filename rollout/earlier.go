package rollout

import (
	"encoding/json"
	"fmt"

	"github.com/belayd/belay/rollout/mailbox"
	"github.com/belayd/belay/rollout/paging"
	"github.com/belayd/belay/rollout/shift"
)

// StateVersion is the version of State that this code writes. It reads version 2 too,
// which knew no stages of a shift, and version 1, which besides knew pages as a queue of
// messages and no sights.
const StateVersion = 3

// UnmarshalJSON reads a state of this version or of an earlier one.
func (s *State) UnmarshalJSON(b []byte) error {
	type plain State
	if err := json.Unmarshal(b, (*plain)(s)); err != nil {
		return err
	}
	if s.SchemaVersion < 1 || s.SchemaVersion > 2 {
		return nil
	}
	var was struct {
		stateV1
		stateV2
	}
	if err := json.Unmarshal(b, &was); err != nil {
		return fmt.Errorf("decode state of version %d: %w", s.SchemaVersion, err)
	}
	if s.SchemaVersion == 1 {
		was.stateV1.upgrade(s)
	}
	was.stateV2.upgrade(s)
	s.SchemaVersion = StateVersion
	return nil
}

// A stateV2 is what versions 1 and 2 wrote of a shift.
type stateV2 struct {
	Shift *struct {
		Sent     bool `json:"sent"`
		Withheld bool `json:"withheld"`
		Stopping bool `json:"stopping"`
	} `json:"shift"`
}

// upgrade makes a stage of what were flags.
func (was stateV2) upgrade(s *State) {
	if s.Shift == nil || was.Shift == nil {
		return
	}
	s.Shift.Stage = shift.Writing
	if was.Shift.Sent {
		s.Shift.Stage = shift.Settling
	}
	switch {
	case was.Shift.Withheld:
		s.Shift.Stage = shift.Withheld
	case was.Shift.Stopping && was.Shift.Sent:
		s.Shift.Stage = shift.Stopping
	case was.Shift.Stopping:
		s.Shift.Stage = shift.Recalled
	}
}

// A stateV1 is what version 1 wrote of pages.
type stateV1 struct {
	Page *struct {
		Told     []string `json:"told"`
		Notifier string   `json:"notifier"`
		Taken    []string `json:"taken"`
	} `json:"page"`
	PagedTo      string                   `json:"pagedTo"`
	PageFailures []paging.FailingNotifier `json:"pageFailures"`
}

// upgrade makes the state one of the present version: whoever showed the page, or was
// to be told of its end, may show it and is told how things are.
func (was stateV1) upgrade(s *State) {
	s.Paging.DeliveredTo = was.PagedTo
	if was.Page != nil {
		for _, g := range was.Page.Told {
			s.Breached = append(s.Breached, paging.PagedBreach{Guardrail: g, Reason: s.Page.Reason, Sentence: s.Page.Summary})
		}
		for _, to := range was.Page.Taken {
			s.Paging.Of(to).Shows = paging.Unknown
		}
		if to := was.Page.Notifier; to != "" {
			s.Paging.Of(to).Shows = paging.Unknown
			s.Paging.Calls, s.Paging.DeliveredTo = to, to
		}
	}
	kept := s.Messages[:0]
	for _, e := range s.Messages {
		if e.Kind != mailbox.Kind(EffectPage) { // pages waited among the messages
			kept = append(kept, e)
		} else if e.Notice != nil && e.Notice.Resolve && len(e.Notifiers) == 1 {
			s.Paging.Of(e.Notifiers[0]).Shows = paging.Unknown
		}
	}
	s.Messages = kept
	for _, f := range was.PageFailures {
		s.Paging.Of(f.Notifier).Failure = &f
	}
}
