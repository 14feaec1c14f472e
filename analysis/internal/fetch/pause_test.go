package fetch

import (
	"net/http"
	"testing"
	"time"
)

// A server that says when to come back is left alone until then, but never for
// longer than ten minutes; one that says nothing is asked again at once.
func TestPause(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status int
		header string
		want   time.Duration
	}{
		{429, "30", 30 * time.Second},
		{503, "30", 30 * time.Second},
		{500, "30", 0},
		{429, "", 0},
		{429, "soon", 0},
		{429, "-5", 0},
		{429, "999999999999", 10 * time.Minute},
		{429, "86400", 10 * time.Minute},
		{429, "Mon, 23 Nov 2026 10:02:00 GMT", 2 * time.Minute},
		{429, "Mon, 23 Nov 2026 09:00:00 GMT", 0},
	} {
		var p Pause
		p.Heed(&http.Response{StatusCode: c.status, Header: http.Header{"Retry-After": {c.header}}}, now)
		if err := p.Err(now.Add(c.want - time.Second)); c.want > 0 && err == nil {
			t.Errorf("%d, Retry-After %q: got a question after %s, want none before %s", c.status, c.header, c.want-time.Second, c.want)
		}
		if err := p.Err(now.Add(c.want)); err != nil {
			t.Errorf("%d, Retry-After %q: got %v after %s, want a question", c.status, c.header, err, c.want)
		}
	}
}

// While something is watched, the second look after such an answer asks again,
// whatever the server says; the questions of one look are kept back together.
func TestPauseEndsWithTheSecondLook(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	var p Pause
	heed := func() {
		p.Heed(&http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"600"}}}, now)
	}
	heed()
	for range 3 {
		for i := range 3 {
			if err := p.Err(now.Add(10*time.Second + time.Duration(i)*time.Second)); err == nil {
				t.Errorf("the first look after the answer: question %d passes", i)
			}
		}
		now = now.Add(20 * time.Second)
		for i := range 3 {
			if err := p.Err(now); err != nil {
				t.Errorf("the second look after the answer: question %d: got %v, want it to pass", i, err)
			}
		}
		heed()
	}
}
