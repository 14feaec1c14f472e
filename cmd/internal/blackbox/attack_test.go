package blackbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/belayd/belay/rollout/api"
)

const (
	// crowd is how many connections an attack keeps: more than belayd takes.
	crowd = 1100
	// again is after how long an attacker opens a connection that it has lost.
	again = 5 * time.Second
	// patience is how long a rollback may take however quick it is otherwise: the
	// attackers have the same processors.
	patience = 10 * time.Second
)

// An attack is what a stranger, or a person who may only read, does to belayd for
// as long as ctx lasts. It counts in connections and requests, and stays on
// loopback.
type attack struct {
	name string
	do   func(ctx context.Context, b *besieged)
}

// A besieged belayd has TLS, tokens and a rollout for every try to roll back.
type besieged struct {
	*world
	t     testing.TB
	trust *tls.Config
	e     *endpoints
	ids   []string // of rollouts that nobody has rolled back yet, with their endpoints'
	names []string // names
}

// Whoever may roll back can, whatever strangers and readers do meanwhile: over the
// network, over the socket of the machine, from the attackers' own address and
// from another. belayd says that it is alive and shows its metrics all the while.
// The first figure of each line is how long it took from the order to the write
// at the router.
func TestRollbackUnderAttack(t *testing.T) {
	const tries = 5
	b := besiege(t, tries*(len(attacks())+1))
	idle := b.rollBack("idle", tries)
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			b.t = t
			ctx, cancel := context.WithCancel(t.Context())
			var attacking sync.WaitGroup
			attacking.Go(func() { a.do(ctx, b) })
			defer attacking.Wait()
			defer cancel()
			time.Sleep(time.Second) // it has begun
			if took := b.rollBack(a.name, tries); took > max(3*idle, patience) {
				t.Errorf("half of the rollbacks took more than %s, idle %s; want at most three times as long, or %s on a machine that is busy", took, idle, patience)
			}
			for _, path := range []string{"/healthz", "/metrics"} {
				if took, err := b.look(path); err != nil || took > 5*time.Second {
					t.Errorf("GET %s: got %v after %s, want an answer within 5s", path, err, took)
				}
			}
			t.Logf("resident: %d MiB", b.resident()>>20)
		})
	}
	if strings.Contains(b.logs.String(), "panic") {
		t.Errorf("the log:\n%s", b.logs)
	}
}

// besiege starts belayd with so many rollouts, and some history.
func besiege(t *testing.T, n int) *besieged {
	b := &besieged{t: t}
	var policies []string
	for i := range n {
		name := fmt.Sprintf("recs%d", i)
		b.names = append(b.names, name)
		policies = append(policies, policy(name, name, "", "[{weight: 5%, bake: 1h}, {weight: 100%, bake: 1h}]"))
	}
	b.e = newEndpoints(t, b.names...)
	dir := t.TempDir()
	pem, err := os.ReadFile(certificate(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	b.trust = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	b.trust.RootCAs.AppendCertsFromPEM(pem)
	roles := map[string]string{"ann": "operate, start", "viewer": "view"}
	for i := range 4 {
		roles[fmt.Sprintf("viewer%d", i)] = "view"
	}
	config := strings.Replace(tokens(roles), "auth:\n", "auth:\n  tls: {certFile: "+dir+"/tls.crt, keyFile: "+dir+"/tls.key}\n", 1)
	b.world = newWorld(t, b.e, config, policies...)
	ann := b.client("ann", "127.0.0.1")
	for _, name := range b.names {
		r, _, err := ann.Start(t.Context(), name, api.StartRequest{Policy: name, Candidate: "green", Version: "1"})
		if err != nil {
			t.Fatal(err)
		}
		b.ids = append(b.ids, r.ID)
	}
	for _, name := range b.names {
		eventually(t, "the candidates to have 5%", func() bool { return b.e.green(name) == 5 })
	}
	for i := range 400 {
		verb := []string{"pause", "resume"}[i%2]
		if _, err := ann.Act(t.Context(), b.ids[0], verb, fmt.Sprint("k", i), api.Act{Reason: strings.Repeat("history ", 20)}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// client is a client whose every request is a connection of its own, from one of
// loopback's addresses; "" is over the socket.
func (b *besieged) client(actor, from string) *api.Client {
	b.t.Helper()
	server, dial := "https://"+b.address, (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext
	if from == "" {
		path := filepath.Join(b.dir, "belay.db.ctl")
		server = api.UnixPrefix + path
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: b.trust.Clone(), DialContext: dial, DisableKeepAlives: true, ForceAttemptHTTP2: true}, Timeout: 20 * time.Second}
	token := ""
	if actor != "" {
		token = tokenOf(actor)
	}
	c, err := api.NewClient(server, h, token)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// rollBack rolls so many rollouts back, each of which must work, and returns the
// median of the times from the order to the write at the router.
func (b *besieged) rollBack(what string, n int) time.Duration {
	b.t.Helper()
	var took, answers []time.Duration
	for i := range n {
		from := []string{"127.0.0.1", "127.0.0.9", ""}[i%3]
		id, name := b.ids[len(b.ids)-1], b.names[len(b.ids)-1]
		b.ids = b.ids[:len(b.ids)-1]
		began := time.Now()
		if _, err := b.client("ann", from).Act(b.t.Context(), id, "rollback", "rb"+id, api.Act{Reason: what}); err != nil {
			b.t.Errorf("rollback %d from %q: after %s: %v", i, from, time.Since(began), err)
			continue
		}
		answers = append(answers, time.Since(began))
		eventually(b.t, "stable to have 100% again", func() bool { return b.e.green(name) == 0 })
		took = append(took, b.e.at(name).Sub(began))
	}
	if len(took) == 0 {
		b.t.Fatalf("%s: nobody could roll back", what)
	}
	slices.Sort(took)
	slices.Sort(answers)
	b.t.Logf("%s: order to write: median %s, slowest %s; order to answer: median %s, slowest %s (n=%d)", what,
		took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), answers[len(answers)/2].Round(time.Millisecond), answers[len(answers)-1].Round(time.Millisecond), len(took))
	return took[len(took)/2]
}

// look asks for a path that is open to all.
func (b *besieged) look(path string) (time.Duration, error) {
	began := time.Now()
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: b.trust.Clone(), DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := h.Get("https://" + b.address + path)
	if err != nil {
		return time.Since(began), err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return time.Since(began), fmt.Errorf("%s: %w", resp.Status, err)
	}
	return time.Since(began), nil
}

// resident is belayd's resident memory, in bytes.
func (b *besieged) resident() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", b.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0
	}
	return pages * os.Getpagesize()
}

// attacks are all of them.
func attacks() []attack {
	return []attack{
		{"connections that say nothing", func(ctx context.Context, b *besieged) {
			b.crowd(ctx, func(net.Conn) error { return nil })
		}},
		{"answers over HTTP/2 whose window is 0", func(ctx context.Context, b *besieged) {
			b.crowd(ctx, func(c net.Conn) error { return stalled(c, b.trust) })
		}},
		{"pipelined requests whose answers nobody reads", func(ctx context.Context, b *besieged) {
			ask := strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 50)
			b.crowd(ctx, b.overTLS(ask))
		}},
		{"bodies that do not come", func(ctx context.Context, b *besieged) {
			b.crowd(ctx, b.overTLS("POST /v1/rollouts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"))
		}},
		{"requests over HTTP/2 that are reset at once", func(ctx context.Context, b *besieged) {
			b.parallel(ctx, 4, func(c net.Conn) error { return reset(ctx, c, b.trust, 2000) })
		}},
		{"readers of all history", func(ctx context.Context, b *besieged) { b.readHistory(ctx, 256) }},
		{"checks of a policy that is all wrong", func(ctx context.Context, b *besieged) { b.checkPolicies(ctx, 40) }},
		{"reading with the operator's own token", func(ctx context.Context, b *besieged) { b.readMuch(ctx, "ann", 8) }},
	}
}

// crowd keeps as many connections as belayd takes and more, from a few addresses
// of which one is the operator's, and opens those again that it loses.
func (b *besieged) crowd(ctx context.Context, use func(net.Conn) error) {
	b.parallel(ctx, crowd, func(c net.Conn) error {
		if err := use(c); err != nil {
			return err
		}
		_, _ = c.Read(make([]byte, 1)) // whatever comes is not read on
		<-ctx.Done()
		return nil
	})
}

// parallel runs do on so many connections at a time until ctx ends, and on new ones
// for those that end.
func (b *besieged) parallel(ctx context.Context, n int, do func(net.Conn) error) {
	var all sync.WaitGroup
	defer all.Wait()
	for i := range n {
		all.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%3))}, Timeout: 5 * time.Second}
			for ctx.Err() == nil {
				c, err := d.DialContext(ctx, "tcp", b.address)
				if err == nil {
					stop := context.AfterFunc(ctx, func() { _ = c.Close() })
					_ = do(c) // belayd ends it when it pleases
					stop()
					_ = c.Close()
				}
				select {
				case <-ctx.Done():
				case <-time.After(again):
				}
			}
		})
	}
}

// overTLS sends a text.
func (b *besieged) overTLS(text string) func(net.Conn) error {
	return func(c net.Conn) error {
		config := b.trust.Clone()
		config.ServerName = "127.0.0.1"
		_, err := io.WriteString(tls.Client(c, config), text)
		return err
	}
}

// framer begins an HTTP/2 connection.
func framer(c net.Conn, trust *tls.Config, settings ...http2.Setting) (*http2.Framer, error) {
	config := trust.Clone()
	config.ServerName, config.NextProtos = "127.0.0.1", []string{"h2"}
	over := tls.Client(c, config)
	if _, err := io.WriteString(over, http2.ClientPreface); err != nil {
		return nil, err
	}
	f := http2.NewFramer(over, over)
	return f, f.WriteSettings(settings...)
}

// headers is the header block of a request that nobody needs a right for.
func headers() []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "127.0.0.1"}, {":path", "/openapi.yaml"}} {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // into memory
	}
	return block.Bytes()
}

// stalled asks for an answer and leaves no window for it.
func stalled(c net.Conn, trust *tls.Config) error {
	f, err := framer(c, trust, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	if err != nil {
		return err
	}
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(), EndStream: true, EndHeaders: true})
}

// reset asks n times and takes each request back at once.
func reset(ctx context.Context, c net.Conn, trust *tls.Config, n uint32) error {
	f, err := framer(c, trust)
	if err != nil {
		return err
	}
	for i := range n {
		err := errors.Join(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: headers(), EndStream: true, EndHeaders: true}),
			f.WriteRSTStream(2*i+1, http2.ErrCodeCancel), ctx.Err())
		if err != nil {
			return err
		}
	}
	return nil
}

// readHistory reads all streams from the first event on, as several people who may
// look.
func (b *besieged) readHistory(ctx context.Context, n int) {
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: b.trust.Clone(), DisableKeepAlives: true}}
	var all sync.WaitGroup
	defer all.Wait()
	for i := range n {
		all.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+b.address+"/v1/events", http.NoBody)
				if err != nil {
					return
				}
				req.Header.Set("Authorization", "Bearer "+tokenOf(fmt.Sprint("viewer", i%4)))
				req.Header.Set("Last-Event-ID", "0")
				if resp, err := h.Do(req); err == nil {
					_, _ = io.CopyN(io.Discard, resp.Body, 1<<20)
					_ = resp.Body.Close()
				}
			}
		})
	}
}

// checkPolicies has a policy of 20,000 fields that do not exist checked, again and
// again.
func (b *besieged) checkPolicies(ctx context.Context, n int) {
	var text strings.Builder
	text.WriteString("apiVersion: belay/v1\nkind: RolloutPolicy\n")
	for i := range 20000 {
		fmt.Fprintf(&text, "f%d: 1\n", i)
	}
	b.read(ctx, n, func(ctx context.Context, c *api.Client) error {
		_, err := c.CheckPolicy(ctx, api.CheckRequest{Text: text.String()})
		return err
	}, "viewer")
}

// readMuch reads lists as fast as it can.
func (b *besieged) readMuch(ctx context.Context, actor string, n int) {
	b.read(ctx, n, func(ctx context.Context, c *api.Client) error {
		_, err := c.Policies(ctx)
		return err
	}, actor)
}

// read asks in so many loops; what is refused is asked again.
func (b *besieged) read(ctx context.Context, n int, ask func(context.Context, *api.Client) error, actor string) {
	var all sync.WaitGroup
	defer all.Wait()
	for range n {
		c := b.client(actor, "127.0.0.1")
		all.Go(func() {
			for ctx.Err() == nil {
				_ = ask(ctx, c)
			}
		})
	}
}
