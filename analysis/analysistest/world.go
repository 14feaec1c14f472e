package analysistest

import (
	"slices"
	"sync"
	"time"
)

// Bounds are the bucket bounds of the world's latency histogram, in seconds.
// They lie on the grid of every native histogram with a schema of 0 or more.
var Bounds = [...]float64{0.125, 0.25, 0.5, 1}

// Latencies are the latencies that happen in the world, in seconds: one in each
// bucket, the last above all bounds.
var Latencies = [...]float64{0.1, 0.2, 0.4, 0.8, 1.5}

// Counts are what happened: to one instance since it began, or in an interval.
type Counts struct {
	// OK and Bad are the requests by outcome.
	OK, Bad float64
	// Slow are the requests by latency, as in Latencies; together they are all.
	Slow [len(Latencies)]float64
	// Plays, Sum and SumSq are a business figure's; the sum may fall.
	Plays, Sum, SumSq float64
}

// Total is the number of requests.
func (c Counts) Total() float64 { return c.OK + c.Bad }

// Add returns the sum.
func (c Counts) Add(d Counts) Counts {
	c.OK += d.OK
	c.Bad += d.Bad
	for i := range c.Slow {
		c.Slow[i] += d.Slow[i]
	}
	c.Plays += d.Plays
	c.Sum += d.Sum
	c.SumSq += d.SumSq
	return c
}

// An Event is what one instance did within one step of the world.
type Event struct {
	Endpoint, Deployment, Instance string
	At                             time.Time
	Counts                         Counts
}

// A Sample is what a scrape of one instance saw.
type Sample struct {
	Endpoint, Deployment, Instance string
	At                             time.Time
	// Counts are the instance's since it began. A Total that is NaN or infinite is
	// the world's fault: see Poison.
	Counts Counts
}

type instance struct {
	endpoint, deployment, name string
	counts                     Counts
	// idle: it has begun and not served yet.
	idle bool
}

// A World is a few endpoints with two deployments of two instances each, that
// serve traffic whenever Step is called. It knows what truly happened. It is
// safe for concurrent use.
type World struct {
	// Start is the instant at which the world began.
	Start time.Time

	mu        sync.Mutex
	instances []*instance
	events    []Event
	samples   []Sample
	poison    map[string]float64
	silent    map[string]bool
	rand      uint64
}

// Endpoints are the endpoints of every world.
var Endpoints = []string{"recs", "fraud"}

// Stable and Candidate are the deployments of every endpoint.
const (
	Stable    = "blue"
	Candidate = "green"
)

// NewWorld returns a world in which nothing has happened yet, sampled once.
func NewWorld() *World {
	w := &World{Start: time.Now().UTC(), poison: map[string]float64{}, silent: map[string]bool{}, rand: 42}
	for _, e := range Endpoints {
		for _, d := range []string{Stable, Candidate} {
			for _, n := range []string{"0", "1"} {
				w.Add(e, d, d+"-"+n)
			}
		}
	}
	w.sample()
	return w
}

// Add starts an instance. It serves from the step after the next on: the scrape
// of the next one sees it idle.
func (w *World) Add(endpoint, deployment, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instances = append(w.instances, &instance{endpoint: endpoint, deployment: deployment, name: name,
		idle: len(w.samples) > 0})
}

// Remove ends an instance right after its last sample.
func (w *World) Remove(endpoint, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instances = slices.DeleteFunc(w.instances, func(i *instance) bool {
		return i.endpoint == endpoint &&
			i.name == name
	})
}

// Restart makes an instance's counters begin anew right after its last sample.
func (w *World) Restart(endpoint, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.instances {
		if i.endpoint == endpoint && i.name == name {
			i.counts = Counts{}
		}
	}
}

// Poison makes the totals of a deployment read as this number; 0 ends it.
func (w *World) Poison(deployment string, v float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.poison[deployment] = v
}

// Silence makes a deployment give no series at all, or give them again.
func (w *World) Silence(deployment string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent[deployment] = on
}

// Step lets d pass: everybody serves in the middle of it and is sampled at its
// end.
func (w *World) Step(d time.Duration) { w.step(d, true, true) }

// Gap lets d pass like Step, but the end is not sampled.
func (w *World) Gap(d time.Duration) { w.step(d, true, false) }

// Rest lets d pass without traffic, sampled at its end.
func (w *World) Rest(d time.Duration) { w.step(d, false, true) }

func (w *World) step(d time.Duration, serve, sample bool) {
	time.Sleep(d / 2)
	if serve {
		w.serve()
	}
	time.Sleep(d - d/2)
	if sample {
		w.sample()
	}
}

func (w *World) serve() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now().UTC()
	for _, i := range w.instances {
		if i.idle {
			continue
		}
		var c Counts
		for j := range c.Slow {
			c.Slow[j] = w.draw(20)
			c.OK += c.Slow[j]
		}
		c.Bad = min(w.draw(3), c.OK)
		c.OK -= c.Bad
		c.Plays = w.draw(9)
		for range int(c.Plays) {
			x := w.draw(8) - 3
			c.Sum += x
			c.SumSq += x * x
		}
		i.counts = i.counts.Add(c)
		w.events = append(w.events, Event{i.endpoint, i.deployment, i.name, now, c})
	}
}

// draw is a number in [0, n), the same in every run.
func (w *World) draw(n uint64) float64 {
	w.rand = w.rand*6364136223846793005 + 1442695040888963407
	return float64((w.rand >> 33) % n)
}

func (w *World) sample() {
	w.samples = append(w.samples, w.Now()...)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.instances {
		i.idle = false
	}
}

// Now is what a scrape of every instance would see at this instant.
func (w *World) Now() []Sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Sample
	for _, i := range w.instances {
		if w.silent[i.deployment] {
			continue
		}
		s := Sample{i.endpoint, i.deployment, i.name, time.Now().UTC(), i.counts}
		if v := w.poison[i.deployment]; v != 0 {
			s.Counts.OK = v
			s.Counts.Plays = v
			s.Counts.Slow[0] = v
		}
		out = append(out, s)
	}
	return out
}

// Samples are the samples so far, in order of time.
func (w *World) Samples() []Sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.samples)
}

// Events are the events so far, in order of time, of the deployments that are not
// silent; a poisoned deployment's are poisoned.
func (w *World) Events() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Event
	for _, e := range w.events {
		if w.silent[e.Deployment] {
			continue
		}
		if v := w.poison[e.Deployment]; v != 0 {
			e.Counts.OK, e.Counts.Bad = v, 0
		}
		out = append(out, e)
	}
	return out
}

// Silent says whether the deployment gives no series.
func (w *World) Silent(deployment string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.silent[deployment]
}

// Truth is what really happened to the deployment in (from, to].
func (w *World) Truth(endpoint, deployment string, from, to time.Time) Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	var c Counts
	for _, e := range w.events {
		if e.Endpoint == endpoint && e.Deployment == deployment && e.At.After(from) && !e.At.After(to) {
			c = c.Add(e.Counts)
		}
	}
	return c
}
