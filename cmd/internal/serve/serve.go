// Package serve is how requests reach belayd: listeners, connections and the time
// that each may take.
//
// The rules of the package:
//   - A new connection always gets a place: where there is none, the one with the
//     weakest claim makes way. See connLimiter.
//   - What is done for those whom nobody has recognised is done one at a time. See
//     turns.
//   - Nobody holds a place by being slow: headers, bodies and answers have
//     deadlines, over HTTP/1 and HTTP/2.
//   - It knows no route and no role. Whoever authenticates says so by
//     MarkAuthenticated.
//
// It does not answer requests: see rollout/api.
package serve

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// headerTimeout bounds a TLS handshake and the reading of a request's headers.
	headerTimeout = 5 * time.Second
	// bodyTimeout bounds the reading of a request's body.
	bodyTimeout = 20 * time.Second
	// writeTimeout bounds the writing of writeChunk bytes of an answer.
	writeTimeout = 10 * time.Second
	writeChunk   = 64 << 10
	// answerTimeout bounds the time from a request's headers to the beginning of its
	// answer; a stream that writes has its own deadlines.
	answerTimeout = time.Minute
	// idleTimeout ends connections that nobody uses.
	idleTimeout = 2 * time.Minute
	// stopTimeout bounds the end of requests under way.
	stopTimeout = 4 * time.Second
	// headersMax bounds the headers of a request, in bytes; streamsMax the requests
	// of one HTTP/2 connection at a time.
	headersMax = 32 << 10
	streamsMax = 100
)

// A Server answers HTTP on one listener. Handler and Log are required.
type Server struct {
	Handler http.Handler
	Log     *slog.Logger
	// TLS is set where the server speaks TLS.
	TLS *tls.Config
	// ConnectionsMax bounds the connections that are open at a time; 0 is 1024.
	ConnectionsMax int
}

// Run serves until ctx ends, and then ends the requests under way. It closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	limited := newConnLimiter(l, cmp.Or(s.ConnectionsMax, 1024))
	hs := &http.Server{
		Handler:     limited.tracked(deadlines{body: bodyTimeout, write: writeTimeout}.handler(s.Handler)),
		ConnContext: limited.connContext,

		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      answerTimeout,
		MaxHeaderBytes:    headersMax,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: streamsMax,
			WriteByteTimeout:     writeTimeout,
			SendPingTimeout:      idleTimeout / 4,
			PingTimeout:          writeTimeout,
		},
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if hs.Shutdown(shutdown) != nil {
			_ = hs.Close()
		}
	})
	serve := hs.Serve
	if s.TLS != nil {
		hs.TLSConfig = s.TLS.Clone()
		serve = func(l net.Listener) error { return hs.ServeTLS(l, "", "") }
	}
	err := serve(limited)
	if stop() { // it ended by itself
		return errors.Join(err, hs.Close())
	}
	<-ended
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
