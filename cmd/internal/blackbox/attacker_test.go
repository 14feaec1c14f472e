package blackbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/belayd/belay/rollout/api"
)

const (
	// attackEnv names the attack that a process of the tests' program makes instead of
	// running tests.
	attackEnv = "ATTACK"
	// crowd is how many connections an attack keeps: more than belayd takes.
	crowd = 1100
	// again is after how long an attacker opens a connection that it has lost.
	again = 5 * time.Second
)

// An attack is what a stranger, or a person who may only read, does to belayd for
// as long as ctx lasts. It counts in connections and requests, and stays on
// loopback.
type attack struct {
	name string
	do   func(ctx context.Context, a *attacker)
	most float64 // processors of belayd's; 0: processorsMax
}

// An attacker knows where belayd listens and how to trust it.
type attacker struct {
	address string
	trust   *tls.Config
}

// runAttack makes the attack of a name until the standard input ends.
func runAttack(name string) int {
	a := &attacker{address: os.Getenv("ATTACKED"), trust: trusted(&testing.B{}, os.Getenv("ATTACKED_ROOTS"))}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	for _, one := range attacks() {
		if one.name == name {
			one.do(ctx, a)
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "no attack is called", name)
	return 1
}

// attacks are all of them.
func attacks() []attack {
	return []attack{
		{name: "connections that say nothing", do: func(ctx context.Context, a *attacker) {
			a.crowd(ctx, func(net.Conn) error { return nil })
		}},
		{name: "answers over HTTP/2 whose window is 0", do: func(ctx context.Context, a *attacker) {
			a.crowd(ctx, func(c net.Conn) error { return stalled(c, a.trust) })
		}},
		{name: "pipelined requests whose answers nobody reads", do: func(ctx context.Context, a *attacker) {
			ask := strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 50)
			a.crowd(ctx, a.overTLS(ask))
		}},
		{name: "bodies that do not come", do: func(ctx context.Context, a *attacker) {
			a.crowd(ctx, a.overTLS("POST /v1/rollouts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"))
		}},
		{name: "requests over HTTP/2 that are reset at once", do: func(ctx context.Context, a *attacker) {
			a.parallel(ctx, 4, func(c net.Conn) error { return reset(ctx, c, a.trust, 2000) })
		}},
		{name: "readers of all history", most: readersMax, do: func(ctx context.Context, a *attacker) { a.readHistory(ctx, 256) }},
		{name: "checks of a policy that is all wrong", most: readersMax, do: func(ctx context.Context, a *attacker) { a.checkPolicies(ctx, 40) }},
		{name: "reading with the operator's own token", do: func(ctx context.Context, a *attacker) { a.readMuch(ctx, "ann", 8) }},
	}
}

// crowd keeps as many connections as belayd takes and more, from a few addresses
// of which one is the operator's, and opens those again that it loses.
func (a *attacker) crowd(ctx context.Context, use func(net.Conn) error) {
	a.parallel(ctx, crowd, func(c net.Conn) error {
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
func (a *attacker) parallel(ctx context.Context, n int, do func(net.Conn) error) {
	var all sync.WaitGroup
	defer all.Wait()
	for i := range n {
		all.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%3))}, Timeout: 5 * time.Second}
			for ctx.Err() == nil {
				c, err := d.DialContext(ctx, "tcp", a.address)
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
func (a *attacker) overTLS(text string) func(net.Conn) error {
	return func(c net.Conn) error {
		config := a.trust.Clone()
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
func (a *attacker) readHistory(ctx context.Context, n int) {
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: a.trust.Clone(), DisableKeepAlives: true}}
	var all sync.WaitGroup
	defer all.Wait()
	for i := range n {
		all.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+a.address+"/v1/events", http.NoBody)
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
func (a *attacker) checkPolicies(ctx context.Context, n int) {
	var text strings.Builder
	text.WriteString("apiVersion: belay/v1\nkind: RolloutPolicy\n")
	for i := range 20000 {
		fmt.Fprintf(&text, "f%d: 1\n", i)
	}
	a.read(ctx, n, func(ctx context.Context, c *api.Client) error {
		_, err := c.CheckPolicy(ctx, api.CheckRequest{Text: text.String()})
		return err
	}, "viewer")
}

// readMuch reads lists as fast as it can.
func (a *attacker) readMuch(ctx context.Context, actor string, n int) {
	a.read(ctx, n, func(ctx context.Context, c *api.Client) error {
		_, err := c.Policies(ctx)
		return err
	}, actor)
}

// read asks in so many loops; what is refused is asked again.
func (a *attacker) read(ctx context.Context, n int, ask func(context.Context, *api.Client) error, actor string) {
	var all sync.WaitGroup
	defer all.Wait()
	for range n {
		c, err := api.NewClient("https://"+a.address, single(a.trust, (&net.Dialer{}).DialContext), tokenOf(actor))
		if err != nil {
			panic(err)
		}
		all.Go(func() {
			for ctx.Err() == nil {
				_ = ask(ctx, c)
			}
		})
	}
}
