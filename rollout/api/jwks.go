package api

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/belayd/belay/analysis/unique"
)

// The bounds of a key set.
const (
	keysMax      = 64               // keys
	keysBodyMax  = 256 << 10        // bytes of a document
	keysRenew    = 5 * time.Minute  // after which a set is renewed while it is used
	keysFresh    = 10 * time.Minute // for how long a set is used without an answer of the issuer
	keysPause    = 30 * time.Second // between two requests, whatever happens
	keysRetry    = 5 * time.Second  // the same after one that failed
	keysTimeout  = 5 * time.Second  // of a request
	rsaBitsMin   = 2048
	keysStaleMax = 24 * time.Hour // how long a set is used while the issuer is away
)

// A keySet is an issuer's public keys (JWKS), asked for when they are needed and
// kept. The issuer is asked by one at a time, for all who wait; whoever gives up
// waiting changes nothing for the others, and whose key is known does not wait for
// a slow issuer. It is safe for concurrent use.
type keySet struct {
	issuer string
	client *http.Client

	mu       sync.Mutex
	url      string                      // of the set; "" until it was discovered
	keys     map[string]crypto.PublicKey // by kid
	fetched  time.Time                   // when the keys were read
	answered time.Time                   // when the issuer was last asked to the end, keys or not
	lastErr  error                       // of that time
	asking   chan struct{}               // closed when the one who asks is done; nil while nobody does
}

// key returns the key of a kid. An unknown kid makes it ask again, but not often:
// tokens from anywhere must not turn into requests to the issuer.
func (k *keySet) key(ctx context.Context, kid string) (crypto.PublicKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	_, known := k.keys[kid]
	if !known || now.Sub(k.fetched) >= keysRenew {
		k.ask(now)
	}
	if k.asking != nil && (!known || now.Sub(k.answered) >= keysFresh) {
		done := k.asking
		k.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
		}
		k.mu.Lock()
	}
	key, known := k.keys[kid]
	switch {
	case known && now.Sub(k.fetched) < keysStaleMax:
		return key, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("keys of %s: %w", k.issuer, ctx.Err())
	case k.lastErr != nil:
		return nil, fmt.Errorf("keys of %s: %w", k.issuer, k.lastErr)
	}
	return nil, fmt.Errorf("%w: the issuer has no such key", ErrCredentials)
}

// ask begins to ask the issuer, unless somebody does or did so lately; with the
// lock held. It takes keysTimeout at most and belongs to no request.
func (k *keySet) ask(now time.Time) {
	rest := keysPause
	if k.lastErr != nil {
		rest = keysRetry
	}
	if k.asking != nil || !k.answered.IsZero() && now.Sub(k.answered) < rest {
		return
	}
	done, at := make(chan struct{}), k.url
	k.asking = done
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
		defer cancel()
		keys, at, err := k.fetch(ctx, at)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.asking, k.answered, k.lastErr = nil, time.Now(), err
		if err == nil {
			k.keys, k.fetched, k.url = keys, k.answered, at
		}
	}()
}

// fetch asks the issuer for its keys, and first where they are when that is not
// known.
func (k *keySet) fetch(ctx context.Context, at string) (keys map[string]crypto.PublicKey, found string, err error) {
	client := *k.client
	client.Transport = answering{client.Transport}
	if at == "" {
		if at, err = discover(oidc.ClientContext(ctx, &client), k.issuer); err != nil {
			return nil, "", fmt.Errorf("discover: %w", err)
		}
	}
	// from the config, or from the issuer that it names
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody) //nolint:gosec
	if err != nil {
		return nil, "", fmt.Errorf("read keys: %w", err)
	}
	resp, err := client.Do(req) //nolint:gosec // the operator names the issuer, and it names its keys
	if err != nil {
		return nil, "", fmt.Errorf("read keys: %w", plain(err))
	}
	defer resp.Body.Close()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = errors.Join(json.Unmarshal(text, &set), unique.Fields(text, false))
	}
	if err != nil {
		return nil, "", errors.New("read keys: what the issuer answered is no key set")
	}
	keys = map[string]crypto.PublicKey{}
	for _, raw := range set.Keys[:min(len(set.Keys), keysMax)] {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) == nil && usable(key) { // a key of a kind that is not used here is skipped
			keys[key.KeyID] = key.Key
		}
	}
	if len(keys) == 0 {
		return nil, "", errors.New("read keys: there is none that can be used")
	}
	return keys, at, nil
}

// discover asks an issuer where its keys are.
func discover(ctx context.Context, issuer string) (string, error) {
	p, err := oidc.NewProvider(ctx, issuer)
	if other, ok := errors.AsType[*oidc.IssuerMismatchError](err); ok {
		return "", fmt.Errorf("it calls itself %q", clip(other.Discovered, 200))
	}
	if err != nil {
		return "", plain(err)
	}
	var found struct {
		URI string `json:"jwks_uri"`
	}
	if err := p.Claims(&found); err != nil {
		return "", errors.New("what the issuer answered cannot be read")
	}
	if !strings.HasPrefix(found.URI, "https://") && !strings.HasPrefix(issuer, "http://") {
		return "", errors.New("jwks_uri is not https")
	}
	return found.URI, nil
}

// plain is an error of a request without what the issuer wrote.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return errors.New("what the issuer answered cannot be read")
}

// usable reports whether a key may verify signatures here.
func usable(k jose.JSONWebKey) bool {
	if k.Use != "" && k.Use != "sig" || !k.Valid() {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= rsaBitsMin && key.E >= 3
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// answering makes every answer but 200 an error, and bounds what is read of it.
type answering struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	next := a.next
	if next == nil {
		next = http.DefaultTransport //nolint:forbidigo // what a client without a transport means
	}
	resp, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close() // the status is the answer
		return nil, fmt.Errorf("the issuer answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, keysBodyMax), resp.Body}
	return resp, nil
}
