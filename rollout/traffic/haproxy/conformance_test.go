package haproxy_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/haproxy"
	"github.com/belayd/belay/rollout/traffic/traffictest"
)

// A rig stands between a router and HAProxy's socket: it keeps what was asked
// for and makes the faults that a socket can have.
type rig struct {
	p        *proxy
	listener net.Listener
	busy     sync.WaitGroup
	// handling is read-locked by whoever has commands in hand.
	handling sync.RWMutex
	truth    func() traffic.Split

	mu      sync.Mutex
	fault   traffictest.Fault
	sent    []traffic.Split
	pending []string
	filling map[string]int
}

func newRig(t *testing.T, p *proxy, truth func() traffic.Split) *rig {
	t.Helper()
	l, err := net.Listen("unix", p.path("rig.sock"))
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{p: p, listener: l, truth: truth}
	g.busy.Go(g.serve)
	t.Cleanup(func() {
		_ = l.Close()
		g.busy.Wait()
	})
	return g
}

func (g *rig) serve() {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.busy.Go(func() {
			defer func() { _ = conn.Close() }()
			g.handling.RLock()
			defer g.handling.RUnlock()
			g.handle(conn)
		})
	}
}

// handle passes one line of commands, with its payload, on to HAProxy.
func (g *rig) handle(conn net.Conn) {
	in := bufio.NewReader(conn)
	commands, err := in.ReadString('\n')
	for err == nil && strings.Contains(commands, "<<") && !strings.HasSuffix(commands, "\n\n") {
		var line string
		line, err = in.ReadString('\n')
		commands += line
	}
	if err != nil {
		return
	}
	fault := g.take(commands)
	if fault.Arrived != nil {
		fault.Arrived()
	}
	accepted := strings.Repeat("\n", 1+strings.Count(commands, ";"))
	switch fault.Kind {
	case traffictest.FaultLostAnswer:
		_, _ = g.p.try(strings.TrimSuffix(commands, "\n"))
	case traffictest.FaultFailed:
	case traffictest.FaultNever:
		_, _ = io.WriteString(conn, accepted)
	case traffictest.FaultLate:
		g.mu.Lock()
		g.pending = append(g.pending, commands)
		g.mu.Unlock()
		_, _ = io.WriteString(conn, accepted)
	case traffictest.FaultSlow:
		_, _ = in.ReadByte()
	case traffictest.FaultSlowApplied:
		_, _ = g.p.try(strings.TrimSuffix(commands, "\n"))
		_, _ = in.ReadByte()
	case "", traffictest.FaultNone, traffictest.FaultPartly, traffictest.FaultBusy, traffictest.FaultThrottled:
		out, _ := g.p.try(strings.TrimSuffix(commands, "\n"))
		_, _ = io.WriteString(conn, out)
	}
}

// take notes what commands ask for, and takes the fault where they would put a
// split into effect.
func (g *rig) take(commands string) traffictest.Fault {
	g.mu.Lock()
	defer g.mu.Unlock()
	var sent traffic.Split
	switch {
	case strings.HasPrefix(commands, "prepare map"):
		g.filling = make(map[string]int)
		return traffictest.Fault{}
	case strings.HasPrefix(commands, "add map"):
		for line := range strings.Lines(commands) {
			if fields := strings.Fields(line); len(fields) == 2 {
				g.filling[fields[1]]++
			}
		}
		return traffictest.Fault{}
	case strings.HasPrefix(commands, "commit map"):
		sent = traffic.Split{Weights: maps.Clone(g.filling)}
	case strings.HasPrefix(commands, "set server"):
		sent = g.truth()
		for command := range strings.SplitSeq(strings.TrimSpace(commands), ";") {
			var server string
			var weight int
			if _, err := fmt.Sscanf(command, "set server %s weight %d", &server, &weight); err != nil {
				g.p.t.Errorf("command %q: %v", command, err)
			}
			sent.Weights[strings.TrimPrefix(server, "recs/")] = weight
		}
	default:
		return traffictest.Fault{}
	}
	g.sent = append(g.sent, sent)
	fault := g.fault
	g.fault = traffictest.Fault{}
	return fault
}

func (g *rig) world(r traffic.Router, endpoint string, deployments []string) *traffictest.World {
	return &traffictest.World{
		Router: r, Endpoint: endpoint, Deployments: deployments, Truth: g.truth,
		Sent: func() []traffic.Split {
			g.mu.Lock()
			defer g.mu.Unlock()
			return slices.Clone(g.sent)
		},
		Inject: func(f traffictest.Fault) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.fault = f
		},
		Faults: []traffictest.FaultKind{
			traffictest.FaultNone, traffictest.FaultLostAnswer, traffictest.FaultFailed, traffictest.FaultLate,
			traffictest.FaultNever, traffictest.FaultSlow, traffictest.FaultSlowApplied,
		},
		Settle: func() {
			g.handling.Lock()
			defer g.handling.Unlock()
			g.mu.Lock()
			defer g.mu.Unlock()
			for _, commands := range g.pending {
				g.p.tell(strings.TrimSuffix(commands, "\n"))
			}
			g.pending = nil
		},
	}
}

// The weights of a real HAProxy's servers keep the contract of routers.
func TestServersConform(t *testing.T) {
	p := start(t, "", "")
	traffictest.Exercise(t, "haproxy servers", func(t *testing.T) *traffictest.World {
		p.servers(traffic.Split{Weights: map[string]int{"blue": 100}})
		g := newRig(t, p, p.serversTruth)
		r, err := haproxy.New(haproxy.Config{Socket: p.path("rig.sock")})
		if err != nil {
			t.Fatal(err)
		}
		w := g.world(r, "recs", []string{"blue", "green", "red"})
		w.Foreign = p.servers
		return w
	})
}

// A real HAProxy's map of backends keeps it too.
func TestMapConforms(t *testing.T) {
	p := start(t, "", "")
	traffictest.Exercise(t, "haproxy map", func(t *testing.T) *traffictest.World {
		p.mapped(traffic.Split{Weights: map[string]int{"recs-blue": 100}})
		g := newRig(t, p, p.mappedTruth)
		r, err := haproxy.New(haproxy.Config{
			Socket: p.path("rig.sock"), Endpoints: map[string]haproxy.Endpoint{"by-map": {Map: p.path("recs.map")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		w := g.world(r, "by-map", []string{"recs-blue", "recs-green", "recs-red"})
		w.Foreign, w.NoOff = p.mapped, true
		return w
	})
}
