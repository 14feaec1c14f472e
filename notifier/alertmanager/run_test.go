package alertmanager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/alertmanager"
	"github.com/belayd/belay/notifier/notifiertest"
)

// A memory is an Alertmanager without a socket, for time in a bubble.
type memory struct {
	mu    sync.Mutex
	posts [][]posted
	fail  error
}

func (m *memory) RoundTrip(req *http.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var as []posted
	if err := json.NewDecoder(req.Body).Decode(&as); err != nil {
		return nil, err
	}
	m.posts = append(m.posts, as)
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
}

// change sets what another goroutine reads under the same lock.
func (m *memory) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memory) take() [][]posted {
	m.mu.Lock()
	defer m.mu.Unlock()
	posts := m.posts
	m.posts = nil
	return posts
}

// TestRun tells of five minutes with an open page: it is posted every minute, an
// outage of Alertmanager is made good by the next minute, and what was resolved is
// not opened again by a list that is a moment older.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		am := &memory{}
		var log bytes.Buffer
		c, err := alertmanager.New(alertmanager.Config{
			URL: "http://am.example/prefix/", Client: &http.Client{Transport: am}, Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatalf("New: got %v, want no error", err)
		}
		page := notifiertest.Notice(notifier.TopicPage)
		page.At = time.Now()
		thread, done := notifiertest.Notice(notifier.TopicThread), notifiertest.Notice(notifier.TopicStatus)
		done.Rollout.Phase = "promoted"
		list, listErr := []notifier.Notice{page, thread, done}, error(nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- c.Run(ctx, func(context.Context) (now []notifier.Notice, err error) {
				am.change(func() { now, err = list, listErr })
				return now, err
			})
		}()
		minute := func() [][]posted {
			time.Sleep(time.Minute)
			synctest.Wait()
			return am.take()
		}
		synctest.Wait()
		if got := am.take(); len(got) != 1 || len(got[0]) != 1 || got[0][0].Labels["belay_key"] != page.Key {
			t.Fatalf("posts at the start: got %v, want the page alone", got)
		}
		if got := minute(); len(got) != 1 || !got[0][0].EndsAt.Equal(time.Now().Add(alertmanager.DefaultLasts)) {
			t.Errorf("posts after a minute: got %v, want the page until %s", got, time.Now().Add(alertmanager.DefaultLasts))
		}
		am.change(func() { am.fail = errors.New("connection refused") })
		if got := minute(); len(got) != 0 || !strings.Contains(log.String(), "connection refused") {
			t.Errorf("posts in an outage: got %v and log %q, want none and the cause", got, log.String())
		}
		am.change(func() { am.fail, listErr = nil, errors.New("store: closed") })
		if got := minute(); len(got) != 0 || !strings.Contains(log.String(), "store: closed") {
			t.Errorf("posts without a list: got %v and log %q, want none and the cause", got, log.String())
		}
		am.change(func() { listErr = nil })
		if got := minute(); len(got) != 1 {
			t.Errorf("posts after the outage: got %d, want 1", len(got))
		}
		resolve := page
		resolve.Resolve, resolve.At = true, time.Now()
		if _, err := c.Notify(t.Context(), resolve); err != nil {
			t.Fatalf("Notify(resolve): got %v, want no error", err)
		}
		am.take()
		if got := minute(); len(got) != 0 {
			t.Errorf("posts from a list older than the resolve: got %v, want none", got)
		}
		again := page
		again.At = time.Now()
		am.change(func() { list = []notifier.Notice{again} })
		if got := minute(); len(got) != 1 {
			t.Errorf("posts of a page that was opened again: got %d, want 1", len(got))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v, want nil when the context ended", err)
		}
	})
}

// TestRunBatches: many open pages are posted in calls of bounded size.
func TestRunBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		am := &memory{}
		c, err := alertmanager.New(alertmanager.Config{URL: "http://am.example", Client: &http.Client{Transport: am}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("New: got %v, want no error", err)
		}
		var list []notifier.Notice
		for i := range 250 {
			n := notifiertest.Notice(notifier.TopicPage)
			n.Key = fmt.Sprintf("page/%d", i)
			list = append(list, n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- c.Run(ctx, func(context.Context) ([]notifier.Notice, error) { return list, nil })
		}()
		synctest.Wait()
		var sizes []int
		for _, p := range am.take() {
			sizes = append(sizes, len(p))
		}
		if diff := cmp.Diff([]int{100, 100, 50}, sizes); diff != "" {
			t.Errorf("sizes of the calls (-want +got):\n%s", diff)
		}
		cancel()
		<-ended
	})
}
