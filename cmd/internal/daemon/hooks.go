package daemon

import (
	"bytes"
	"io"
	"net/http"
)

// hooks hands what comes over HTTP to the notifier that hears it there, by the set
// in force. One that took another's place may not be heard yet: until it is, the
// other one hears, so that no click is lost in between.
type hooks struct {
	now func() *set
	// next answers for paths at which nobody hears.
	next http.Handler
}

// ServeHTTP implements http.Handler. The body is bounded by whoever calls.
func (h hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := h.now()
	hook, elder := s.hooks[r.URL.Path], s.elders[r.URL.Path]
	switch {
	case hook == nil:
		h.next.ServeHTTP(w, r)
		return
	case elder == nil || elder == hook:
		hook.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	first := &unready{ResponseWriter: w}
	r.Body = io.NopCloser(bytes.NewReader(body))
	hook.ServeHTTP(first, r)
	if first.is {
		clear(w.Header())
		r.Body, r.Form, r.PostForm = io.NopCloser(bytes.NewReader(body)), nil, nil
		elder.ServeHTTP(w, r)
	}
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
