package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A lane is what a request counts as. Each has a rate of its own, so that reading
// much does not keep anybody from rolling back.
type lane int

const (
	// laneOrdinary is everything else: an actor's requests, from wherever.
	laneOrdinary lane = iota
	// laneStatus is looking at one rollout. What an actor's programs ask elsewhere
	// does not count.
	laneStatus
	// laneUrgent is what stops a rollout. It waits for its turn and is never refused.
	laneUrgent
)

// lanes are those of operations that are not ordinary, by their names.
var lanes = map[string]lane{
	"getRollout": laneStatus, "streamRollout": laneStatus,
	"rollbackRollout": laneUrgent, "pauseRollout": laneUrgent, "rejectRollout": laneUrgent,
}

// counted is what has a rate.
type counted struct {
	actor   string
	lane    lane
	address netip.Addr // not of the ordinary lane
}

// limits keeps the rates. It is safe for concurrent use.
type limits struct {
	rate  rate.Limit
	burst int

	mu  sync.Mutex
	all map[counted]*rate.Limiter
}

// countedMax bounds the rates that are remembered; beyond it all start afresh.
const countedMax = 4096

func newLimits(perSecond float64, burst int) *limits {
	return &limits{rate: rate.Limit(perSecond), burst: burst, all: map[counted]*rate.Limiter{}}
}

// of is the rate that a request counts against.
func (l *limits) of(c counted) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.all[c]
	if one == nil {
		if len(l.all) >= countedMax {
			clear(l.all)
		}
		one = rate.NewLimiter(l.rate, l.burst)
		l.all[c] = one
	}
	return one
}

// admit counts a request: it refuses it when it came too soon, or, of the urgent
// lane, waits until it is its turn.
func (l *limits) admit(r *http.Request, a Actor, in lane) error {
	c := counted{actor: a.Person.ID, lane: in}
	if in != laneOrdinary {
		c.address = addressOf(r)
	}
	one := l.of(c)
	switch {
	case in == laneUrgent:
		return one.Wait(r.Context())
	case !one.Allow():
		p := problem(http.StatusTooManyRequests, TypeTooMany, "Too many requests", fmt.Sprintf("at most %g a second", float64(l.rate)))
		p.retryAfter = time.Duration(float64(time.Second) / float64(l.rate))
		return p
	}
	return nil
}

// addressOf is where a request comes from; the zero value for a local socket.
func addressOf(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}
