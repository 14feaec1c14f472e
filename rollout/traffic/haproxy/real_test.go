package haproxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/traffic"
)

// configuration has both kinds of endpoints over the same three servers. The
// paths are those of a proxy's folder.
const configuration = `
global
  stats socket %[1]s/admin.sock mode 600 level admin
  stats timeout 10s
  %[2]s
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 2s
  %[3]s
frontend servers
  bind unix@%[1]s/servers.sock
  default_backend recs
frontend mapped
  bind unix@%[1]s/mapped.sock
  use_backend %%[rand(100),map_int(%[1]s/recs.map)]
backend recs
  balance roundrobin
  use-server green if { req.hdr(Belay-Deployment) green }
  server blue unix@%[1]s/blue.sock weight 100 maxconn 64
  server green unix@%[1]s/green.sock weight 0 maxconn 64
  server red unix@%[1]s/red.sock weight 0
  server spare unix@%[1]s/blue.sock backup
backend recs-blue
  server a unix@%[1]s/blue.sock maxconn 32
  server b unix@%[1]s/blue.sock maxconn 32
backend recs-green
  server a unix@%[1]s/green.sock
backend recs-red
  server a unix@%[1]s/red.sock
backend fixed
  balance source
  server blue unix@%[1]s/blue.sock
  server green unix@%[1]s/green.sock weight 0
`

// A proxy is a real HAProxy with three deployments behind it.
type proxy struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
}

// start runs HAProxy; global and defaults are more lines of its configuration.
func start(t *testing.T, global, defaults string) *proxy {
	t.Helper()
	bin := realtest.Program(t, "haproxy")
	dir, err := os.MkdirTemp("", "belay") //nolint:usetesting // Paths of t.TempDir are too long for unix sockets.
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, dir: dir}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var entries strings.Builder
	for key := range 100 {
		_, _ = fmt.Fprintf(&entries, "%d recs-blue\n", key)
	}
	p.write("recs.map", entries.String())
	p.write("haproxy.cfg", fmt.Sprintf(configuration, dir, strings.ReplaceAll(global, "DIR", dir), defaults))
	for _, name := range []string{"blue", "green", "red"} {
		p.deploy(name)
	}
	p.run(bin)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p
}

// run starts a process that takes over from the one before, as a reload does.
func (p *proxy) run(bin string) {
	p.t.Helper()
	args := []string{"-db", "-f", p.path("haproxy.cfg")}
	old := p.cmd
	if old != nil {
		args = append(args, "-sf", fmt.Sprint(old.Process.Pid))
	}
	cmd := exec.Command(bin, args...) //nolint:gosec // The test's own HAProxy.
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.cmd = cmd
	if old != nil {
		_ = old.Wait()
	}
	pid := fmt.Sprintf("Pid: %d\n", cmd.Process.Pid)
	for range 200 {
		if out, err := p.try("show info"); err == nil && strings.Contains(out, pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	p.t.Fatalf("haproxy did not start:\n%s", &log)
}

func (p *proxy) reload() {
	p.t.Helper()
	p.run(p.cmd.Path)
}

func (p *proxy) path(name string) string { return filepath.Join(p.dir, name) }

func (p *proxy) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// deploy serves a deployment that answers with its name.
func (p *proxy) deploy(name string) {
	p.t.Helper()
	l, err := net.Listen("unix", p.path(name+".sock"))
	if err != nil {
		p.t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, name)
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	p.t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
}

// try sends commands past the router.
func (p *proxy) try(commands string) (string, error) {
	conn, err := net.Dial("unix", p.path("admin.sock"))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, commands+"\n"); err != nil {
		return "", err
	}
	out, err := io.ReadAll(conn)
	return string(out), err
}

func (p *proxy) tell(commands string) string {
	p.t.Helper()
	out, err := p.try(commands)
	if err != nil {
		p.t.Fatalf("%s: %v", commands, err)
	}
	return out
}

// servers sets the weights of the servers of backend recs.
func (p *proxy) servers(s traffic.Split) {
	p.t.Helper()
	var commands []string
	for _, name := range []string{"blue", "green", "red"} {
		commands = append(commands, fmt.Sprintf("set server recs/%s weight %d", name, s.Weights[name]))
	}
	if out := strings.TrimSpace(p.tell(strings.Join(commands, ";"))); out != "" {
		p.t.Fatalf("set weights: %s", out)
	}
}

// serversTruth reads the weights of the servers of backend recs.
func (p *proxy) serversTruth() traffic.Split {
	p.t.Helper()
	s := traffic.Split{Weights: map[string]int{}}
	for _, name := range []string{"blue", "green", "red"} {
		w := 0
		if _, err := fmt.Sscanf(p.tell("get weight recs/"+name), "%d", &w); err != nil {
			p.t.Fatal(err)
		}
		if w > 0 {
			s.Weights[name] = w
		}
	}
	return s
}

// mapped sets the entries of the map, one by one, as people do.
func (p *proxy) mapped(s traffic.Split) {
	p.t.Helper()
	key := 0
	for _, name := range []string{"recs-blue", "recs-green", "recs-red"} {
		for range s.Weights[name] {
			if out := strings.TrimSpace(p.tell(fmt.Sprintf("set map %s %d %s", p.path("recs.map"), key, name))); out != "" {
				p.t.Fatalf("set map: %s", out)
			}
			key++
		}
	}
}

// mappedTruth counts the entries of the map.
func (p *proxy) mappedTruth() traffic.Split {
	p.t.Helper()
	s := traffic.Split{Weights: map[string]int{}}
	for line := range strings.Lines(p.tell("show map " + p.path("recs.map"))) {
		if fields := strings.Fields(line); len(fields) == 3 {
			s.Weights[fields[2]]++
		}
	}
	return s
}

// client speaks to a frontend.
func (p *proxy) client(frontend string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 32,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", p.path(frontend+".sock"))
		},
	}}
}

// ask sends one request and says who answered.
func ask(c *http.Client, header string) (string, error) {
	r, err := http.NewRequest(http.MethodGet, "http://recs/", http.NoBody)
	if err != nil {
		return "", err
	}
	if header != "" {
		r.Header.Set("Belay-Deployment", header)
	}
	resp, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := bufio.NewReader(resp.Body).ReadString(0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	return body, nil
}

// observe sends n requests from several clients at once and counts who answered.
func observe(t *testing.T, c *http.Client, n int) map[string]int {
	t.Helper()
	const workers = 8
	counts := make([]map[string]int, workers)
	var wg sync.WaitGroup
	for w := range workers {
		counts[w] = make(map[string]int)
		wg.Go(func() {
			for range n / workers {
				who, err := ask(c, "")
				if err != nil {
					t.Errorf("request: %v", err)
					return
				}
				counts[w][who]++
			}
		})
	}
	wg.Wait()
	total := make(map[string]int)
	for _, m := range counts {
		for who, k := range m {
			total[who] += k
		}
	}
	return total
}
