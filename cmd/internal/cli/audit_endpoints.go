package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/claim"
	"github.com/belayd/belay/rollout/record"
)

// An endpointAudit is what was found in an endpoint's records.
type endpointAudit struct {
	Endpoint string `json:"endpoint"`
	Entries  int    `json:"entries"`
	// Problem is what is wrong; "": the record is what its entries lead to.
	Problem string `json:"problem,omitempty"`
}

// auditEndpoints folds the entries of every endpoint again: who may move it, who
// waits and which versions rest stands in its state, which no head covers but
// through them.
func (s *storeReader) auditEndpoints(ctx context.Context) ([]endpointAudit, error) {
	const prefix = "endpoint/"
	var out []endpointAudit
	for head, err := range s.store.Heads(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("read endpoints: %w", err)
		}
		router, name, _ := strings.Cut(strings.TrimPrefix(head.Key, prefix), "/")
		ref := rollout.EndpointRef{Router: router, Name: name}
		a := endpointAudit{Endpoint: router + "/" + name}
		var folded claim.Record
		for rec, err := range s.store.History(ctx, head.Key) {
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", head.Key, err)
			}
			a.Entries++
			events, err := endpointEvents(rec.Entry)
			if err != nil {
				a.Problem = fmt.Sprintf("entry %d holds no events", a.Entries)
				break
			}
			for _, ev := range events {
				folded = claim.Admit(folded, ev)
				folded.Endpoint = ref
			}
		}
		stored, err := record.DecodeEndpoint(ref, head)
		if err != nil {
			return nil, err
		}
		if a.Problem == "" && !folded.SameRights(stored) {
			a.Problem = "the stored record (who may move it, who waits, cooldowns, the last split) is not what its " +
				"entries lead to"
		}
		out = append(out, a)
	}
	return out, nil
}

// endpointEvents are those of an entry: a list, or, in entries of earlier versions,
// one.
func endpointEvents(entry []byte) ([]claim.Event, error) {
	var events []claim.Event
	if json.Unmarshal(entry, &events) == nil {
		return events, nil
	}
	var one claim.Event
	err := json.Unmarshal(entry, &one)
	return []claim.Event{one}, err
}
