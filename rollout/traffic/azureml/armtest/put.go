package armtest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Fault handles a PUT in the Server's place. accept takes the write as the
// Server would, with this outcome, and answers on w.
type Fault func(w http.ResponseWriter, r *http.Request, accept func(w http.ResponseWriter, o Outcome))

// An Outcome is what becomes of a write that is accepted. The zero value is the
// usual one.
type Outcome struct {
	// Delay replaces the Server's where it is not 0; Settled waits for Settle.
	Delay time.Duration
	// Instead is put into effect in place of the traffic that was asked for.
	Instead map[string]int
	// Ignored: nothing comes of it.
	Ignored bool
	// State is the one in which it ends; Succeeded when empty. In any other the old
	// traffic stays in effect.
	State string
}

// Next queues faults: each of the coming PUTs takes one, in order.
func (s *Server) Next(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Ends accepts the write with an outcome.
func Ends(o Outcome) Fault {
	return func(w http.ResponseWriter, _ *http.Request, accept func(http.ResponseWriter, Outcome)) { accept(w, o) }
}

// LoseAnswer accepts the write and breaks the connection.
func LoseAnswer(_ http.ResponseWriter, _ *http.Request, accept func(http.ResponseWriter, Outcome)) {
	accept(discard{}, Outcome{})
	panic(http.ErrAbortHandler)
}

// Fail answers 500 and does nothing.
func Fail(w http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter, Outcome)) {
	refuse(w, http.StatusInternalServerError, "InternalServerError", "An internal error occurred.")
}

// Slow does nothing and waits until the client has gone.
func Slow(_ http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter, Outcome)) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// SlowButApplied accepts the write and waits until the client has gone.
func SlowButApplied(_ http.ResponseWriter, r *http.Request, accept func(http.ResponseWriter, Outcome)) {
	accept(discard{}, Outcome{})
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Conflict answers 409, and asks to wait where after is not 0.
func Conflict(after time.Duration) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter, Outcome)) { conflict(w, after) }
}

// Throttle answers 429 and asks to wait.
func Throttle(after time.Duration) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter, Outcome)) {
		w.Header().Set("Retry-After", strconv.Itoa(int(after/time.Second)))
		refuse(w, http.StatusTooManyRequests, "TooManyRequests", "The request is being throttled.")
	}
}

// Answer answers with a status and an ARM error, and does nothing.
func Answer(status int, code, message string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter, Outcome)) {
		refuse(w, status, code, message)
	}
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, name string) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return
	}
	s.mu.Lock()
	e := s.endpoints[strings.ToLower(name)]
	if e == nil {
		s.mu.Unlock()
		refuse(w, http.StatusNotFound, "ResourceNotFound", "The emulator creates no endpoints.")
		return
	}
	e.settle(time.Now())
	var fault Fault
	if len(s.faults) > 0 {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	// The resource can be encoded: it was decoded from JSON.
	before, _ := json.Marshal(s.show(e, base(r)))
	n := len(s.puts)
	s.puts = append(s.puts, Put{At: time.Now(), Endpoint: e.name, Before: before, Body: raw})
	s.mu.Unlock()

	noted := &noting{ResponseWriter: w, note: func(status int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.puts[n].Status = status
	}}
	accept := func(w http.ResponseWriter, o Outcome) { s.accept(w, base(r), e, raw, o) }
	if fault != nil {
		fault(noted, r, accept)
		return
	}
	accept(noted, Outcome{})
}

// accept checks a write and takes it.
func (s *Server) accept(w http.ResponseWriter, base string, e *endpoint, raw []byte, o Outcome) {
	s.mu.Lock()
	e.settle(time.Now())
	if e.pending != nil {
		s.mu.Unlock()
		conflict(w, 0)
		return
	}
	var body map[string]any
	if err := decode(raw, &body); err != nil {
		s.mu.Unlock()
		refuse(w, http.StatusBadRequest, "InvalidRequestContent", "The body is not JSON.")
		return
	}
	p, code, why := e.check(body)
	if code != "" {
		s.mu.Unlock()
		refuse(w, http.StatusBadRequest, code, why)
		return
	}
	if o.Instead != nil {
		p.live = positive(o.Instead)
		member(p.resource, "properties")["traffic"] = anyMap(o.Instead)
	}
	if o.State != "" {
		p.state = o.State
	}
	s.operation++
	if !o.Ignored {
		delay := s.Delay
		if o.Delay > 0 {
			delay = o.Delay
		}
		p.at = time.Now().Add(delay)
		e.pending, e.changed = p, time.Now()
	}
	shown := s.show(e, base)
	operation := s.operationURL(base)
	s.mu.Unlock()
	if s.EchoesSucceeded {
		member(shown, "properties")["provisioningState"] = "Succeeded"
	}
	w.Header().Set("Azure-AsyncOperation", operation)
	answer(w, http.StatusOK, shown)
}

// check reports why a resource is refused, or returns what it puts into effect.
// What the service alone writes is taken from the resource as it is.
func (e *endpoint) check(body map[string]any) (p *pending, code, why string) {
	props := member(body, "properties")
	for _, name := range []string{"location", "properties"} {
		if body[name] == nil {
			return nil, "MissingRequiredProperty", name + " is required."
		}
	}
	if props["authMode"] == nil {
		return nil, "MissingRequiredProperty", "properties.authMode is required."
	}
	p = &pending{resource: body, live: shares(props["traffic"]), mirror: shares(props["mirrorTraffic"]),
		state: "Succeeded"}
	if p.live == nil || p.mirror == nil {
		return nil, "InvalidTraffic", "Traffic values are whole numbers."
	}
	sum := 0
	for name, share := range p.live {
		if e.deployments[name] == nil {
			return nil, "DeploymentNotFound", "Traffic names the deployment " + name + ", which does not exist."
		}
		if share < 0 {
			return nil, "InvalidTraffic", "Traffic values are not negative."
		}
		sum += share
	}
	if sum != 0 && sum != 100 {
		return nil, "InvalidTraffic", "Traffic values sum to 0 or 100."
	}
	for name, share := range p.mirror {
		switch {
		case e.deployments[name] == nil:
			return nil, "DeploymentNotFound", "Mirror traffic names the deployment " + name + ", which does not exist."
		case share < 0 || share > 50 || len(p.mirror) > 1:
			return nil, "InvalidMirrorTraffic", "At most 50 percent are mirrored, to one deployment."
		case p.live[name] > 0:
			return nil, "InvalidMirrorTraffic", "The deployment " + name + " has live traffic."
		case props["compute"] != nil:
			return nil, "InvalidMirrorTraffic", "Kubernetes endpoints do not mirror."
		}
	}
	was := member(e.resource, "properties")
	for _, name := range []string{"scoringUri", "swaggerUri"} {
		if was[name] != nil {
			props[name] = was[name]
		}
	}
	for _, name := range []string{"provisioningState", "keys"} {
		delete(props, name)
	}
	for _, name := range []string{"id", "name", "type", "systemData"} {
		delete(body, name)
	}
	return p, "", ""
}

// noting remembers the status of an answer.
type noting struct {
	http.ResponseWriter
	note func(status int)
}

// WriteHeader implements http.ResponseWriter.
func (n *noting) WriteHeader(status int) {
	n.note(status)
	n.ResponseWriter.WriteHeader(status)
}

// discard is an answer that nobody gets.
type discard struct{}

// Header implements http.ResponseWriter.
func (discard) Header() http.Header { return http.Header{} }

// Write implements http.ResponseWriter.
func (discard) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements http.ResponseWriter.
func (discard) WriteHeader(int) {}
