package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/belayd/belay/cmd/internal/certtest"
	"github.com/belayd/belay/rollout/realtest"
)

// An issuer is an OpenID Connect issuer on loopback.
type issuer struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	_, key := (&certtest.Authority{}).Sign(t, &x509.Certificate{})
	is := &issuer{key: key}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	is.Server = realtest.HTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var doc any = map[string]string{"issuer": is.URL, "jwks_uri": is.URL + "/keys"}
		if r.URL.Path == "/keys" {
			enc := base64.RawURLEncoding
			doc = map[string]any{"keys": []map[string]string{{"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig", "x": enc.EncodeToString(point[1:33]), "y": enc.EncodeToString(point[33:])}}}
		}
		if err := json.NewEncoder(w).Encode(doc); err != nil {
			t.Error(err)
		}
	}))
	return is
}

func (is *issuer) token(t *testing.T, subject, audience string, groups ...string) string {
	t.Helper()
	return is.tokenUntil(t, time.Now().Add(time.Minute), subject, audience, groups...)
}

// leeway is for how long a token is taken after it has expired.
const leeway = 30 * time.Second

func (is *issuer) tokenUntil(t *testing.T, until time.Time, subject, audience string, groups ...string) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": is.URL, "sub": subject, "aud": audience, "exp": until.Unix(), "groups": groups})
	tok.Header["kid"] = "k1"
	s, err := tok.SignedString(is.key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serveConfig runs a daemon with more lines in its config until the test ends.
func serveConfig(t *testing.T, file, more string) (address string, log *lockedBuilder) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	if report, ok := CheckConfig(file); !ok {
		t.Fatalf("check-config: %s", report)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	log = &lockedBuilder{}
	go func() {
		done <- Run(ctx, Options{ConfigFile: file, Version: "test", Logger: slog.New(slog.NewTextHandler(log, nil)), Ready: func(a string) { ready <- a }})
	}()
	select {
	case address = <-ready:
	case err := <-done:
		t.Fatalf("run: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return address, log
}

// Everybody comes in over TLS by the credential they have: a token, the issuer's
// JWT, a certificate. Each is the person that the config says, and what is not
// theirs is refused. None of it shows in the log.
func TestAuth(t *testing.T) {
	file := home(t)
	dir := filepath.Dir(file)
	ca, foreign, is := certtest.New(t), certtest.New(t), newIssuer(t)
	ca.Server(t, dir)
	certtest.WritePEM(t, filepath.Join(dir, "clients.pem"), "CERTIFICATE", ca.Cert.Raw)
	sum := sha256.Sum256([]byte(canary))
	address, log := serveConfig(t, file, `
auth:
  tls: {certFile: tls.crt, keyFile: tls.key}
  tokens: [{name: ci, roles: [view], sha256: `+hex.EncodeToString(sum[:])+`}]
  oidc:
    issuer: `+is.URL+`
    audience: belay
    algorithms: [ES256]
    grants: [{group: sre, roles: [operate]}, {subject: ann, roles: [view]}]
  mtls:
    clientCAFile: clients.pem
    clients: [{name: robot, commonName: robot, roles: [view]}]
people:
  - {id: ann@example.org, oidc: ann}
`)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	ask := func(method, path, bearer string, signer *certtest.Authority, name string) (int, string) {
		config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		if signer != nil {
			cert, key := signer.Sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			config.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
		}
		tr := &http.Transport{TLSClientConfig: config}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	const cooldown = "/v1/endpoints/edge/recs/cooldown?reason=test"
	for _, c := range []struct {
		name, method, path, bearer string
		signer                     *certtest.Authority
		common                     string
		want                       int
		says                       string
	}{
		{"nobody", "GET", "/v1/rollouts", "", nil, "", 401, "send a bearer token"},
		{"the probe", "GET", "/healthz", "", nil, "", 200, ""},
		{"a token", "GET", "/v1/rollouts", canary, nil, "", 200, ""},
		{"a token without the role", "DELETE", cooldown, canary, nil, "", 403, "ci has none of the roles"},
		{"another token", "GET", "/v1/rollouts", "wrong", nil, "", 401, "the token is not known"},
		{"a JWT by subject", "GET", "/v1/rollouts", is.token(t, "ann", "belay"), nil, "", 200, ""},
		{"a JWT is the person of people", "DELETE", cooldown, is.token(t, "ann", "belay"), nil, "", 403, "ann@example.org has none of the roles"},
		{"a JWT by group", "GET", "/v1/rollouts", is.token(t, "eve", "belay", "sre"), nil, "", 200, ""},
		{"a JWT without a grant", "GET", "/v1/rollouts", is.token(t, "eve", "belay", "others"), nil, "", 403, "oidc:eve has none"},
		{"a JWT for another audience", "GET", "/v1/rollouts", is.token(t, "ann", "other"), nil, "", 401, "another audience"},
		{"a certificate", "GET", "/v1/rollouts", "", ca, "robot", 200, ""},
		{"a certificate without the role", "DELETE", cooldown, "", ca, "robot", 403, "robot has none"},
		{"another certificate", "GET", "/v1/rollouts", "", ca, "mallory", 401, "not known"},
		{"a certificate of another authority", "GET", "/v1/rollouts", "", foreign, "robot", 0, "certificate"},
	} {
		got, body := ask(c.method, c.path, c.bearer, c.signer, c.common)
		if got != c.want || !strings.Contains(body, c.says) {
			t.Errorf("%s: got %d %s, want %d with %q", c.name, got, body, c.want, c.says)
		}
		if strings.Contains(body, canary) {
			t.Errorf("%s: the token is in the answer: %s", c.name, body)
		}
	}
	if resp, err := http.Get("http://" + address + "/v1/rollouts"); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("plain HTTP is answered")
		}
	}
	if got := log.String(); strings.Contains(got, canary) || !strings.Contains(got, "auth is configured: tokens, oidc, mtls, tls") {
		t.Errorf("the log: %s", got)
	}
}

// What is wrong with auth is said with the place and the remedy.
func TestAuthConfig(t *testing.T) {
	token := "{name: ci, roles: [view], sha256: " + strings.Repeat("ab", 32) + "}"
	for _, c := range []struct{ auth, says string }{
		{"tokens: [{name: ci, roles: [root], sha256: ab}]", "auth.tokens[0].roles: want one of view, start, approve, operate, admin"},
		{"tokens: [{name: ci, roles: [view], sha256: abc}]", "auth.tokens[0].sha256: want a SHA-256 in hex"},
		{"mtls: {clientCAFile: ca.pem, clients: [{name: a, commonName: a, roles: [view]}]}", "add auth.tls"},
		{"oidc: {issuer: 'http://issuer.example', audience: belay, grants: [{everyone: true, roles: [view]}]}", "auth.oidc: issuer: want an https address"},
		{"oidc: {issuer: 'https://issuer.example', audience: belay, algorithms: [none], grants: [{everyone: true, roles: [view]}]}", `algorithms: want some of`},
		{"oidc: {issuer: 'https://issuer.example', audience: belay, algorithms: [HS256], grants: [{everyone: true, roles: [view]}]}", `algorithms: want some of`},
		{"oidc: {issuer: 'https://issuer.example', audience: belay, grants: [{roles: [view]}]}", "auth.oidc.grants[0]: want a subject, a group, or everyone: true"},
		{"oidc: {issuer: 'https://issuer.example', grants: [{everyone: true, roles: [view]}]}", "audience"},
		{"tokens: [" + token + "]\n  tls: {certFile: no.crt, keyFile: no.key}", "auth.tls.keyFile: no such file; its name"},
	} {
		file := home(t)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(text, "\nauth:\n  "+c.auth+"\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		if report, ok := CheckConfig(file); ok || !strings.Contains(report, c.says) {
			t.Errorf("auth %s: got %v, want a report with %q:\n%s", c.auth, ok, c.says, report)
		}
	}
	for _, line := range []string{"events: {nats: {url: 'nats://belay:" + canary + "@[::bad'}}", "triggers: [{nats: {url: 'nats://belay:" + canary + "@[::bad', stream: S, subject: s}}]"} {
		file := home(t)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		before, _, _ := strings.Cut(string(text), "triggers:")
		if err := os.WriteFile(file, []byte(before+line), 0o600); err != nil {
			t.Fatal(err)
		}
		if report, ok := CheckConfig(file); ok || strings.Contains(report, canary) || !strings.Contains(report, "nats.url: want") {
			t.Errorf("%s: got %v:\n%s", line, ok, report)
		}
	}
}
