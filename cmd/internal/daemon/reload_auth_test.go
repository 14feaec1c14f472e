package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/cmd/internal/certtest"
)

// The issuer is away when somebody is given a name: its keys are known already, so
// that everybody still gets in, as who they are by now. What the keys are worth
// follows the config too, and those of another issuer are not taken for its own.
func TestReloadKeepsIssuerKeys(t *testing.T) {
	is, other := newIssuer(t), newIssuer(t)
	s := at(newEstate().place(t), "ann")
	with := func(issuer *issuer, roles, more string) settings {
		s.people = "  oidc: {issuer: '" + issuer.URL + "', audience: belay, algorithms: [ES256], grants: [{subject: eve, roles: [" + roles + "]}]}\n" + more
		return s
	}
	b := run(t, with(is, "view", ""))
	const cooldown = "/v1/endpoints/edge/recs/cooldown?reason=test"
	ask := func(method, path string, issuer *issuer) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+b.address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+issuer.token(t, "eve", "belay"))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if code, body := ask("DELETE", cooldown, is); code != http.StatusForbidden || !strings.Contains(body, "oidc:eve has none") {
		t.Fatalf("before: got %d %s", code, body)
	}
	is.Close()
	b.take(with(is, "view", "people: [{id: eve.smith, oidc: eve}]\n"))
	if code, body := ask("DELETE", cooldown, is); code != http.StatusForbidden || !strings.Contains(body, "eve.smith has none") {
		t.Errorf("with a name: got %d %s, want 403 to eve.smith", code, body)
	}
	b.take(with(is, "admin", ""))
	if code, body := ask("GET", "/v1/rollouts", is); code != http.StatusOK {
		t.Errorf("with another grant: got %d %s, want 200", code, body)
	}
	b.take(with(other, "admin", ""))
	if code, body := ask("GET", "/v1/rollouts", is); code != http.StatusUnauthorized {
		t.Errorf("a token of the issuer before: got %d %s, want 401", code, body)
	}
	if code, body := ask("GET", "/v1/rollouts", other); code != http.StatusOK {
		t.Errorf("a token of the new issuer: got %d %s, want 200", code, body)
	}
}

// An authority that is believed no more lets nobody in: not by a connection that
// was opened before, nor by one that resumes it.
func TestReloadAuthority(t *testing.T) {
	p := newEstate().place(t)
	dir := t.TempDir()
	first, second := certtest.New(t), certtest.New(t)
	first.Server(t, dir)
	certtest.WritePEM(t, filepath.Join(dir, "first.pem"), "CERTIFICATE", first.Cert.Raw)
	certtest.WritePEM(t, filepath.Join(dir, "second.pem"), "CERTIFICATE", second.Cert.Raw)
	s := at(p, "ann")
	believing := func(file string) settings {
		s.people = "  tls: {certFile: '" + dir + "/tls.crt', keyFile: '" + dir + "/tls.key'}\n" +
			"  mtls: {clientCAFile: '" + dir + "/" + file + "', clients: [{name: robot, commonName: robot, roles: [view]}]}\n"
		return s
	}
	b := run(t, believing("first.pem"))
	roots := x509.NewCertPool()
	roots.AddCert(first.Cert)
	cert, key := first.Sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "robot"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4),
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	open := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	ask := func(c *http.Client) int {
		t.Helper()
		resp, err := c.Get("https://" + b.address + "/v1/rollouts")
		if err != nil {
			return 0 // the handshake was refused
		}
		defer func() { _ = resp.Body.Close() }()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	if got := ask(open); got != http.StatusOK {
		t.Fatalf("before: got %d, want 200", got)
	}
	b.take(believing("first.pem"))
	if got := ask(open); got != http.StatusOK {
		t.Fatalf("nothing changed: got %d, want 200", got)
	}
	b.take(believing("second.pem"))
	if got := ask(open); got != http.StatusUnauthorized {
		t.Errorf("the open connection: got %d, want 401", got)
	}
	resumed := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	if got := ask(resumed); got == http.StatusOK {
		t.Error("a resumed connection: got 200")
	}
}

// Streams that are open end with the right that they were opened by: a token that
// is taken out of the config, a client certificate that is, and a JWT that expires.
// One whose right stays goes on.
func TestOpenStreamsEnd(t *testing.T) {
	is, p, dir := newIssuer(t), newEstate().place(t), t.TempDir()
	authority := certtest.New(t)
	authority.Server(t, dir)
	certtest.WritePEM(t, filepath.Join(dir, "clients.pem"), "CERTIFICATE", authority.Cert.Raw)
	s := at(p, "ann", "bob")
	with := func(clients string, tokens ...string) settings {
		s.tokens = tokens
		s.people = "  tls: {certFile: '" + dir + "/tls.crt', keyFile: '" + dir + "/tls.key'}\n" +
			"  mtls: {clientCAFile: '" + dir + "/clients.pem', clients: [" + clients + "{name: other, commonName: other, roles: [view]}]}\n" +
			"  oidc: {issuer: '" + is.URL + "', audience: belay, algorithms: [ES256], grants: [{everyone: true, roles: [view]}]}\n"
		return s
	}
	b := run(t, with("{name: robot, commonName: robot, roles: [view]}, ", "ann", "bob"))
	roots := x509.NewCertPool()
	roots.AddCert(authority.Cert)
	open := func(bearer string, certs ...tls.Certificate) <-chan struct{} {
		t.Helper()
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, Certificates: certs}}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+b.address+"/v1/events", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		resp, err := c.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("open a stream: got %v, %v", resp, err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, resp.Body) // how it ends does not matter
			_ = resp.Body.Close()
		}()
		return ended
	}
	cert, key := authority.Sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "robot"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	streams := map[string]<-chan struct{}{
		"a JWT that expires":         open(is.tokenUntil(t, time.Now().Add(3*time.Second-leeway), "eve", "belay")),
		"a token taken out":          open(tokenOf("bob")),
		"a certificate taken out":    open("", tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}),
		"a JWT that is still valid":  open(is.token(t, "eve", "belay")),
		"a token that has its right": open(tokenOf("ann")),
	}
	b.take(with("", "ann"))
	deadline := time.After(20 * time.Second)
	for _, name := range []string{"a JWT that expires", "a token taken out", "a certificate taken out"} {
		select {
		case <-streams[name]:
		case <-deadline:
			t.Errorf("%s: 20 s later the stream goes on", name)
		}
	}
	for _, name := range []string{"a JWT that is still valid", "a token that has its right"} {
		select {
		case <-streams[name]:
			t.Errorf("%s: the stream has ended", name)
		default:
		}
	}
}
