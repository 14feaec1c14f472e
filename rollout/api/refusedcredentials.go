package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// strangersWindow is for how long refusals of one address are counted together.
	strangersWindow = 5 * time.Minute
	// strangersLogged is how many of them are worth a line in the log.
	strangersLogged = 20
	// strangersMax bounds the addresses that are counted; beyond it none is added
	// until the window is over.
	strangersMax = 1024
)

// refusedCredentials counts the requests that were refused because nobody knows who sends
// them, and by address those with credentials that are wrong: somebody guesses, or
// a token was taken away and is used on. It is safe for concurrent use.
type refusedCredentials struct {
	log     *slog.Logger
	refused *prometheus.CounterVec

	mu    sync.Mutex
	since time.Time
	from  map[netip.Prefix]int
}

func newRefusedCredentials(log *slog.Logger) *refusedCredentials {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "belay", Name: "api_unauthorized_total",
		Help: "Requests refused because nobody knows who sent them: without credentials (none) or with some that are not " +
			"valid (wrong).",
	}, []string{"credentials"})
	return &refusedCredentials{log: log, from: map[netip.Prefix]int{}, refused: refused}
}

// register shows the counts.
func (s *refusedCredentials) register(reg prometheus.Registerer) error {
	s.refused.WithLabelValues("none")
	s.refused.WithLabelValues("wrong")
	most := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "belay", Name: "api_unauthorized_address_max",
		Help: "The most requests with credentials that are not valid that one address has sent within five minutes."}, s.most)
	if err := errors.Join(reg.Register(s.refused), reg.Register(most)); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// count counts a refusal; wrong: there were credentials.
func (s *refusedCredentials) count(r *http.Request, wrong bool) {
	if !wrong {
		s.refused.WithLabelValues("none").Inc()
		return
	}
	s.refused.WithLabelValues("wrong").Inc()
	a := networkOf(addressOf(r))
	s.mu.Lock()
	s.turn(time.Now())
	if _, known := s.from[a]; known || len(s.from) < strangersMax {
		s.from[a]++
	}
	n := s.from[a]
	s.mu.Unlock()
	if n == strangersLogged {
		s.log.Warn("credentials refused again and again", "address", a.Addr().String(), "requests", n,
			"outcome", "401; more from this address is counted and not logged for now")
	}
}

// most is the largest count of one address.
func (s *refusedCredentials) most() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(time.Now())
	most := 0
	for _, n := range s.from {
		most = max(most, n)
	}
	return float64(most)
}

// turn begins another window when one is over; with the lock held.
func (s *refusedCredentials) turn(now time.Time) {
	if now.Sub(s.since) >= strangersWindow {
		s.since = now
		clear(s.from)
	}
}

// networkOf is the address, or of IPv6 the network that one host has; the zero
// value of no address.
func networkOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
