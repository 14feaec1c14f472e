package config

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belayd/belay/cmd/internal/certtest"
)

// A certificate that was renewed is served without a restart; one that cannot be
// read is not, and /readyz says so.
func TestCertificateRenewal(t *testing.T) {
	dir := t.TempDir()
	ca := certtest.New(t)
	first := ca.Server(t, dir)
	c := &Config{dir: dir, Auth: AuthConfig{TLS: &TLSConfig{CertFile: "tls.crt", KeyFile: "tls.key"}}}
	var log strings.Builder
	k, err := c.NewCertificates(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.TLS = k.Server()
	srv.StartTLS()
	defer srv.Close()
	serial := func() string {
		conn, err := tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // the test looks at the certificate itself
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	if got, want := serial(), first.SerialNumber.String(); got != want {
		t.Fatalf("got certificate %s, want %s", got, want)
	}
	second := ca.Server(t, dir)
	k.Refresh()
	if got, want := serial(), second.SerialNumber.String(); got != want || k.Err() != nil {
		t.Errorf("after a renewal: got certificate %s, %v, want %s", got, k.Err(), want)
	}
	if err := os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.Refresh()
	k.Refresh()
	if got, want := serial(), second.SerialNumber.String(); got != want || k.Err() == nil {
		t.Errorf("after nonsense: got certificate %s, %v, want %s and an error", got, k.Err(), want)
	}
	if n := strings.Count(log.String(), "certificates not taken over"); n != 1 {
		t.Errorf("the error was logged %d times, want once:\n%s", n, log.String())
	}
	third := ca.Server(t, dir)
	k.Refresh()
	if got, want := serial(), third.SerialNumber.String(); got != want || k.Err() != nil {
		t.Errorf("after a good one: got certificate %s, %v, want %s", got, k.Err(), want)
	}
	if err := os.Chmod(filepath.Join(dir, "tls.key"), 0o644); err != nil { //nolint:gosec // what must be refused
		t.Fatal(err)
	}
	if _, err := c.NewCertificates(slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "can be read by others") {
		t.Errorf("a key that everybody reads: got %v", err)
	}
}
