package config

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/cmd/internal/secret"
)

// certificatesEvery is how often the files of certificates are looked at.
const certificatesEvery = 10 * time.Second

// Certificates are the server's certificate and the authority of its clients, as
// their files say now. It is safe for concurrent use.
type Certificates struct {
	cert, key, clients string // files; clients may be ""
	log                *slog.Logger

	mu      sync.Mutex
	config  *tls.Config
	version string
	err     error
}

// NewCertificates reads the files; nil when no TLS is configured. With an error it
// returns certificates that stand in for those in the files until these can be used.
func (c *Config) NewCertificates(log *slog.Logger) (*Certificates, error) {
	if c.Auth.TLS == nil {
		return nil, nil //nolint:nilnil // no TLS is a configuration, not an error
	}
	k := &Certificates{cert: c.Path(c.Auth.TLS.CertFile), key: c.Path(c.Auth.TLS.KeyFile), log: log}
	if c.Auth.MTLS != nil {
		k.clients = c.Path(c.Auth.MTLS.ClientCAFile)
	}
	err := secret.Mention{Field: "auth.tls.keyFile", File: c.Auth.TLS.KeyFile}.Check(c.dir)
	if err == nil {
		if err = k.load(); err != nil {
			err = fmt.Errorf("auth.tls: %w", err)
		}
	}
	if k.err = err; err != nil {
		standIn, serr := strangerCertificate()
		if serr != nil {
			return nil, fmt.Errorf("auth.tls: %w", serr)
		}
		k.config = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
			Certificates: []tls.Certificate{standIn}}
		return k, err
	}
	return k, nil
}

// strangerCertificate is one that nobody signed and nobody trusts: probes that do
// not care are answered, and no client shows its credentials.
func strangerCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1),
		Subject:   pkix.Name{CommonName: "belayd without its certificate"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Server is what the server is configured with: each handshake uses the files as
// they were last read.
func (k *Certificates) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.config, nil
		},
	}
}

// Run reads the files again when they change, until ctx ends. What cannot be used
// changes nothing: the certificate before goes on.
func (k *Certificates) Run(ctx context.Context) error {
	tick := time.NewTicker(certificatesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			k.Refresh()
		}
	}
}

// Refresh reads the files when they are not those that were read.
func (k *Certificates) Refresh() {
	k.mu.Lock()
	before, failed := k.version, k.err
	k.mu.Unlock()
	if k.stamp() == before && failed == nil {
		return
	}
	err := secret.Mention{Field: "keyFile", File: k.key}.Check("")
	if err == nil {
		err = k.load()
	}
	k.mu.Lock()
	k.err = err
	k.mu.Unlock()
	switch {
	case err == nil:
		k.log.Info("certificates taken over")
	case failed == nil || failed.Error() != err.Error():
		k.log.Error("certificates not taken over", "err", err)
	}
}

// Err says why the files as they are now are not used; nil when they are.
func (k *Certificates) Err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return fmt.Errorf("certificates: %w", k.err)
	}
	return nil
}

// SameFiles reports whether the certificates are read from the same files; both may
// be nil.
func (k *Certificates) SameFiles(other *Certificates) bool {
	if k == nil || other == nil {
		return k == other
	}
	return k.cert == other.cert && k.key == other.key && k.clients == other.clients
}

// stamp tells one version of the files from another. Kubernetes replaces a whole
// folder by one link: size and time of what the names lead to are looked at.
func (k *Certificates) stamp() string {
	var s strings.Builder
	for _, f := range []string{k.cert, k.key, k.clients} {
		if info, err := os.Stat(f); f != "" && err == nil {
			fmt.Fprintf(&s, "%s %d %d\n", f, info.Size(), info.ModTime().UnixNano())
		}
	}
	return s.String()
}

// load reads the files and makes them the configuration.
func (k *Certificates) load() error {
	version := k.stamp()
	pair, err := tls.LoadX509KeyPair(k.cert, k.key)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{pair}}
	if k.clients != "" {
		config.ClientAuth = tls.VerifyClientCertIfGiven
		if config.ClientCAs, err = readRoots(k.clients); err != nil {
			return fmt.Errorf("read client authority: %w", err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.config, k.version = config, version
	return nil
}

// Doubt gives the request without what its connection proved about the client when
// the authority of clients, as it is now, does not stand for that: a connection may
// be older than the authority, and so may one that it resumes.
func (k *Certificates) Doubt(r *http.Request) *http.Request {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || k.vouches(r.TLS.PeerCertificates) {
		return r
	}
	state := *r.TLS
	state.VerifiedChains = nil
	r = r.WithContext(r.Context())
	r.TLS = &state
	return r
}

// vouches reports whether the authority of clients signed the first certificate,
// over the others, and all of them hold now.
func (k *Certificates) vouches(shown []*x509.Certificate) bool {
	if k == nil || len(shown) == 0 {
		return false
	}
	k.mu.Lock()
	roots := k.config.ClientCAs
	k.mu.Unlock()
	if roots == nil {
		return false // no authority; without roots the system's would be taken
	}
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	_, err := shown[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil
}

// roots reads the certificates that a server's must be signed by; field names the
// setting in errors.
func (c *Config) roots(field, file string) (*x509.CertPool, error) {
	pool, err := readRoots(c.Path(file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return pool, nil
}

// rootsMax bounds a file of certificates: the system's own have some 200 KiB.
const rootsMax = 4 << 20

// readRoots reads a PEM file of certificates.
func readRoots(file string) (*x509.CertPool, error) {
	pem, _, err := folder.ReadFile(file, rootsMax)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("there is no certificate in " + file)
	}
	return pool, nil
}
