package blackbox

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// belayd behind its own certificate, belay with a context that knows server,
// authority and token: a release is started and watched to its end. Who does not
// know the authority gets nowhere, and neither token nor plain HTTP gets through.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority := certificate(t, dir)
	e := newEndpoints(t, "recs")
	config := strings.Replace(tokens(map[string]string{"ci": "start"}), "auth:\n", "auth:\n  tls: {certFile: "+dir+"/tls.crt, keyFile: "+dir+"/tls.key}\n", 1)
	w := newWorld(t, e, config, policy("recs", "recs", "", "[{weight: 5%, bake: 2s}, {weight: 100%, bake: 2s}]"))
	w.write("token-ci", tokenOf("ci")+"\n")
	belay := func(args ...string) (int, string) {
		t.Helper()
		cmd := exec.Command(w.belay, args...)
		cmd.Env = append(os.Environ(), "HOME="+w.dir, "XDG_CONFIG_HOME=")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run() // the exit code says how it went
		return cmd.ProcessState.ExitCode(), out.String()
	}
	if code, out := belay("context", "set", "prod", "--server", "https://"+w.address, "--ca-file", authority, "--token-file", filepath.Join(w.dir, "token-ci")); code != 0 {
		t.Fatalf("context: got exit code %d: %s", code, out)
	}
	if code, out := belay("context", "use", "prod"); code != 0 {
		t.Fatalf("context use: got exit code %d: %s", code, out)
	}
	if code, out := belay("start", "--policy", "recs", "--candidate", "green", "--version", "1", "--wait"); code != 0 || !strings.Contains(out, "promoted") {
		t.Errorf("start --wait: got exit code %d, want 0 and promoted: %s", code, out)
	}
	if code, out := w.run("ci", "list"); code != 1 || strings.Contains(out, tokenOf("ci")) {
		t.Errorf("list over plain HTTP: got exit code %d, want 1: %s", code, out)
	}
	if err := os.Remove(filepath.Join(w.dir, "token-ci")); err != nil {
		t.Fatal(err)
	}
	w.write("token-ci", "another\n")
	if code, out := belay("list"); code != 4 || strings.Contains(out, "another") {
		t.Errorf("list with another token: got exit code %d, want 4: %s", code, out)
	}
	w.dir = t.TempDir() // a home without contexts
	w.write("token", tokenOf("ci")+"\n")
	if code, out := belay("list", "--server", "https://"+w.address, "--token-file", filepath.Join(w.dir, "token")); code != 1 || !strings.Contains(out, "certificate") {
		t.Errorf("list without the authority: got exit code %d, want 1 and why: %s", code, out)
	}
}

// certificate writes a certificate for this machine that signs itself, and its
// key; it returns the certificate's file.
func certificate(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "belayd"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "tls.crt")
	for name, block := range map[string]*pem.Block{file: {Type: "CERTIFICATE", Bytes: cert}, filepath.Join(dir, "tls.key"): {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}
