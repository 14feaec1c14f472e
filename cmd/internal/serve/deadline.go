package serve

import (
	"net/http"
	"time"
)

// deadlines are the time by which the body of a request must have come, and by
// which each piece of an answer must be taken, so that neither slow senders nor
// those who do not read hold a connection. Over HTTP/2 they are the stream's,
// whatever window the client leaves.
type deadlines struct{ body, write time.Duration }

// handler wraps a handler.
func (d deadlines) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		if r.ContentLength != 0 {
			// A connection without deadlines has other bounds.
			_ = c.SetReadDeadline(time.Now().Add(d.body))
		}
		next.ServeHTTP(&deadlineWriter{ResponseWriter: w, c: c, within: d.write, of: r}, r)
	})
}

// A deadlineWriter sets a deadline for each piece that it writes. A stranger
// who does not take it has no turn for long.
type deadlineWriter struct {
	http.ResponseWriter

	c      *http.ResponseController
	within time.Duration
	of     *http.Request
}

// Unwrap lets an http.ResponseController reach the connection.
func (d *deadlineWriter) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// Write implements http.ResponseWriter.
func (d *deadlineWriter) Write(b []byte) (n int, err error) {
	visitOf(d.of.Context()).write(d.of)
	for first := true; err == nil && (first || n < len(b)); first = false {
		_ = d.c.SetWriteDeadline(time.Now().Add(d.within)) // a test's recorder has none
		var took int
		took, err = d.ResponseWriter.Write(b[n:min(n+writeChunk, len(b))])
		n += took
	}
	return n, err
}
