package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/cmd/internal/demo"
	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/view"
)

// TestRollouts runs belayd as a process of its own beside a real Prometheus that
// scrapes the demo's model servers, starts a rollout over HTTP, and sees it
// promoted, or rolled back when the candidate begins to fail at 25%.
func TestRollouts(t *testing.T) {
	realtest.Program(t, "prometheus")
	binary := realtest.Build(t, "belayd")
	for _, c := range []struct {
		name  string
		fault demo.Fault
		want  rollout.Phase
	}{
		{"promotion", demo.FaultNone, rollout.PhasePromoted},
		{"rollback", demo.FaultFailures, rollout.PhaseRolledBack},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // it mostly waits for bakes
			w := openWorld(t, c.fault)
			url := startPrometheus(t, w)
			config := usePrometheus(t, w, url)
			p := startBelayd(t, binary, config)
			client, err := api.NewClient("http://"+p.address, &http.Client{}, "")
			if err != nil {
				t.Fatal(err)
			}
			r, created, err := client.Start(t.Context(), "release-1", api.StartRequest{Policy: demo.PolicyName, Candidate: demo.Candidate, Version: demo.CandidateVersion, RequestedBy: "pipeline"})
			if err != nil || !created {
				t.Fatalf("start: got created=%v, %v", created, err)
			}
			if again, created, err := client.Start(t.Context(), "release-1", api.StartRequest{Policy: demo.PolicyName, Candidate: demo.Candidate, Version: demo.CandidateVersion, RequestedBy: "pipeline"}); err != nil || created || again.ID != r.ID {
				t.Fatalf("start again with the same key: got %s created=%v %v, want %s", again.ID, created, err, r.ID)
			}
			if c.want == rollout.PhasePromoted {
				p.restart(t) // in the middle of a bake: nothing is lost
				if client, err = api.NewClient("http://"+p.address, &http.Client{}, ""); err != nil {
					t.Fatal(err)
				}
			}
			got := waitClosed(t, client, r.ID)
			if got.Phase != c.want {
				t.Fatalf("the rollout is %s (%s), want %s", got.Phase, got.Sentence, c.want)
			}
			wantWeights(t, w, c.want)
			if pages := w.PagesReceived(); (len(pages) > 0) != (c.want == rollout.PhaseRolledBack) {
				t.Errorf("pages: got %v", pages)
			}
		})
	}
}

func wantWeights(t *testing.T, w *demo.World, phase rollout.Phase) {
	t.Helper()
	name := demo.Stable
	if phase == rollout.PhasePromoted {
		name = demo.Candidate
	}
	if got := w.Weights()[name]; got != 100 {
		t.Errorf("the endpoint gives %s %d%%, want 100%%", name, got)
	}
}

// openWorld opens the demo's world for the life of the test, at twice its speed.
func openWorld(t *testing.T, fault demo.Fault) *demo.World {
	t.Helper()
	w, err := demo.Open(demo.Options{Dir: t.TempDir(), Fault: fault, Speed: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("world: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("close world: %v", err)
		}
	})
	return w
}

var target = regexp.MustCompile(`"http://([0-9.:]+)/metrics"`)

// startPrometheus starts a real Prometheus that scrapes both model servers every
// second, and returns its address.
func startPrometheus(t *testing.T, w *demo.World) string {
	t.Helper()
	config, err := os.ReadFile(w.Config)
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range target.FindAllStringSubmatch(string(config), -1) {
		targets = append(targets, m[1])
	}
	return realtest.Prometheus(t, fmt.Sprintf("scrape_configs:\n- job_name: models\n  scrape_interval: 1s\n  scrape_timeout: 900ms\n  static_configs: [{targets: [%s]}]\n", strings.Join(targets, ", "))).URL
}

// usePrometheus writes the world's config with the real Prometheus as the source,
// and gives the policy the patience that a source with a lag needs.
func usePrometheus(t *testing.T, w *demo.World, url string) string {
	t.Helper()
	config, err := os.ReadFile(w.Config)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := os.ReadFile(w.Policy)
	if err != nil {
		t.Fatal(err)
	}
	patient := strings.Replace(string(policy), "onNoData: {after: 4s", "onNoData: {after: 15s", 1)
	if patient == string(policy) {
		t.Fatalf("the demo's policy has no onNoData of 4s:\n%s", policy)
	}
	if err := os.WriteFile(w.Policy, []byte(patient), 0o600); err != nil {
		t.Fatal(err)
	}
	sources := regexp.MustCompile(`(?s)sources:\n.*\nrouters:`)
	text := sources.ReplaceAllString(string(config), "sources:\n  pods: {prometheus: {url: \""+url+"\", scrapeInterval: 1s, lag: 1500ms}}\nrouters:")
	file := filepath.Join(t.TempDir(), "belayd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A process is a belayd that runs.
type process struct {
	binary, config string
	cmd            *exec.Cmd
	address        string
}

func startBelayd(t *testing.T, binary, config string) *process {
	t.Helper()
	p := &process{binary: binary, config: config}
	p.start(t)
	return p
}

var serving = regexp.MustCompile(`msg=serving address=(\S+)`)

// start runs belayd and waits until it serves.
func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.binary, "--config", p.config)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, p.cmd)
	address := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := serving.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
			if strings.Contains(lines.Text(), "level=ERROR") {
				fmt.Fprintln(os.Stderr, lines.Text())
			}
		}
	}()
	select {
	case p.address = <-address:
	case <-time.After(30 * time.Second):
		t.Fatal("belayd does not serve after 30 s")
	}
}

// restart kills belayd once it has moved traffic, and starts it again.
func (p *process) restart(t *testing.T) {
	t.Helper()
	client, err := api.NewClient("http://"+p.address, &http.Client{}, "")
	if err != nil {
		t.Fatal(err)
	}
	realtest.Eventually(t, "the first step bakes", func() bool {
		for r, err := range client.Rollouts(t.Context(), view.Filter{}) {
			return err == nil && r.Phase == rollout.PhaseBaking
		}
		return false
	})
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_ = p.cmd.Wait()
	p.start(t)
}

// start runs a command until the test ends.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

func waitClosed(t *testing.T, client *api.Client, id string) view.Rollout {
	t.Helper()
	var last view.Rollout
	realtest.Eventually(t, "the rollout ends", func() bool {
		r, err := client.Rollout(t.Context(), id)
		if err == nil {
			last = r
		}
		return err == nil && r.Closed
	})
	return last
}
