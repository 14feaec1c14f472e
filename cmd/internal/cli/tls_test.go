package cli

import (
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/api"
)

// The files of a client certificate are taken from the flags, the environment or
// the context; a context's only for its own server. What is wrong with them is
// said before anything is sent, and never what is in them.
func TestClientCertificateFiles(t *testing.T) {
	s := newShell(t)
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const secret = "MC4CAQAwBQYDK2VwBCIEIs3cret"
	key := file("k.pem", "-----BEGIN PRIVATE KEY-----\n"+secret+"\n-----END PRIVATE KEY-----\n", 0o600)
	open := file("open.pem", "-----BEGIN PRIVATE KEY-----\n"+secret+"\n-----END PRIVATE KEY-----\n", 0o644)
	locked := file("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"+secret+"\n-----END ENCRYPTED PRIVATE KEY-----\n", 0o600)
	cert := file("c.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644)
	large := file("large.pem", strings.Repeat("x", certificateMax+1), 0o600)
	const server = "https://127.0.0.1:1"
	for _, c := range []struct {
		name string
		code int
		says string
		vars map[string]string
		args string
	}{
		{"a key alone", exitUsage, "--key-file: goes with --cert-file", nil, "--key-file " + key},
		{"a key alone, from the environment", exitUsage, "--key-file: goes with --cert-file", map[string]string{"BELAY_KEY_FILE": key}, ""},
		{"no such certificate", exitError, "it does not exist", nil, "--cert-file " + dir + "/none --key-file " + key},
		{"no such key", exitError, "it does not exist", nil, "--cert-file " + cert + " --key-file " + dir + "/none"},
		{"a key that others can read", exitError, "run chmod 600 " + open, nil, "--cert-file " + cert + " --key-file " + open},
		{"a key with a passphrase", exitError, "it is encrypted", nil, "--cert-file " + cert + " --key-file " + locked},
		{"a certificate with no key", exitError, "can be read by others", nil, "--cert-file " + cert},
		{"no certificate", exitError, "read client certificate", map[string]string{"BELAY_CERT_FILE": cert}, "--key-file " + key},
		{"a large file", exitError, "larger than certificates are", nil, "--cert-file " + large},
		{"no authority", exitError, "no certificate in it", map[string]string{"BELAY_CA_FILE": key}, ""},
	} {
		s.vars["BELAY_CERT_FILE"], s.vars["BELAY_KEY_FILE"], s.vars["BELAY_CA_FILE"] = c.vars["BELAY_CERT_FILE"], c.vars["BELAY_KEY_FILE"], c.vars["BELAY_CA_FILE"]
		s.want(c.code, append([]string{"list", "--server", server}, strings.Fields(c.args)...)...)
		if got := s.err.String(); !strings.Contains(got, c.says) || strings.Contains(got, "s3cret") {
			t.Errorf("%s: got %q, want %q and nothing of the key", c.name, got, c.says)
		}
	}
	clear(s.vars)
	s.vars["HOME"] = t.TempDir()
	s.want(exitUsage, "context", "set", "prod", "--server", server, "--key-file", key)
	s.want(exitUsage, "context", "set", "prod", "--server", "http://127.0.0.1:1", "--cert-file", cert)
	s.want(exitOK, "context", "set", "prod", "--server", server, "--cert-file", cert, "--key-file", open)
	if s.want(exitError, "list"); !strings.Contains(s.err.String(), "chmod 600") {
		t.Errorf("the context's key: got %q, want it to be read", s.err.String())
	}
	if got := s.want(exitOK, "context", "list"); !strings.Contains(got, cert) {
		t.Errorf("context list: got %s, want the certificate's file", got)
	}
	d := newFakeDaemon(t, promoted())
	s.want(exitOK, "status", promoted().ID, "--server", d.URL) // the context's is for its own server
	s.want(exitOK, "context", "set", "prod", "--cert-file", locked)
	if s.want(exitError, "list"); !strings.Contains(s.err.String(), "encrypted") {
		t.Errorf("another certificate: got %q, want the key of the one before to be forgotten", s.err.String())
	}
}

// A server that this machine does not trust, or that speaks no TLS, is told from
// one that is away, and not asked again.
func TestNoTrust(t *testing.T) {
	s := newShell(t)
	d := newFakeDaemon(t, promoted())
	secure := httptest.NewUnstartedServer(d.Config.Handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	id := promoted().ID
	s.want(exitOK, "status", id, "--server", secure.URL, "--ca-file", ca)
	_, port, _ := strings.Cut(strings.TrimPrefix(secure.URL, "https://"), ":")
	for server, want := range map[string]string{
		secure.URL:                  "--ca-file",
		"https://localhost:" + port: "use a name in --server",
		strings.Replace(d.URL, "http:", "https:", 1): "use http://",
	} {
		args := []string{"status", id, "--server", server}
		if want != "--ca-file" {
			args = append(args, "--ca-file", ca)
		}
		s.want(exitError, args...)
		if got := s.err.String(); !strings.Contains(got, want) || !strings.Contains(got, api.ErrTLS.Error()) {
			t.Errorf("%s: got %q, want %q", server, got, want)
		}
	}
}
