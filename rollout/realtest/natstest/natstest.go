// Package natstest runs nats-server, with JetStream, inside a test. Only tests import it.
package natstest

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belayd/belay/rollout/realtest"
)

// A Server is a nats-server at an address of its own. It keeps that, and its streams,
// when it is stopped and started again.
type Server struct {
	*server.Server
	t       testing.TB
	options server.Options
}

// Serve starts a server, which ends with the test; set changes its options.
func Serve(t testing.TB, set ...func(*server.Options)) *Server {
	t.Helper()
	host, port, err := net.SplitHostPort(realtest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, options: server.Options{Host: host, JetStream: true, StoreDir: t.TempDir(), NoLog: true,
		NoSigs: true}}
	if s.options.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	for _, f := range set {
		f(&s.options)
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts it again.
func (s *Server) Start() {
	s.t.Helper()
	options := s.options // the server's own from now on
	var err error
	if s.Server, err = server.NewServer(&options); err != nil {
		s.t.Fatal(err)
	}
	s.Server.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.t.Fatal("nats-server is not ready after 20 s")
	}
}

// Stop ends it; one that has ended stays so.
func (s *Server) Stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

// Open is a connection of the test's, whose server has these streams. With none it has
// what it had.
func (s *Server) Open(streams ...jetstream.StreamConfig) jetstream.JetStream {
	s.t.Helper()
	return Open(s.t, s.ClientURL(), streams...)
}

// Open is a connection to an address, at which these streams are.
func Open(t testing.TB, url string, streams ...jetstream.StreamConfig) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range streams {
		if _, err := js.CreateOrUpdateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return js
}
