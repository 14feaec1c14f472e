package api

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The bounds of a key set.
const (
	keysMax      = 64               // keys
	keysBodyMax  = 256 << 10        // bytes of a document
	keysFresh    = 10 * time.Minute // how long a set is used without asking
	keysPause    = 30 * time.Second // between two requests, whatever happens
	keysTimeout  = 5 * time.Second  // of a request
	rsaBitsMin   = 2048
	keysStaleMax = 24 * time.Hour // how long a set is used while the issuer is away
)

// A keySet is an issuer's public keys (JWKS), asked for when they are needed and
// kept. It is safe for concurrent use.
type keySet struct {
	issuer string
	url    string // of the set; "" until it was discovered
	client *http.Client

	mu      sync.Mutex
	keys    map[string]crypto.PublicKey // by kid
	fetched time.Time                   // when the keys were read
	asked   time.Time                   // when they were last asked for
	lastErr error
}

// key returns the key of a kid. An unknown kid makes it ask again, but not often:
// tokens from anywhere must not turn into requests to the issuer.
func (k *keySet) key(ctx context.Context, kid string) (crypto.PublicKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	key, known := k.keys[kid]
	if known && now.Sub(k.fetched) < keysFresh {
		return key, nil
	}
	if now.Sub(k.asked) >= keysPause || k.asked.IsZero() {
		k.asked = now
		keys, err := k.fetch(ctx)
		if k.lastErr = err; err == nil {
			k.keys, k.fetched = keys, now
			key, known = keys[kid]
		}
	}
	switch {
	case known && now.Sub(k.fetched) < keysStaleMax:
		return key, nil
	case k.lastErr != nil:
		return nil, fmt.Errorf("keys of %s: %w", k.issuer, k.lastErr)
	}
	return nil, fmt.Errorf("%w: the issuer has no such key", ErrCredentials)
}

// fetch asks the issuer for its keys.
func (k *keySet) fetch(ctx context.Context) (map[string]crypto.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	if k.url == "" {
		var found struct {
			Issuer string `json:"issuer"`
			URI    string `json:"jwks_uri"`
		}
		if err := k.get(ctx, strings.TrimRight(k.issuer, "/")+"/.well-known/openid-configuration", &found); err != nil {
			return nil, err
		}
		if found.Issuer != k.issuer {
			return nil, fmt.Errorf("discover: it calls itself %q", clip(found.Issuer, 200))
		}
		if !strings.HasPrefix(found.URI, "https://") && !strings.HasPrefix(k.issuer, "http://") {
			return nil, errors.New("discover: jwks_uri is not https")
		}
		k.url = found.URI
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := k.get(ctx, k.url, &set); err != nil {
		return nil, err
	}
	keys := map[string]crypto.PublicKey{}
	for _, j := range set.Keys[:min(len(set.Keys), keysMax)] {
		if j.Use != "" && j.Use != "sig" {
			continue
		}
		if key, err := j.public(); err == nil { // a key of a kind that is not used here is skipped
			keys[j.ID] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("read keys: there is none that can be used")
	}
	return keys, nil
}

// get reads one JSON document.
func (k *keySet) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody) //nolint:gosec // from the config, or from the issuer that it names
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	resp, err := k.client.Do(req) //nolint:gosec // the operator names the issuer, and it names its keys
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("read keys: the issuer answered %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, keysBodyMax)).Decode(into); err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	return nil
}

// A jwk is a JSON Web Key (RFC 7517), as far as public keys need it.
type jwk struct {
	Kind  string `json:"kty"`
	ID    string `json:"kid"`
	Use   string `json:"use"`
	Curve string `json:"crv"`
	N     string `json:"n"`
	E     string `json:"e"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

// public is the key; keys that are too weak are refused.
func (j jwk) public() (crypto.PublicKey, error) {
	switch j.Kind {
	case "RSA":
		n, errN := number(j.N)
		e, errE := number(j.E)
		if err := errors.Join(errN, errE); err != nil {
			return nil, err
		}
		if n.BitLen() < rsaBitsMin || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return nil, errors.New("an RSA key that is too weak")
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case "EC":
		curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Curve]
		x, errX := number(j.X)
		y, errY := number(j.Y)
		if err := errors.Join(errX, errY); err != nil || !ok {
			return nil, errors.Join(errors.New("an EC key of an unknown curve"), err)
		}
		size := (curve.Params().BitSize + 7) / 8
		if x.BitLen() > 8*size || y.BitLen() > 8*size {
			return nil, errors.New("an EC key whose point is too large")
		}
		point := append([]byte{4}, x.FillBytes(make([]byte, size))...) // uncompressed
		return ecdsa.ParseUncompressedPublicKey(curve, append(point, y.FillBytes(make([]byte, size))...))
	case "OKP":
		x, err := base64.RawURLEncoding.DecodeString(j.X)
		if err != nil || j.Curve != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("an OKP key that is not Ed25519")
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, fmt.Errorf("a key of kind %q", j.Kind)
}

// number reads a big-endian number in base64url.
func number(s string) (*big.Int, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil || len(b) == 0 || len(b) > 2048 {
		return nil, errors.New("not a number in base64url")
	}
	return new(big.Int).SetBytes(b), nil
}
