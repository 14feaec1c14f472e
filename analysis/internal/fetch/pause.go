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

// A Pause keeps questions back while a server wants none: it answered 429 or
// 503 and said until when. The zero value lets everything pass. It is safe for
// concurrent use.
type Pause struct {
	mu    sync.Mutex
	until time.Time
}

// Err is an error while the server wants no questions.
func (p *Pause) Err(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.until) {
		return fmt.Errorf("it wants no questions for another %s", p.until.Sub(now).Round(time.Second))
	}
	return nil
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
		p.until = t
	}
}

func after(header string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.Atoi(header); err == nil && n >= 0 {
		return time.Duration(min(n, int(maxPause/time.Second))) * time.Second, true
	}
	t, err := http.ParseTime(header)
	return t.Sub(now), err == nil
}
