package blackbox

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// belayd lets people in by client certificate alone. The right certificate starts
// a release and sees it through, by flags, by the environment and by a context;
// without one nobody is known; one of another authority, one that has ended, and
// a server of an authority that is not known here, are refused with what to do.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := certificate(t, dir)
	clients, strangers := newAuthority(t, "clients of belayd"), newAuthority(t, "clients of somebody else")
	clients.write(t, filepath.Join(dir, "clients.crt"))
	for name, a := range map[string]*authority{"ann": clients, "stranger": strangers} {
		a.client(t, dir, name, "ann", time.Now().Add(time.Hour))
	}
	clients.client(t, dir, "mallory", "mallory", time.Now().Add(time.Hour))
	clients.client(t, dir, "ended", "ann", time.Now().Add(-time.Minute))
	config := "auth:\n  tls: {certFile: " + dir + "/tls.crt, keyFile: " + dir + "/tls.key}\n" +
		"  mtls: {clientCAFile: " + dir + "/clients.crt, clients: [{name: ann, commonName: ann, roles: [start, view]}]}\n"
	w := newWorld(t, newEndpoints(t, "recs"), config, policy("recs", "recs", "", "[{weight: 5%, bake: 1s}, {weight: 100%, bake: 1s}]"))
	home := t.TempDir()
	belay := func(vars []string, args ...string) (int, string) {
		t.Helper()
		cmd := exec.Command(w.belay, args...)
		cmd.Env = append(append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="), vars...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run() // the exit code says how it went
		return cmd.ProcessState.ExitCode(), out.String()
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	flags := func(name string) []string {
		return []string{"--server", "https://" + w.address, "--ca-file", server, "--cert-file", in(name + ".crt"), "--key-file", in(name + ".key")}
	}
	if code, out := belay(nil, append([]string{"start", "--policy", "recs", "--candidate", "green", "--version", "1", "--wait"}, flags("ann")...)...); code != 0 || !strings.Contains(out, "promoted") {
		t.Errorf("start --wait: got exit code %d, want 0 and promoted: %s", code, out)
	}
	vars := []string{"BELAY_SERVER=https://" + w.address, "BELAY_CA_FILE=" + server, "BELAY_CERT_FILE=" + in("ann.pem")} // with its key
	if code, out := belay(vars, "list", "--output", "json"); code != 0 || !strings.Contains(out, `"requester": "ann"`) {
		t.Errorf("by the environment: got exit code %d, want 0 and ann as the requester: %s", code, out)
	}
	if code, out := belay(nil, append([]string{"context", "set", "prod"}, flags("ann")...)...); code != 0 {
		t.Fatalf("context set: got exit code %d: %s", code, out)
	}
	if code, out := belay(nil, "list"); code != 0 {
		t.Errorf("by the context: got exit code %d, want 0: %s", code, out)
	}
	home = t.TempDir() // without contexts
	only := []string{"list", "--server", "https://" + w.address}
	for _, c := range []struct {
		name string
		code int
		says string
		args []string
	}{
		{"no certificate", 4, "--cert-file", []string{"--ca-file", server}},
		{"a certificate that nobody knows", 4, "not known", flags("mallory")},
		{"a certificate of another authority", 1, "auth.mtls.clientCAFile", flags("stranger")},
		{"a certificate that has ended", 1, "it ended on", flags("ended")},
		{"a server of an unknown authority", 1, "--ca-file", []string{"--cert-file", in("ann.pem"), "--ca-file", in("clients.crt")}},
		{"a key without its certificate", 2, "--cert-file", []string{"--key-file", in("ann.key")}},
		{"the key of somebody else", 1, "does not match", []string{"--cert-file", in("ann.crt"), "--key-file", in("mallory.key")}},
		{"a certificate without its key", 1, "--key-file", []string{"--cert-file", in("ann.crt")}},
		{"plain HTTP", 2, "https", []string{"--cert-file", in("ann.pem"), "--server", "http://" + w.address}},
	} {
		args := append(append([]string{}, only...), c.args...)
		began := time.Now()
		code, out := belay(nil, args...)
		if code != c.code || !strings.Contains(out, c.says) || strings.Contains(out, "PRIVATE") {
			t.Errorf("%s: got exit code %d, want %d and %q: %s", c.name, code, c.code, c.says, out)
		}
		if took := time.Since(began); c.code == 1 && took > 10*time.Second {
			t.Errorf("%s: took %s, want no further tries", c.name, took)
		}
	}
	if err := os.Chmod(in("ann.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := belay(nil, append([]string{"list"}, flags("ann")...)...); code != 1 || !strings.Contains(out, "chmod 600") {
		t.Errorf("a key that everybody can read: got exit code %d, want 1 and the remedy: %s", code, out)
	}
}

// An authority signs clients' certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign makes a certificate, by itself if there is none yet.
func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, crypto.Signer(key)
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	template.SerialNumber, template.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// write writes the authority's certificate.
func (a *authority) write(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// client writes a client's certificate as name.crt, its key as name.key, and both
// as name.pem.
func (a *authority) client(t *testing.T, dir, name, commonName string, until time.Time) {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: commonName}, NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c, k := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for ext, b := range map[string][]byte{".crt": c, ".key": k, ".pem": append(bytes.Clone(c), k...)} {
		if err := os.WriteFile(filepath.Join(dir, name+ext), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
