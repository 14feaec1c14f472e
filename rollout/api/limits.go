package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/belayd/belay/rollout/turn"
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

// The requests that have slots: a policy that is checked, and what is read as a
// whole, take memory for as long as whoever asks needs to send or take it.
const (
	checksMax, checksEach = 32, 1
	bulksMax, bulksEach   = 32, 8
)

// bulky are the operations whose answers may be large.
var bulky = map[string]bool{"listRollouts": true, "getHistory": true, "getPlan": true, "listPolicies": true,
	"listEndpoints": true, "listRefused": true}

// slotsOf are those that an operation needs; nil: none.
func (s *Server) slotsOf(operation string) *slots {
	switch {
	case operation == "checkPolicy":
		return s.checks
	case bulky[operation]:
		return s.bulks
	}
	return nil
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
		p := problem(http.StatusTooManyRequests, TypeTooMany, "Too many requests",
			fmt.Sprintf("at most %g a second", float64(l.rate)))
		p.retryAfter = time.Duration(float64(time.Second) / float64(l.rate))
		return p
	}
	return nil
}

// slotWait is how long a request waits for a slot.
const slotWait = 10 * time.Second

// slots bound the requests of a kind that are under way, in all and of one actor:
// what each of them may hold in memory is bounded, and so is the sum. It is safe
// for concurrent use.
type slots struct {
	all  chan struct{} // an element for each that is under way
	each int

	mu sync.Mutex
	of map[string]*actorSlots
}

// actorSlots are those of one actor.
type actorSlots struct {
	taken chan struct{}
	users int // requests that have one or wait for one
}

func newSlots(all, each int) *slots {
	return &slots{all: make(chan struct{}, all), each: each, of: map[string]*actorSlots{}}
}

// enter waits for a slot; leave gives it back. It is an error when there is none
// within slotWait.
func (s *slots) enter(ctx context.Context, actor string) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, slotWait)
	defer cancel()
	s.mu.Lock()
	own := s.of[actor]
	if own == nil {
		own = &actorSlots{taken: make(chan struct{}, s.each)}
		s.of[actor] = own
	}
	own.users++
	s.mu.Unlock()
	gone := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(s.of, actor)
		}
	}
	select {
	case own.taken <- struct{}{}:
	case <-ctx.Done():
		gone()
		return nil, crowded()
	}
	select {
	case s.all <- struct{}{}:
	case <-ctx.Done():
		<-own.taken
		gone()
		return nil, crowded()
	}
	return func() {
		<-s.all
		<-own.taken
		gone()
	}, nil
}

// crowded is the answer to whoever has waited for slotWait.
func crowded() error {
	p := problem(http.StatusTooManyRequests, TypeTooMany, "Too many requests",
		"others of the kind are still under way; ask again later")
	p.retryAfter = time.Second
	return p
}

// addressOf is where a request comes from; the zero value for a local socket.
func addressOf(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// places bounds the streams that are open, and those of one actor.
type places struct {
	most int

	mu  sync.Mutex
	all int
	of  map[string]int
}

// enter takes a place, or says that there is none.
func (p *places) enter(actor string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch each := max(p.most/4, 1); {
	case p.all >= p.most:
		return unavailable(fmt.Sprintf("there are %d streams already", p.most), 10*time.Second)
	case p.of[actor] >= each:
		return unavailable(fmt.Sprintf("%s has %d streams already", actor, each), 10*time.Second)
	}
	p.all++
	p.of[actor]++
	return nil
}

// leave gives the place back.
func (p *places) leave(actor string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.of[actor]--; p.of[actor] == 0 {
		delete(p.of, actor)
	}
}

// inTurn does what an actor has asked for in their turn, which is over when it
// returns. It is an error when that does not come within slotWait.
func (s *Server) inTurn(ctx context.Context, a Actor, do func(*turn.Turn) error) error {
	waits, cancel := context.WithTimeout(ctx, slotWait)
	defer cancel()
	t, err := s.turns.Enter(waits, a.Person.ID)
	if err != nil {
		return crowded()
	}
	defer t.End()
	return do(t)
}
