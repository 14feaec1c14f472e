package haproxy_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/haproxy"
)

// If the test binary is called socat it stands in for socat: it copies its input
// to a unix socket and the answer to its output, so that the commands for a
// rollback by hand run where there is no socat.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "socat" {
		if err := socat(strings.TrimPrefix(os.Args[len(os.Args)-1], "UNIX-CONNECT:")); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func socat(path string) error {
	conn, err := net.Dial("unix", path) //nolint:gosec // The test's own HAProxy.
	if err != nil {
		return err
	}
	if _, err := io.Copy(conn, os.Stdin); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, conn)
	return err
}

func weights(kv ...any) traffic.Split {
	s := traffic.Split{Weights: map[string]int{}}
	for pair := range slices.Chunk(kv, 2) {
		s.Weights[pair[0].(string)] = pair[1].(int)
	}
	return s
}

// A kind is one of the two kinds of endpoints.
type kind struct {
	name, endpoint, frontend string
	blue, green              string
	config                   func(p *proxy) haproxy.Config
}

var kinds = []kind{
	{"servers", "recs", "servers", "blue", "green", func(p *proxy) haproxy.Config {
		return haproxy.Config{Socket: p.path("admin.sock")}
	}},
	{"map", "by-map", "mapped", "recs-blue", "recs-green", func(p *proxy) haproxy.Config {
		return haproxy.Config{Socket: p.path("admin.sock"), Endpoints: map[string]haproxy.Endpoint{"by-map": {Map: p.path("recs.map")}}}
	}},
}

func (k kind) split(green int) traffic.Split {
	s := weights(k.blue, 100-green, k.green, green)
	s.Weights = traffic.Positive(s.Weights)
	return s
}

func (k kind) router(t *testing.T, p *proxy) *haproxy.Router {
	t.Helper()
	r, err := haproxy.New(k.config(p))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is asked for is what clients see, counted over real requests.
func TestObservedSplit(t *testing.T) {
	const requests = 10000
	p := start(t, "", "")
	var table strings.Builder
	_, _ = fmt.Fprintf(&table, "%-8s %6s %9s %9s %9s\n", "endpoint", "asked", "requests", "observed", "green")
	for _, k := range kinds {
		r, c := k.router(t, p), p.client(k.frontend)
		from := k.split(0)
		for _, green := range []int{5, 25, 60, 100} {
			to := k.split(green)
			if err := r.Shift(t.Context(), k.endpoint, from, to); err != nil {
				t.Fatalf("%s: Shift to %s: %v", k.name, to, err)
			}
			if got, err := r.Split(t.Context(), k.endpoint); err != nil || !got.Equal(to) {
				t.Fatalf("%s: Split: got %s, %v, want %s", k.name, got, err, to)
			}
			from = to
			counts := observe(t, c, requests)
			n := counts["blue"] + counts["green"]
			share := float64(counts["green"]) / float64(n)
			_, _ = fmt.Fprintf(&table, "%-8s %5d%% %9d %8.2f%% %9d\n", k.name, green, n, 100*share, counts["green"])
			p := float64(green) / 100
			// Five standard deviations of a fair draw; at 100% none may stray.
			if off := math.Abs(share - p); n != requests || off > 5*math.Sqrt(p*(1-p)/requests)+1e-9 {
				t.Errorf("%s at %d%%: got %v of %d requests, want %d%%", k.name, green, counts, n, green)
			}
		}
	}
	t.Logf("asked and observed:\n%s", &table)
}

// While the split moves up and down under load no request fails, and the
// candidate answers nothing before its first step and after the rollback.
func TestShiftUnderLoad(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			p := start(t, "", "")
			r, c := k.router(t, p), p.client(k.frontend)
			var stop atomic.Bool
			var served [2]atomic.Int64
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for !stop.Load() {
						who, err := ask(c, "")
						if err != nil {
							t.Errorf("request: %v", err)
							return
						}
						if who == "green" {
							served[1].Add(1)
						} else {
							served[0].Add(1)
						}
					}
				})
			}
			from := k.split(0)
			for _, green := range []int{5, 25, 60, 100, 0, 100, 0} {
				if err := r.Shift(t.Context(), k.endpoint, from, k.split(green)); err != nil {
					t.Fatalf("Shift: %v", err)
				}
				from = k.split(green)
				for before := served[0].Load() + served[1].Load(); served[0].Load()+served[1].Load() < before+200 && !t.Failed(); {
					if _, err := r.Split(t.Context(), k.endpoint); err != nil {
						t.Fatalf("Split: %v", err)
					}
				}
			}
			stop.Store(true)
			wg.Wait()
			if counts := observe(t, c, 400); counts["green"] != 0 {
				t.Errorf("after the rollback: got %v, want no answer of green", counts)
			}
			t.Logf("%s: %d requests by blue, %d by green, none failed", k.name, served[0].Load(), served[1].Load())
		})
	}
}

// A reload forgets what was set at run time: it shows as someone else's change,
// the error says what happened, and the split can be asserted again from what is
// read.
func TestReloadIsAssertedAgain(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			p := start(t, "", "")
			r, c := k.router(t, p), p.client(k.frontend)
			if err := r.Shift(t.Context(), k.endpoint, k.split(0), k.split(25)); err != nil {
				t.Fatal(err)
			}
			p.reload()
			got, err := r.Split(t.Context(), k.endpoint)
			if err != nil || !got.Equal(k.split(0)) {
				t.Fatalf("Split after a reload: got %s, %v, want %s", got, err, k.split(0))
			}
			err = r.Shift(t.Context(), k.endpoint, k.split(25), k.split(60))
			if !errors.Is(err, traffic.ErrForeignChange) || !strings.Contains(err.Error(), "was it reloaded?") {
				t.Errorf("Shift after a reload: got %v, want ErrForeignChange that names the reload", err)
			}
			if err := r.Shift(t.Context(), k.endpoint, got, k.split(25)); err != nil {
				t.Errorf("Shift from what is read: %v", err)
			}
			counts := observe(t, c, 2000)
			if share := float64(counts["green"]) / 2000; math.Abs(share-0.25) > 0.05 {
				t.Errorf("asserted again: got %v, want 25%% of green", counts)
			}
		})
	}
}

// Where HAProxy finds the split on disk, a reload changes nothing: no read
// before, during or after it shows anything else.
func TestReloadKeepsTheSplit(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			p := start(t, "server-state-file DIR/state", "load-server-state-from-file global")
			p.write("state", "1\n")
			config := k.config(p)
			config.StateFile = p.path("state")
			if e, ok := config.Endpoints["by-map"]; ok {
				e.KeepMap = true
				config.Endpoints["by-map"] = e
			}
			r, err := haproxy.New(config)
			if err != nil {
				t.Fatal(err)
			}
			from := k.split(0)
			for _, green := range []int{25, 60} {
				if err := r.Shift(t.Context(), k.endpoint, from, k.split(green)); err != nil {
					t.Fatal(err)
				}
				from = k.split(green)
				p.reload()
				if got, err := r.Split(t.Context(), k.endpoint); err != nil || !got.Equal(from) {
					t.Errorf("Split after a reload: got %s, %v, want %s", got, err, from)
				}
			}
			if left, _ := os.ReadDir(p.dir); slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".belay-") }) {
				t.Errorf("files: got %v, want no temporary file left", left)
			}
			if err := os.Remove(p.path("state")); err != nil {
				t.Fatal(err)
			}
			config.StateFile = p.path("gone/state")
			if k.name == "map" {
				return
			}
			r, err = haproxy.New(config)
			if err != nil {
				t.Fatal(err)
			}
			err = r.Shift(t.Context(), k.endpoint, from, k.split(0))
			if got := p.serversTruth(); err == nil || !got.Equal(k.split(0)) {
				t.Errorf("Shift that cannot be kept: got %v and %s, want an error and %s", err, got, k.split(0))
			}
		})
	}
}

// When HAProxy takes only some of the commands the truth is neither; it is told
// as it is.
func TestPartlyApplied(t *testing.T) {
	p := start(t, "", "")
	k := kinds[0]
	r := k.router(t, p)
	p.servers(k.split(25))
	p.tell("set server recs/green weight 60") // 75 + 60: what a line of commands cut in two leaves
	got, err := r.Split(t.Context(), "recs")
	if err != nil || !got.Equal(k.split(44)) {
		t.Fatalf("Split: got %s, %v, want %s", got, err, k.split(44))
	}
	if err := r.Shift(t.Context(), "recs", k.split(25), k.split(60)); !errors.Is(err, traffic.ErrForeignChange) {
		t.Errorf("Shift: got %v, want ErrForeignChange", err)
	}
	if err := r.Shift(t.Context(), "recs", got, k.split(60)); err != nil {
		t.Errorf("Shift from what is read: %v", err)
	}
	if got := p.serversTruth(); !got.Equal(k.split(60)) {
		t.Errorf("in the end: got %s, want %s", got, k.split(60))
	}
}

// A person who takes a server out of service changes the traffic, and that is
// noticed; a server that failed its check is told as not ready.
func TestOutOfService(t *testing.T) {
	p := start(t, "", "")
	k := kinds[0]
	r := k.router(t, p)
	p.servers(k.split(25))
	for _, state := range []string{"maint", "drain"} {
		p.tell("set server recs/blue state " + state)
		if got, err := r.Split(t.Context(), "recs"); err != nil || !got.Equal(k.split(100)) {
			t.Errorf("Split with blue in %s: got %s, %v, want %s", state, got, err, k.split(100))
		}
		d, err := r.Describe(t.Context(), "recs")
		if err != nil || d.Deployments["blue"].Ready || d.Deployments["blue"].Reason == "" {
			t.Errorf("Describe with blue in %s: got %+v, %v, want it not ready, with a reason", state, d.Deployments["blue"], err)
		}
		p.tell("set server recs/blue state ready")
	}
	if got, err := r.Split(t.Context(), "recs"); err != nil || !got.Equal(k.split(25)) {
		t.Errorf("Split with blue back: got %s, %v, want %s", got, err, k.split(25))
	}
}

// Weights that do not sum to 100 are told in percent.
func TestAnyWeights(t *testing.T) {
	p := start(t, "", "")
	r := kinds[0].router(t, p)
	tests := []struct{ raw, want traffic.Split }{
		{weights("blue", 1, "green", 1), weights("blue", 50, "green", 50)},
		{weights("blue", 1, "green", 2), weights("blue", 33, "green", 67)},
		{weights("blue", 1, "green", 1, "red", 1), weights("blue", 34, "green", 33, "red", 33)},
		{weights("blue", 256, "green", 1), weights("blue", 100)},
		{weights("green", 7), weights("green", 100)},
	}
	for _, tt := range tests {
		p.servers(tt.raw)
		if got, err := r.Split(t.Context(), "recs"); err != nil || !got.Equal(tt.want) {
			t.Errorf("Split of %s: got %s, %v, want %s", tt.raw, got, err, tt.want)
		}
	}
}

// A backend that takes no weights at run time is refused, with the remedy.
func TestStaticAlgorithm(t *testing.T) {
	p := start(t, "", "")
	r := kinds[0].router(t, p)
	from, err := r.Split(t.Context(), "fixed")
	if err != nil {
		t.Fatal(err)
	}
	err = r.Shift(t.Context(), "fixed", from, kinds[0].split(5))
	if !errors.Is(err, traffic.ErrPermanent) || !strings.Contains(err.Error(), "roundrobin") {
		t.Errorf("Shift: got %v, want ErrPermanent with a remedy", err)
	}
}

// The commands for a rollback by hand are run as they stand, by a shell.
func TestManualRollbackRuns(t *testing.T) {
	p := start(t, "", "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, p.path("socat")); err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		r := k.router(t, p)
		if err := r.Shift(t.Context(), k.endpoint, k.split(0), k.split(60)); err != nil {
			t.Fatal(err)
		}
		d, err := r.Describe(t.Context(), k.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		command := d.ManualRollback(k.blue)
		t.Logf("%s: %s", k.name, strings.ReplaceAll(command, p.dir, "/run/haproxy"))
		sh := exec.CommandContext(t.Context(), "sh", "-c", command) //nolint:gosec // The command is what is tested.
		sh.Env = append(os.Environ(), "PATH="+p.dir+":"+os.Getenv("PATH"))
		if out, err := sh.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
			t.Errorf("%s: got %v\n%s", command, err, out)
		}
		if got, err := r.Split(t.Context(), k.endpoint); err != nil || !got.Equal(k.split(0)) {
			t.Errorf("after %s: got %s, %v, want %s", command, got, err, k.split(0))
		}
		if got := d.ManualRollback("x; rm -rf /"); got != "" {
			t.Errorf("ManualRollback of no name: got %q, want nothing", got)
		}
	}
}

// What HAProxy tells and what the configuration adds.
func TestDescribe(t *testing.T) {
	p := start(t, "", "")
	config := kinds[1].config(p)
	config.Endpoints["recs"] = haproxy.Endpoint{ScoringURI: "http://recs/", AuthMode: "key", Tags: map[string]string{"owner": "team-recommendations"}}
	config.Prober = traffic.Prober{Authorized: p.client("servers"), Anonymous: p.client("servers")}
	r, err := haproxy.New(config)
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Describe(t.Context(), "recs")
	if err != nil {
		t.Fatal(err)
	}
	d.ManualRollback = nil
	want := traffic.Description{
		Deployments: map[string]traffic.Deployment{
			"blue": {Ready: true, Instances: 1, Concurrency: 64}, "green": {Ready: true, Instances: 1, Concurrency: 64},
			"red": {Ready: true, Instances: 1},
		},
		Tags: map[string]string{"owner": "team-recommendations"}, ScoringURI: "http://recs/", AuthMode: "key",
		Unknown: []string{
			"deployments.blue.version", "deployments.green.version", "deployments.red.concurrency", "deployments.red.version", "publicNetwork",
		},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("Describe of servers (-want +got):\n%s", diff)
	}
	d, err = r.Describe(t.Context(), "by-map")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Deployments["recs-blue"], (traffic.Deployment{Ready: true, Instances: 2, Concurrency: 32}); got != want {
		t.Errorf("Describe of a backend: got %+v, want %+v", got, want)
	}

	probe, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for deployment, want := range map[string]string{"green": "green", "": "blue"} {
		resp, err := r.Probe(t.Context(), "recs", deployment, probe)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(body) != want {
			t.Errorf("Probe of %q: got an answer of %q, want %q", deployment, body, want)
		}
	}
}

// Names that could say more than one word to the socket never reach it, and a
// configuration that cannot work is refused.
func TestNames(t *testing.T) {
	p := start(t, "", "")
	r := kinds[0].router(t, p)
	for _, name := range []string{"", "recs;disable server recs/blue", "recs\ndisable server recs/blue", "recs blue", "recs/blue", "#3"} {
		if _, err := r.Split(t.Context(), name); !errors.Is(err, traffic.ErrNotFound) {
			t.Errorf("Split(%q): got %v, want ErrNotFound", name, err)
		}
		err := r.Shift(t.Context(), "recs", kinds[0].split(0), weights("blue", 95, name, 5))
		if !errors.Is(err, traffic.ErrNotFound) && !errors.Is(err, traffic.ErrPermanent) {
			t.Errorf("Shift to %q: got %v, want ErrNotFound or ErrPermanent", name, err)
		}
	}
	if got := p.serversTruth(); !got.Equal(kinds[0].split(0)) {
		t.Errorf("in the end: got %s, want %s", got, kinds[0].split(0))
	}
	for _, c := range []haproxy.Config{
		{Socket: "admin.sock"},
		{Socket: "127.0.0.1:9999", StateFile: "/state"},
		{Socket: "127.0.0.1:9999", Endpoints: map[string]haproxy.Endpoint{"recs": {Map: "/m", KeepMap: true}}},
		{Socket: "/s", Endpoints: map[string]haproxy.Endpoint{"recs": {KeepMap: true}}},
		{Socket: "/s", Endpoints: map[string]haproxy.Endpoint{"recs": {Map: "/m;shutdown"}}},
		{Socket: "/s", Endpoints: map[string]haproxy.Endpoint{"re cs": {}}},
	} {
		if _, err := haproxy.New(c); err == nil {
			t.Errorf("New(%+v): got nil, want an error", c)
		}
	}
}
