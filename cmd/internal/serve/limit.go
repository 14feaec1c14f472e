package serve

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// firstAnswerWithin is how long a connection on which nothing has been answered yet
	// stays new.
	firstAnswerWithin = 5 * time.Second
	// strangerRate is how many requests a second are answered on a connection on which
	// nobody was recognised, strangerBurst how many at once: what probes and scrapes
	// need, and not what asks for the same answer again and again.
	strangerRate, strangerBurst = 1, 4
)

// A claim says how good a connection's reason is to keep its place.
type claim int

// The claims, the weakest first.
const (
	claimIdle    claim = iota // it is not used, and nobody was ever recognised on it
	claimUnknown              // it serves somebody who has not been recognised
	claimKept                 // it is not used, but somebody was recognised on it
	claimNew                  // it has only just come
	claimKnown                // it serves somebody who was recognised
)

// A connLimiter is a listener of so many connections at most. One that comes when
// all places are taken is taken in at once, and another is evicted: where one
// address has more than a quarter of the places, one of its own; then the one with
// the weakest claim; and of those the one that has waited longest. So whoever
// keeps connections open, reads nothing or sends nothing does not shut out a
// person who rolls back, least of all one who comes from another address. It is
// safe for concurrent use.
type connLimiter struct {
	net.Listener

	most int
	// first are the turns of what connections send first, visits those of requests.
	first, visits turns

	mu   sync.Mutex
	open map[*conn]struct{}
	from map[netip.Prefix]int // connections by the address they come from
}

func newConnLimiter(l net.Listener, most int) *connLimiter {
	return &connLimiter{Listener: l, most: most, open: map[*conn]struct{}{}, from: map[netip.Prefix]int{}}
}

// A conn is a connection that has a place.
type conn struct {
	net.Conn

	limiter *connLimiter
	address netip.Prefix
	pace    *rate.Limiter        // of requests while nobody is recognised
	turn    atomic.Pointer[turn] // of what was read last
	read    atomic.Bool          // something was read
	ctx     context.Context      // ends with it
	end     context.CancelFunc
	// recognised is closed when somebody is.
	recognised chan struct{}
	// idle ends it when nobody has used it for idleTimeout. Over HTTP/2 net/http's own
	// timer would keep a connection that is closed in use for as long, with all that
	// belongs to it.
	idle *time.Timer

	// The rest is under the limiter's lock.
	since  time.Time // it came, or has been idle, or in use without a pause
	active int       // requests under way
	served bool      // at least one was answered
	known  bool      // whoever asks was recognised
}

// newConn is a connection of a limiter that has no place yet.
func newConn(nc net.Conn, l *connLimiter) *conn {
	c := &conn{Conn: nc, limiter: l, since: time.Now(), recognised: make(chan struct{})}
	c.pace = rate.NewLimiter(strangerRate, strangerBurst)
	c.ctx, c.end = context.WithCancel(context.Background())
	c.idle = time.AfterFunc(idleTimeout, c.expire)
	return c
}

// Accept implements net.Listener.
func (l *connLimiter) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := newConn(nc, l)
	c.address = addressOf(nc)
	l.mu.Lock()
	var victim *conn
	if len(l.open) >= l.most {
		victim = l.victim(c.since)
	}
	l.open[c] = struct{}{}
	l.from[c.address]++
	l.mu.Unlock()
	if victim != nil {
		victim.evict()
	}
	return c, nil
}

// victim is the connection that makes way; with the lock held.
func (l *connLimiter) victim(now time.Time) *conn {
	var crowd netip.Prefix
	for a, n := range l.from {
		if n > l.from[crowd] {
			crowd = a
		}
	}
	crowded := l.from[crowd] > l.most/4
	var victim *conn
	var weakest claim
	for c := range l.open {
		if crowded && c.address != crowd {
			continue
		}
		of := c.claim(now)
		if victim == nil || of < weakest || of == weakest && c.since.Before(victim.since) {
			victim, weakest = c, of
		}
	}
	return victim
}

// claim is how good its reason is to stay; with the limiter's lock held.
func (c *conn) claim(now time.Time) claim {
	switch {
	case c.active > 0 && c.known:
		return claimKnown
	case !c.served && now.Sub(c.since) < firstAnswerWithin:
		return claimNew
	case c.active > 0:
		return claimUnknown
	case c.known:
		return claimKept
	}
	return claimIdle
}

// evict ends the connection; what its reader has not taken is not kept for it.
func (c *conn) evict() {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close() // it is given up either way
}

// Read implements net.Conn. The first that a stranger sends, a TLS handshake or a
// request, waits for its turn, which lasts until an answer is written or more is
// needed.
func (c *conn) Read(b []byte) (int, error) {
	c.turn.Swap(nil).end() // it was not all
	n, err := c.Conn.Read(b)
	if n > 0 && !c.read.Swap(true) {
		t, gone := c.limiter.first.enter(c.ctx)
		if gone != nil {
			return 0, net.ErrClosed
		}
		c.turn.Store(t)
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	c.turn.Swap(nil).end()
	return c.Conn.Write(b)
}

// expire ends a connection that nobody uses.
func (c *conn) expire() {
	c.limiter.mu.Lock()
	used := c.active > 0
	c.limiter.mu.Unlock()
	if !used {
		_ = c.Close() // whoever has it open learns that by reading
	}
}

// isRecognised reports whether somebody was recognised on it.
func (c *conn) isRecognised() bool {
	select {
	case <-c.recognised:
		return true
	default:
		return false
	}
}

// Close implements net.Conn: the place is free.
func (c *conn) Close() error {
	c.turn.Swap(nil).end()
	c.end()
	l := c.limiter
	l.mu.Lock()
	c.idle.Stop()
	if _, open := l.open[c]; open {
		delete(l.open, c)
		if l.from[c.address]--; l.from[c.address] == 0 {
			delete(l.from, c.address)
		}
	}
	l.mu.Unlock()
	return c.Conn.Close()
}

// addressOf is whom a connection comes from: the address, or of IPv6 the network
// that one host has. A local socket's is the zero value.
func addressOf(c net.Conn) netip.Prefix {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	a, bits := at.Addr().Unmap(), 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero value where a zone forbids it
	return p
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// connContext is an http.Server's ConnContext.
func (l *connLimiter) connContext(ctx context.Context, nc net.Conn) context.Context {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, nc)
}

// tracked keeps account of which connections are used, and lets requests of
// strangers wait for their turn.
func (l *connLimiter) tracked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*conn)
		if ok {
			c.count(1)
			defer c.count(-1)
			v, ok := c.wait(r.Context())
			if !ok {
				panic(http.ErrAbortHandler) // nobody waits for an answer
			}
			defer v.end()
			r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
		}
		next.ServeHTTP(w, r)
	})
}

// count counts a request that begins (1) or ends (-1).
func (c *conn) count(n int) {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if c.active += n; n < 0 {
		c.served = true
	}
	if _, open := c.limiter.open[c]; c.active > 0 {
		c.idle.Stop()
	} else if open {
		c.idle.Reset(idleTimeout)
	}
	if c.served && (c.active == 0 || c.active == 1 && n > 0) {
		c.since = time.Now()
	}
}

// wait waits for a request's turn, which is a visit unless whoever asks was
// recognised before; false when they have gone.
func (c *conn) wait(ctx context.Context) (*visit, bool) {
	if c.isRecognised() {
		return nil, true
	}
	c.turn.Swap(nil).end()
	paced := c.pace.Reserve()
	delay := time.NewTimer(paced.Delay())
	defer delay.Stop()
	select {
	case <-c.recognised:
		return nil, true
	case <-delay.C:
	case <-ctx.Done():
		paced.Cancel()
		return nil, false
	}
	v := &visit{of: &c.limiter.visits}
	return v, v.begin(ctx) == nil
}

// MarkAuthenticated says that whoever sent the request of ctx was recognised: its
// connection keeps its place before those of strangers, and its requests wait for
// none of theirs. It does nothing where the request did not come over a Server.
func MarkAuthenticated(ctx context.Context) {
	EndTurn(ctx)
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return
	}
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if !c.known {
		close(c.recognised)
	}
	c.known = true
}
