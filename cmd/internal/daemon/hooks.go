package daemon

import (
	"bytes"
	"io"
	"net/http"
	"time"
)

const (
	// hookPatience is how long a call waits for a notifier that is not ready to hear:
	// less than Slack waits for an answer. hookRetry is how often it is tried.
	hookPatience = 2 * time.Second
	hookRetry    = 25 * time.Millisecond
)

// hooks hands what comes over HTTP to the notifier that hears it there, by the
// generation in force. One that has just taken another's place may not be ready to hear:
// the call waits for it, so that no click is lost in between.
type hooks struct {
	now func() *generation
	// next answers for paths at which nobody hears.
	next http.Handler
}

// ServeHTTP implements http.Handler. The body is bounded by whoever calls.
func (h hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.now().hooks[r.URL.Path] == nil {
		h.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	for end := time.Now().Add(hookPatience); time.Now().Before(end); {
		hook := h.now().hooks[r.URL.Path]
		if hook == nil {
			break
		}
		try := &unready{ResponseWriter: w}
		r.Body, r.Form, r.PostForm = io.NopCloser(bytes.NewReader(body)), nil, nil
		if hook.ServeHTTP(try, r); !try.is {
			return
		}
		clear(w.Header())
		if !pause(r.Context(), hookRetry) {
			return
		}
	}
	w.Header().Set("Retry-After", "1")
	http.Error(w, "nobody hears here yet; try again in a moment", http.StatusServiceUnavailable)
}

// An unready response is held back when it says 503.
type unready struct {
	http.ResponseWriter

	is bool
}

// WriteHeader implements http.ResponseWriter.
func (u *unready) WriteHeader(code int) {
	if u.is = code == http.StatusServiceUnavailable; !u.is {
		u.ResponseWriter.WriteHeader(code)
	}
}

// Write implements http.ResponseWriter.
func (u *unready) Write(b []byte) (int, error) {
	if u.is {
		return len(b), nil
	}
	return u.ResponseWriter.Write(b)
}
