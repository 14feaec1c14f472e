package fetch

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// maxPause bounds how long a server can make its askers wait.
const maxPause = 10 * time.Minute

// oneLook is how long the questions of one look may follow each other; looks are
// further apart.
const oneLook = 3 * time.Second

// A Pause keeps questions back while a server wants none: it answered 429 or
// 503 and said until when. But what is watched is not left unwatched for longer
// than two intervals: the second look after such an answer asks again. The zero
// value lets everything pass. It is safe for concurrent use.
type Pause struct {
	mu    sync.Mutex
	until time.Time
	// look is when the look began that was kept back.
	look time.Time
}

// Err is an error while the server wants no questions.
func (p *Pause) Err(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !now.Before(p.until):
		return nil
	case p.look.IsZero():
		p.look = now
	case now.Sub(p.look) > oneLook:
		p.until, p.look = time.Time{}, time.Time{}
		return nil
	}
	return fmt.Errorf("it wants no questions for another %s", p.until.Sub(now).Round(time.Second))
}

// Heed looks at an answer and remembers what it says about when to come back.
func (p *Pause) Heed(resp *http.Response, now time.Time) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return
	}
	d, ok := after(resp.Header.Get("Retry-After"), now)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := now.Add(min(d, maxPause)); t.After(p.until) {
		p.until, p.look = t, time.Time{}
	}
}

func after(header string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.Atoi(header); err == nil && n >= 0 {
		return time.Duration(min(n, int(maxPause/time.Second))) * time.Second, true
	}
	t, err := http.ParseTime(header)
	return t.Sub(now), err == nil
}
