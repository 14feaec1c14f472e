package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/person"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/view"
)

// follow collects what a client sees of a rollout until the stream ends.
func follow(ctx context.Context, c *Client, id string) (revisions []uint64, last view.Rollout, err error) {
	for ev, err := range c.Follow(ctx, id) {
		switch {
		case err != nil:
			return revisions, last, err
		case ev.Entry != nil:
			revisions = append(revisions, ev.Entry.Revision)
		case ev.Rollout != nil:
			last = *ev.Rollout
		}
	}
	return revisions, last, nil
}

// A reader sees the present state, then every entry once, and the end; the entries
// of other rollouts are not its business.
func TestStreamOne(t *testing.T) {
	r := serve(t, Config{})
	id, other := r.started(t, "k1", "recs", "7"), r.started(t, "k2", "ads", "7")
	schema := schemas(t)
	go func() {
		for i := range 5 {
			r.engine.set(other, func(*rollout.State) {})
			r.engine.set(id, func(s *rollout.State) { s.Sentence = strconv.Itoa(i) })
		}
		r.engine.set(id, func(s *rollout.State) { s.Phase, s.Outbox = rollout.PhasePromoted, nil })
	}()
	resp, err := http.Get(r.url + "/v1/rollouts/" + id + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type: got %q", got)
	}
	var kinds []string
	var phase rollout.Phase
	for m, err := range messages(resp.Body) {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, m.kind)
		switch m.kind {
		case "rollout":
			fits(t, schema("Rollout"), []byte(m.data))
			var ro view.Rollout
			if err := json.Unmarshal([]byte(m.data), &ro); err != nil {
				t.Fatal(err)
			}
			phase = ro.Phase
		case "entry":
			fits(t, schema("StreamEntry"), []byte(m.data))
			if !strings.Contains(m.data, id) || m.id == "" {
				t.Errorf("entry: got id %q and %s", m.id, m.data)
			}
		}
	}
	if kinds[0] != "rollout" || kinds[len(kinds)-1] != "end" || phase != rollout.PhasePromoted {
		t.Errorf("events: got %v ending at %s, want rollout … end at promoted", kinds, phase)
	}
}

// With Last-Event-ID the entries after it come, none twice and none left out, also
// when the rollout has ended meanwhile.
func TestStreamResumes(t *testing.T) {
	r := serve(t, Config{})
	id := r.started(t, "k1", "recs", "7")
	for range 4 {
		r.engine.set(id, func(*rollout.State) {})
	}
	r.engine.set(id, func(s *rollout.State) { s.Phase, s.Outbox = rollout.PhaseStopped, nil })
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.url+"/v1/rollouts/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "3")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var ids []string
	for m, err := range messages(resp.Body) {
		if err != nil {
			t.Fatal(err)
		}
		if m.kind == "entry" {
			ids = append(ids, m.id)
		}
	}
	if want := []string{"4", "5", "6"}; !slices.Equal(ids, want) {
		t.Errorf("entries after 3: got %v, want %v", ids, want)
	}
	if resp, b := r.ask(t, "GET", "/v1/rollouts/"+id+"/events", "", "", "Last-Event-ID", "x"); resp.StatusCode != 400 {
		t.Errorf("Last-Event-ID x: got %d %s", resp.StatusCode, b)
	}
}

// A client whose connection breaks again and again still sees every entry once.
func TestFollowSurvivesBrokenConnections(t *testing.T) {
	r := serve(t, Config{})
	id := r.started(t, "k1", "recs", "7")
	var connections atomic.Int32
	flaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if n := connections.Add(1); n < 4 {
			ctx, cancel := context.WithTimeout(req.Context(), 150*time.Millisecond)
			defer cancel()
			req = req.WithContext(ctx) // the server ends the stream; the client must come back
		}
		r.ServeHTTP(w, req)
	}))
	defer flaky.Close()
	c, err := NewClient(flaky.URL, http.DefaultClient, "")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range 30 {
			r.engine.set(id, func(*rollout.State) {})
			time.Sleep(10 * time.Millisecond)
		}
		for connections.Load() < 4 {
			time.Sleep(10 * time.Millisecond)
		}
		r.engine.set(id, func(s *rollout.State) { s.Phase, s.Outbox = rollout.PhaseRolledBack, nil })
	}()
	got, last, err := follow(t.Context(), c, id)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 || last.Phase != rollout.PhaseRolledBack {
		t.Fatalf("followed %d entries to phase %s, want some to rolled-back", len(got), last.Phase)
	}
	for i := 1; i < len(got); i++ {
		if got[i] != got[i-1]+1 {
			t.Fatalf("revisions: got %v, want each once", got)
		}
	}
	if n := connections.Load(); n < 4 {
		t.Errorf("connections: got %d, want at least 4", n)
	}
}

// All rollouts in one stream, from now on; limited to what the actor may view.
func TestStreamAll(t *testing.T) {
	r := serve(t, Config{Auth: actors()})
	recs, ads := r.started(t, "k1", "recs", "7"), r.started(t, "k2", "ads", "7")
	realtest.Eventually(t, "the index to know both", func() bool { return r.index.last() >= 2 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", r.url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer token-of-team-a-77aa")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != ":\n" {
		t.Fatalf("first line: got %q %v, want a comment", line, err)
	}
	r.engine.set(ads, func(*rollout.State) {})
	r.engine.set(recs, func(*rollout.State) {})
	for m, err := range messages(resp.Body) {
		if err != nil {
			t.Fatal(err)
		}
		if m.kind != "entry" || !strings.Contains(m.data, recs) || m.id != "4" {
			t.Errorf("first event: got %+v, want the entry of %s", m, recs)
		}
		break
	}
	for _, token := range []string{"", "wrong"} {
		if resp, _ := r.ask(t, "GET", "/v1/events", token, ""); resp.StatusCode != 401 {
			t.Errorf("token %q: got %d, want 401", token, resp.StatusCode)
		}
	}
}

// No more streams than the daemon can bear.
func TestStreamsAreBounded(t *testing.T) {
	r := serve(t, Config{Streams: 1})
	id := r.started(t, "k1", "recs", "7")
	resp, err := http.Get(r.url + "/v1/rollouts/" + id + "/events")
	if err != nil {
		t.Fatal(err)
	}
	if again, b := r.ask(t, "GET", "/v1/events", "", ""); again.StatusCode != 503 || again.Header.Get("Retry-After") == "" {
		t.Errorf("a second stream: got %d %s, want 503", again.StatusCode, b)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	realtest.Eventually(t, "the place to be free again", func() bool {
		r.streams.mu.Lock()
		defer r.streams.mu.Unlock()
		return r.streams.all == 0
	})
}

// The list is that of the engine: the newest first, filtered, in pages that stay
// together while new rollouts come.
func TestListPages(t *testing.T) {
	r := serve(t, Config{})
	var want []string
	for i := range 25 {
		policy := []string{"recs", "ads"}[i%2]
		want = append(want, r.started(t, "k"+strconv.Itoa(i), policy, strconv.Itoa(i)))
	}
	slices.Reverse(want)
	realtest.Eventually(t, "the index to know all", func() bool { return r.index.last() >= 25 })
	var got []string
	path := "/v1/rollouts?limit=7"
	for path != "" {
		var page List
		_, b := r.ask(t, "GET", path, "", "")
		if err := json.Unmarshal(b, &page); err != nil {
			t.Fatal(err)
		}
		for _, x := range page.Rollouts {
			got = append(got, x.ID)
		}
		if path = ""; page.Next != "" {
			path = "/v1/rollouts?limit=7&cursor=" + page.Next
			r.started(t, fmt.Sprintf("new%d", len(got)), "recs", "x")
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages: got %v, want %v", got, want)
	}
	r.engine.set(want[0], func(s *rollout.State) { s.Phase = rollout.PhasePromoted })
	count := func(f view.Filter) int {
		n := 0
		for _, err := range r.client(t, "").Rollouts(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	realtest.Eventually(t, "the promoted one", func() bool { return count(view.Filter{Phases: []string{"promoted"}}) == 1 })
	for _, c := range []struct {
		f    view.Filter
		want int
	}{
		{view.Filter{Limit: 3}, 3}, {view.Filter{Endpoint: "ads"}, 12}, {view.Filter{Endpoint: "edge/ads"}, 12}, {view.Filter{Endpoint: "other/ads"}, 0},
		{view.Filter{Owners: []string{"team-b"}}, 12}, {view.Filter{Phases: []string{"open"}}, 27}, {view.Filter{Phases: []string{"open", "promoted"}}, 28},
		{view.Filter{ID: want[1]}, 1}, {view.Filter{ID: "none-has-this"}, 0}, {view.Filter{Version: "no such"}, 0},
		{view.Filter{Labels: map[string]string{"team": "b"}}, 12}, {view.Filter{Labels: map[string]string{"team": "b", "tier": "1"}}, 0},
		{view.Filter{Since: begun.Add(-time.Hour)}, 28}, {view.Filter{Until: begun.Add(-time.Hour)}, 0},
	} {
		if got := count(c.f); got != c.want {
			t.Errorf("%+v: got %d rollouts, want %d", c.f, got, c.want)
		}
	}
	for _, q := range []string{"phase=done", "limit=0", "limit=1001", "cursor=%21", "endpiont=x", "limit=1&limit=2", "phase=%zz", "phase=open;owner=x", "%zz",
		"label=team", "label=a=1,a=2", "since=yesterday", "since=2026-11-30T00:00:00Z&until=2026-11-29T00:00:00Z"} {
		if resp, b := r.ask(t, "GET", "/v1/rollouts?"+q, "", ""); resp.StatusCode != 400 {
			t.Errorf("?%s: got %d %s, want 400", q, resp.StatusCode, b)
		}
	}
}

// The journal in pages, through the client.
func TestHistoryPages(t *testing.T) {
	r := serve(t, Config{})
	id := r.started(t, "k", "recs", "7")
	for range 450 {
		r.engine.set(id, func(*rollout.State) {})
	}
	seq := 0
	for e, err := range r.client(t, "").Journal(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if seq++; e.Seq != seq {
			t.Fatalf("entry %d: got seq %d", seq, e.Seq)
		}
	}
	if seq != 451 {
		t.Errorf("entries: got %d, want 451", seq)
	}
}

// A stream ends when whoever reads it would not be let in any more, and only then:
// the token was taken away, or its role, or the label that it is limited to.
func TestStreamsEndWithTheRight(t *testing.T) {
	for _, path := range []string{"/v1/events", "/v1/rollouts/{id}/events"} {
		var now atomic.Pointer[Actor]
		var gone atomic.Bool
		auth := authenticatorFunc(func(*http.Request) (Actor, error) {
			if gone.Load() {
				return Actor{}, fmt.Errorf("%w: the token is not known", ErrCredentials)
			}
			return *now.Load(), nil
		})
		reader := func(roles ...Role) *Actor {
			return &Actor{Person: person.Person{ID: "ann"}, Grants: []Grant{{Roles: roles, Labels: map[string]string{"team": "a"}}}}
		}
		for name, take := range map[string]func(){
			"the token is gone":       func() { gone.Store(true) },
			"the role is gone":        func() { now.Store(reader()) },
			"nothing has changed yet": func() {},
		} {
			t.Run(path+" "+name, func(t *testing.T) {
				gone.Store(false)
				now.Store(reader(RoleView, RoleStart))
				r := serve(t, Config{Auth: auth})
				r.readmitEvery = 10 * time.Millisecond
				id := r.started(t, "k1", "recs", "7")
				resp, err := http.Get(r.url + strings.Replace(path, "{id}", id, 1))
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("got %v, %v", resp, err)
				}
				defer resp.Body.Close()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for _, err := range messages(resp.Body) {
						if err != nil {
							return
						}
					}
				}()
				take()
				if name == "nothing has changed yet" {
					select {
					case <-ended:
						t.Error("the stream ended")
					case <-time.After(3 * time.Second):
					}
					return
				}
				select {
				case <-ended:
				case <-time.After(20 * time.Second):
					t.Error("after 20 s the stream goes on")
				}
			})
		}
	}
}

// Several streams read history at once, and one at a time: they get all of it, and
// one whose reader does not read takes nobody's turn.
func TestStreamsShareTheReadingOfHistory(t *testing.T) {
	r := serve(t, Config{})
	id := r.started(t, "k1", "recs", "7")
	const entries = 500
	for range entries - 1 {
		r.engine.set(id, func(*rollout.State) {})
	}
	realtest.Eventually(t, "the index to know them", func() bool { return r.index.last() >= entries })
	open := func() *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), "GET", r.url+"/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Last-Event-ID", "0")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	open() // nobody reads it
	var reading sync.WaitGroup
	for range 8 {
		resp := open()
		reading.Go(func() {
			want := 1
			for m, err := range messages(resp.Body) {
				if err != nil || m.id != strconv.Itoa(want) {
					t.Errorf("entry %d: got id %s, %v", want, m.id, err)
					return
				}
				if want++; want > entries {
					return
				}
			}
		})
	}
	reading.Wait()
}

// One actor cannot take all the places for streams.
func TestStreamsOfOneActor(t *testing.T) {
	p := places{most: 8, of: map[string]int{}}
	for i := range 2 {
		if err := p.enter("mallory"); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
	if p.enter("mallory") == nil {
		t.Error("a third of eight: got a place, want none")
	}
	if err := p.enter("ann"); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	p.leave("mallory")
	if err := p.enter("mallory"); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

// authenticatorFunc is a function as an Authenticator.
type authenticatorFunc func(*http.Request) (Actor, error)

func (f authenticatorFunc) Authenticate(r *http.Request) (Actor, error) { return f(r) }
