package record

import (
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/store"
)

// FuzzHead: whatever a store holds, reading it ends in a state or in an error.
func FuzzHead(f *testing.F) {
	f.Add([]byte(`{"seq":1,"prev":"","epoch":1,"owner":"one","events":[{"kind":"started"}],"state":"x"}`),
		[]byte(`{"schemaVersion":1,"id":"r1","phase":"baking","outbox":[{"id":"r1/1/1","kind":"wake"}]}`))
	f.Add([]byte(`{}`), []byte(`{"schemaVersion":99}`))
	f.Add([]byte(`[]`), []byte(`null`))
	f.Fuzz(func(t *testing.T, entry, state []byte) {
		s, h, err := DecodeHead(store.Record{Key: "rollout/r1", Revision: 1, Entry: entry, State: state})
		if err == nil && (s.SchemaVersion != rollout.StateVersion || h.Hash == "") {
			t.Errorf("got state %+v, head %+v without an error", s, h)
		}
	})
}
