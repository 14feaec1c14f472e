package daemon

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// A crowd watches the connections of a server that takes so many at most. When few
// places are left, those that nobody uses make way, the one that has been idle for
// longest first: whoever keeps connections open does not shut out a person who
// rolls back. It is safe for concurrent use.
type crowd struct {
	most int

	mu   sync.Mutex
	open map[net.Conn]time.Time // since when it is idle; zero while it is used
}

func newCrowd(most int) *crowd { return &crowd{most: most, open: map[net.Conn]time.Time{}} }

// state is an http.Server's ConnState.
func (c *crowd) state(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case http.StateNew, http.StateActive:
		c.open[conn] = time.Time{}
	case http.StateIdle:
		c.open[conn] = time.Now()
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	}
	// One place in thirty-two is kept free, at least one.
	for len(c.open) > c.most-max(c.most/32, 1) {
		if !c.dismiss() {
			return
		}
	}
}

// dismiss closes the connection that has been idle for longest; it reports false
// when all are in use.
func (c *crowd) dismiss() bool {
	var oldest net.Conn
	for conn, since := range c.open {
		if !since.IsZero() && (oldest == nil || since.Before(c.open[oldest])) {
			oldest = conn
		}
	}
	if oldest == nil {
		return false
	}
	delete(c.open, oldest)
	if t, ok := oldest.(*tls.Conn); ok {
		oldest = t.NetConn() // without a farewell, which could block
	}
	_ = oldest.Close() // it is given up either way
	return true
}
