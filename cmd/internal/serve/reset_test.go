package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// FuzzResets: whatever a client does with its streams over HTTP/2 (begins them,
// resets them at once or later, announces bodies that do not come, closes windows,
// sends frames that are none), no handler stays behind, and the next client is
// answered. Each byte of the input is one thing that the client does.
func FuzzResets(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0, 1}, 200))
	f.Add(bytes.Repeat([]byte{0}, 150))
	f.Add([]byte{4, 0, 0, 1, 3, 5, 1, 2, 0, 6, 7, 0})
	f.Add(bytes.Repeat([]byte{2, 5, 1}, 50))
	address, trust, busy := overHTTP2(f)
	block := request(f)
	f.Fuzz(func(t *testing.T, does []byte) {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, trust("h2"))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, c) }() // ends when the connection does
		play(c, does, block)
		_ = c.Close() // the server may have done so before
		next := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: trust("http/1.1"), DisableKeepAlives: true}}
		resp, err := next.Get("https://" + address)
		if err != nil {
			t.Fatalf("%v: the next client: %v", does, err)
		}
		_ = resp.Body.Close()
		for end := time.Now().Add(10 * time.Second); busy() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%v: %d handlers are left behind", does, busy())
			}
		}
	})
}

// request is the header block of a request.
func request(t testing.TB) []byte {
	t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/"}} {
		if err := e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	return block.Bytes()
}

// overHTTP2 is a server whose handler answers after a moment, or when its client has
// gone; busy is how many of its calls are under way.
func overHTTP2(f *testing.F) (address string, trust func(protocol string) *tls.Config, busy func() int64) {
	var under atomic.Int64
	address, trust = tlsServer(f, func(w http.ResponseWriter, r *http.Request) {
		under.Add(1)
		defer under.Add(-1)
		MarkAuthenticated(r.Context())
		_, _ = io.Copy(w, r.Body)
		_, _ = w.Write(make([]byte, 100<<10))
	})
	return address, trust, under.Load
}

// tlsServer is a server that speaks TLS, and how to trust it.
func tlsServer(f testing.TB, handler http.HandlerFunc) (address string, trust func(protocol string) *tls.Config) {
	blank := httptest.NewUnstartedServer(nil) // for its certificate
	blank.EnableHTTP2 = true
	blank.StartTLS()
	f.Cleanup(blank.Close)
	s := &Server{TLS: blank.TLS, Log: slog.New(slog.DiscardHandler), Handler: handler}
	l, err := (&net.ListenConfig{}).Listen(f.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Errorf("serve: %v", err)
		}
	})
	roots := blank.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs //nolint:forcetypeassert // httptest's
	return l.Addr().String(), func(protocol string) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "example.com", NextProtos: []string{protocol}, MinVersion: tls.VersionTLS12}
	}
}

// play does one thing after another; what the server does not take any more is its
// affair.
func play(c net.Conn, does, block []byte) {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return
	}
	w := http2.NewFramer(c, nil)
	w.AllowIllegalWrites = true
	err := w.WriteSettings()
	stream := uint32(1)
	for _, b := range does {
		if err != nil {
			return
		}
		switch b % 8 {
		case 0: // a request
			stream += 2
			err = w.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndStream: true, EndHeaders: true})
		case 1: // taken back
			err = w.WriteRSTStream(stream, http2.ErrCodeCancel)
		case 2: // one whose body does not come
			stream += 2
			err = w.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true})
		case 3:
			err = w.WriteWindowUpdate(uint32(b>>3)*stream, 1<<uint(b>>3))
		case 4:
			err = w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(b >> 3)})
		case 5: // a piece of a body, perhaps of a stream that has ended
			err = w.WriteData(stream, b>>3 == 0, make([]byte, int(b)))
		case 6:
			err = w.WriteRSTStream(uint32(b), http2.ErrCode(b))
		case 7: // a frame of any type
			err = w.WriteRawFrame(http2.FrameType(b>>3), http2.Flags(b), stream, does)
		}
	}
}
