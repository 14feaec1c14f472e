package api

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/belayd/belay/rollout/access"
	"github.com/belayd/belay/rollout/person"
)

// issuer is an OIDC issuer with keys of three kinds.
type issuer struct {
	url  string
	rsa  *rsa.PrivateKey
	ec   *ecdsa.PrivateKey
	ed   ed25519.PrivateKey
	asks atomic.Int32
	down atomic.Bool
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	var err1, err2, err3 error
	i.rsa, err1 = rsa.GenerateKey(rand.Reader, 2048)
	i.ec, err2 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, i.ed, err3 = ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(i)
	i.url = s.URL
	t.Cleanup(s.Close)
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.asks.Add(1)
	if i.down.Load() {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.url, "jwks_uri": i.url + "/keys"})
		return
	}
	_, _ = w.Write(i.jwks())
}

// jwks are the public keys, with some that nobody should use among them.
func (i *issuer) jwks() []byte {
	b64 := base64.RawURLEncoding.EncodeToString
	point, _ := i.ec.PublicKey.Bytes()
	b, _ := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": "rsa", "use": "sig", "n": b64(i.rsa.N.Bytes()), "e": b64(big.NewInt(int64(i.rsa.E)).Bytes())},
		{"kty": "EC", "kid": "ec", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
		{"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(i.ed.Public().(ed25519.PublicKey))},
		{"kty": "RSA", "kid": "weak", "n": b64(big.NewInt(3233).Bytes()), "e": "AQAB"},
		{"kty": "EC", "kid": "off", "crv": "P-256", "x": "AQ", "y": "AQ"},
		{"kty": "oct", "kid": "oct", "k": "c2VjcmV0"},
		{"kty": "RSA", "kid": "enc", "use": "enc", "n": b64(i.rsa.N.Bytes()), "e": "AQAB"},
	}})
	return b
}

// token signs claims; change edits the good ones before.
func (i *issuer) token(t *testing.T, method jwt.SigningMethod, kid string, key any, change func(jwt.MapClaims)) string {
	t.Helper()
	now := time.Now()
	claims := jwt.MapClaims{
		"iss": i.url, "aud": []string{"belay"}, "sub": "u-17", "exp": now.Add(time.Minute).Unix(), "iat": now.Unix(), "nbf": now.Unix(),
		"name": "Ann", "groups": []string{"owners", "sre"},
	}
	if change != nil {
		change(claims)
	}
	tok := jwt.NewWithClaims(method, claims)
	tok.Header["kid"] = kid
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (i *issuer) oidc(t *testing.T, change func(*OIDCConfig)) *OIDC {
	t.Helper()
	c := OIDCConfig{
		Issuer: i.url, Audience: "belay", Client: http.DefaultClient,
		Grants: []OIDCGrant{
			{Grant: Grant{Roles: []Role{RoleView}}},
			{Group: "sre", Grant: Grant{Roles: []Role{RoleOperate}}},
			{Group: "nobody", Grant: Grant{Roles: []Role{RoleAdmin}}},
			{Subject: "u-17", Grant: Grant{Roles: []Role{RoleApprove}, Labels: map[string]string{"team": "a"}}},
		},
	}
	if change != nil {
		change(&c)
	}
	o, err := NewOIDC(c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func bearer(token string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// A good token is its subject, with the groups and rights that it has.
func TestOIDC(t *testing.T) {
	i := newIssuer(t)
	o := i.oidc(t, func(c *OIDCConfig) { c.Algorithms = []string{"RS256", "ES256", "EdDSA"} })
	for kid, tok := range map[string]string{
		"rsa": i.token(t, jwt.SigningMethodRS256, "rsa", i.rsa, nil),
		"ec":  i.token(t, jwt.SigningMethodES256, "ec", i.ec, nil),
		"ed":  i.token(t, jwt.SigningMethodEdDSA, "ed", i.ed, nil),
	} {
		a, err := o.Authenticate(bearer(tok))
		if err != nil {
			t.Fatalf("%s: %v", kid, err)
		}
		if a.Person.ID != "oidc:u-17" || a.Person.Name != "Ann" || !slices.Equal(a.Person.Groups, []string{"owners", "sre"}) {
			t.Errorf("%s: got %+v", kid, a.Person)
		}
		for _, c := range []struct {
			role   Role
			labels map[string]string
			want   bool
		}{{RoleView, nil, true}, {RoleOperate, nil, true}, {RoleApprove, map[string]string{"team": "a"}, true}, {RoleApprove, nil, false}, {RoleAdmin, nil, false}, {RoleStart, nil, false}} {
			if got := a.May(c.labels, c.role); got != c.want {
				t.Errorf("%s: may %s of %v: got %v, want %v", kid, c.role, c.labels, got, c.want)
			}
		}
	}
	if n := i.asks.Load(); n != 2 {
		t.Errorf("requests to the issuer: got %d, want 2: the configuration and the keys, once", n)
	}
	mapped := i.oidc(t, func(c *OIDCConfig) {
		c.Person = func(string) (person.Person, []string) {
			return person.Person{ID: "ann", Groups: []string{"index"}}, []string{"U1"}
		}
	})
	a, err := mapped.Authenticate(bearer(i.token(t, jwt.SigningMethodRS256, "rsa", i.rsa, nil)))
	if err != nil || a.Person.ID != "ann" || !slices.Equal(a.Names, []string{"U1"}) || !slices.Equal(a.Person.Groups, []string{"index", "owners", "sre"}) {
		t.Errorf("mapped person: got %+v, %v", a.Person, err)
	}
}

// What is wrong with a token is said without the token; forgeries of every usual
// kind are refused.
func TestOIDCRefusals(t *testing.T) {
	i := newIssuer(t)
	o := i.oidc(t, nil)
	rs, other := jwt.SigningMethodRS256, func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k }()
	publicDER, err := x509.MarshalPKIXPublicKey(i.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	set := func(k string, v any) func(jwt.MapClaims) { return func(c jwt.MapClaims) { c[k] = v } }
	cut := func(k string) func(jwt.MapClaims) { return func(c jwt.MapClaims) { delete(c, k) } }
	past, future := time.Now().Add(-time.Hour).Unix(), time.Now().Add(time.Hour).Unix()
	for name, c := range map[string]struct{ token, want string }{
		"expired":              {i.token(t, rs, "rsa", i.rsa, set("exp", past)), "expired"},
		"no expiry":            {i.token(t, rs, "rsa", i.rsa, cut("exp")), "lacks a claim"},
		"not yet":              {i.token(t, rs, "rsa", i.rsa, set("nbf", future)), "not valid yet"},
		"from the future":      {i.token(t, rs, "rsa", i.rsa, set("iat", future)), "issued in the future"},
		"another issuer":       {i.token(t, rs, "rsa", i.rsa, set("iss", "https://evil.example")), "another issuer"},
		"another audience":     {i.token(t, rs, "rsa", i.rsa, set("aud", "shop")), "another audience"},
		"no audience":          {i.token(t, rs, "rsa", i.rsa, cut("aud")), "lacks a claim"},
		"no subject":           {i.token(t, rs, "rsa", i.rsa, cut("sub")), "no subject"},
		"a subject with nul":   {i.token(t, rs, "rsa", i.rsa, set("sub", "a\x00")), "no subject"},
		"another key":          {i.token(t, rs, "rsa", other, nil), "signature"},
		"an unknown key":       {i.token(t, rs, "nope", i.rsa, nil), "no key"},
		"a weak key":           {i.token(t, rs, "weak", i.rsa, nil), "no key"},
		"a key for encryption": {i.token(t, rs, "enc", i.rsa, nil), "no key"},
		"unsigned":             {i.token(t, jwt.SigningMethodNone, "rsa", jwt.UnsafeAllowNoneSignatureType, nil), "signature"},
		"public key as secret": {i.token(t, jwt.SigningMethodHS256, "rsa", publicDER, nil), "signature"},
		"alg not pinned":       {i.token(t, jwt.SigningMethodRS512, "rsa", i.rsa, nil), "signature"},
		"a claim twice":        {twice(t, i, `"sub":"u-18"`), "stands twice"},
		"a claim twice within": {twice(t, i, `"more":{"a":1,"a":2}`), "stands twice"},
		"the key of another":   {i.token(t, jwt.SigningMethodES256, "rsa", i.ec, nil), "signature"},
	} {
		_, err := o.Authenticate(bearer(c.token))
		if !errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "u-17") {
			t.Errorf("%s: got %v, want ErrCredentials that says %q", name, err, c.want)
		}
	}
	for _, tok := range []string{"opaque", "a.b.c", "..", strings.Repeat("x", jwtMax) + ".y.z"} {
		if _, err := o.Authenticate(bearer(tok)); !errors.Is(err, ErrNoCredentials) {
			t.Errorf("%.20q: got %v, want ErrNoCredentials: it is not a JWT", tok, err)
		}
	}
	static := Tokens{{SHA256: sha256.Sum256([]byte("a.b.c")), Actor: Actor{Person: person.Person{ID: "ci"}}}}
	if a, err := (Any{o, static}).Authenticate(bearer("a.b.c")); err != nil || a.Person.ID != "ci" {
		t.Errorf("a token that only looks like a JWT: got %+v, %v", a, err)
	}
}

// twice is a token of the issuer with more in its claims than a map can hold.
func twice(t *testing.T, i *issuer, more string) string {
	t.Helper()
	parts := strings.Split(i.token(t, jwt.SigningMethodRS256, "rsa", i.rsa, nil), ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	text := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte("{"+more+","+string(claims[1:])))
	signed, err := jwt.SigningMethodRS256.Sign(text, i.rsa)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signed)
}

// transport answers for an issuer without a socket, so that time can be faked.
type transport struct{ *issuer }

func (tr transport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	tr.ServeHTTP(w, r)
	return w.Result(), nil
}

// Unknown keys do not turn into a request each, new keys are found, and an issuer
// that is away for a while locks nobody out whose key is known.
func TestOIDCKeyCache(t *testing.T) {
	i := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		o := i.oidc(t, func(c *OIDCConfig) { c.Client = &http.Client{Transport: transport{i}} })
		good := func() string { return i.token(t, jwt.SigningMethodRS256, "rsa", i.rsa, nil) }
		bad := func() string { return i.token(t, jwt.SigningMethodRS256, "other", i.rsa, nil) }
		check := func(what, token string, want error, asks int32) {
			t.Helper()
			_, err := o.Authenticate(bearer(token))
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("%s: got %v, want %v", what, err, want)
			}
			if got := i.asks.Swap(0); got != asks {
				t.Errorf("%s: got %d requests to the issuer, want %d", what, got, asks)
			}
		}
		i.down.Store(true)
		var p *ProblemDetails
		if _, err := o.Authenticate(bearer(good())); !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable {
			t.Errorf("an issuer that is away: got %v, want 503", err)
		}
		i.asks.Store(0)
		i.down.Store(false)
		time.Sleep(keysPause)
		check("the issuer is back", good(), nil, 2)
		check("a second token", good(), nil, 0)
		check("an unknown key at once", bad(), ErrCredentials, 0)
		time.Sleep(keysPause)
		check("an unknown key later", bad(), ErrCredentials, 1)
		check("and again", bad(), ErrCredentials, 0)
		time.Sleep(keysFresh)
		check("keys that are old", good(), nil, 1)
		i.down.Store(true)
		time.Sleep(keysFresh)
		check("keys that are old and the issuer away", good(), nil, 1)
		time.Sleep(keysStaleMax)
		if _, err := o.Authenticate(bearer(good())); !errors.As(err, &p) {
			t.Errorf("keys of the day before yesterday: got %v, want 503", err)
		}
	})
}

// slow is an issuer that takes its time.
type slow struct {
	transport
	takes atomic.Int64 // nanoseconds
}

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(time.Duration(s.takes.Load())):
		return s.transport.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// Requests of strangers that are given up do not count as tries, many at once are
// one, and whose key is known does not wait for a slow issuer, nor for a dead one.
func TestOIDCStrangersKeepNobodyOut(t *testing.T) {
	i := newIssuer(t)
	synctest.Test(t, func(t *testing.T) {
		tr := &slow{transport: transport{i}}
		o := i.oidc(t, func(c *OIDCConfig) { c.Client = &http.Client{Transport: tr} })
		good := i.token(t, jwt.SigningMethodRS256, "rsa", i.rsa, func(c jwt.MapClaims) { c["exp"] = time.Now().Add(48 * time.Hour).Unix() })
		stranger := func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			_, err := o.Authenticate(bearer(i.token(t, jwt.SigningMethodRS256, "other", i.rsa, nil)).WithContext(ctx))
			if err == nil {
				t.Error("a stranger: got in")
			}
		}
		in := func(what string, most time.Duration) {
			t.Helper()
			began := time.Now()
			if _, err := o.Authenticate(bearer(good)); err != nil || time.Since(began) > most {
				t.Errorf("%s: got %v after %s, want in within %s", what, err, time.Since(began), most)
			}
		}
		tr.takes.Store(int64(150 * time.Millisecond))
		for range 20 { // a fresh daemon, and somebody who hangs up every 100 ms
			stranger()
			time.Sleep(70 * time.Millisecond)
		}
		in("after strangers who hung up", 0)
		synctest.Wait()
		if n := i.asks.Load(); n != 2 {
			t.Errorf("requests to the issuer: got %d, want 2: the configuration and the keys", n)
		}
		tr.takes.Store(int64(4500 * time.Millisecond))
		time.Sleep(keysPause)
		go stranger()
		synctest.Wait()
		in("while a slow issuer is asked for a stranger's key", 0)
		for range 30 { // a minute and a half each
			time.Sleep(keysPause * 3)
			go stranger()
			in("a slow issuer, all the while", 0)
		}
		tr.takes.Store(int64(time.Hour))
		time.Sleep(keysFresh * 3)
		in("a dead issuer, after a while of silence", keysTimeout)
		for range 20 {
			time.Sleep(keysRetry * 2)
			in("a dead issuer, all the while", 0)
		}
		time.Sleep(keysStaleMax)
		if _, err := o.Authenticate(bearer(good)); problemOf(err).Status != http.StatusServiceUnavailable || strings.Contains(problemOf(err).Detail, i.url) {
			t.Errorf("keys of the day before yesterday: got %v, want 503 without the issuer's words", err)
		}
		time.Sleep(time.Hour) // all who asked are done
	})
}

func TestNewOIDCChecks(t *testing.T) {
	for want, c := range map[string]OIDCConfig{
		"issuer: ":     {Issuer: "http://login.example", Audience: "b", Client: http.DefaultClient},
		"audience: ":   {Issuer: "https://login.example", Client: http.DefaultClient},
		"algorithms: ": {Issuer: "https://login.example", Audience: "b", Client: http.DefaultClient, Algorithms: []string{"HS256"}},
		"client: ":     {Issuer: "https://login.example", Audience: "b"},
	} {
		if _, err := NewOIDC(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewOIDC(%+v): got %v, want %q", c, err, want)
		}
	}
}

// A certificate that the server's authority signed is whoever it is mapped to;
// one that is mapped to nobody is refused.
func TestClientCertificates(t *testing.T) {
	ca, caKey := certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	spiffe, err := url.Parse("spiffe://example/ci")
	if err != nil {
		t.Fatal(err)
	}
	viewer := func(id string) Actor {
		return Actor{Person: person.Person{ID: id, Via: "mtls"}, Grants: []Grant{{Roles: []Role{RoleView}}}}
	}
	r := serve(t, Config{Auth: Any{ClientCertificates{
		{URI: "spiffe://example/ci", Actor: viewer("ci")}, {DNS: "host.example", Actor: viewer("host")}, {CommonName: "ann", Actor: viewer("ann")},
	}, actors()}})
	s := httptest.NewUnstartedServer(r.Server)
	s.TLS = &tls.Config{ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
	s.StartTLS()
	defer s.Close()
	for name, c := range map[string]struct {
		template *x509.Certificate
		want     int
	}{
		"spiffe":  {&x509.Certificate{URIs: []*url.URL{spiffe}}, 200},
		"dns":     {&x509.Certificate{DNSNames: []string{"other.example", "host.example"}}, 200},
		"name":    {&x509.Certificate{Subject: pkix.Name{CommonName: "ann"}}, 200},
		"unknown": {&x509.Certificate{Subject: pkix.Name{CommonName: "eve"}}, 401},
		"none":    {nil, 401},
	} {
		client := s.Client()
		config := &tls.Config{RootCAs: client.Transport.(*http.Transport).TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}
		if c.template != nil {
			leaf, key := certificate(t, c.template, ca, caKey)
			config.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}
		}
		resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config}}).Get(s.URL + "/v1/policies")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.want {
			t.Errorf("%s: got %d, want %d", name, resp.StatusCode, c.want)
		}
	}
}

// certificate makes a certificate, signed by a parent or by itself.
func certificate(t *testing.T, template, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// FuzzOIDC: whatever a token looks like, it is refused without a panic, and never
// accepted.
func FuzzOIDC(f *testing.F) {
	f.Add("e30.e30.")
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.")
	f.Add("eyJhbGciOiJSUzI1NiIsImtpZCI6MX0.e30.AA")
	o, err := NewOIDC(OIDCConfig{Issuer: "https://login.example", Audience: "belay", Client: &http.Client{Transport: transport{&issuer{}}}, Grants: []OIDCGrant{{Grant: Grant{Roles: access.Roles}}}})
	if err != nil {
		f.Fatal(err)
	}
	o.keys.answered = time.Now().Add(time.Hour) // no issuer is asked
	f.Fuzz(func(t *testing.T, token string) {
		if a, err := o.Authenticate(bearer(strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return '_'
			}
			return r
		}, token))); err == nil {
			t.Errorf("%q: got %+v, want an error", token, a)
		}
	})
}
