package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"
)

// certificateMax bounds a file of certificates or of a key, in bytes.
const certificateMax = 1 << 20

// tlsFiles are the files by which belay and a server know each other: the
// authorities that a server's certificate must be signed by (those of the system
// if it is empty), and a client's certificate with its key, which may stand in
// the same file.
type tlsFiles struct {
	ca, cert, key string
}

// check says what is wrong with the combination, before any file is read.
func (t tlsFiles) check(server string) error {
	switch {
	case t.key != "" && t.cert == "":
		return usageError("--key-file: goes with --cert-file, the certificate of that key")
	case t.cert != "" && !strings.HasPrefix(server, "https:"):
		return usageError("--cert-file: a certificate is shown over TLS only; --server needs an https address (got %s)",
			server)
	}
	return nil
}

// client returns a client that follows no redirects and bounds what does not
// answer, but not streams.
func (t tlsFiles) client(dial dialer) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		pem, err := readBounded("CA file", t.ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA file %s: no certificate in it", t.ca)
		}
	}
	if t.cert != "" {
		if _, err := t.pair(); err != nil {
			return nil, err
		}
		// It is shown whoever the server asks for, so that it says what is wrong with
		// it; and read again for every connection, because it may be renewed.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.pair() }
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment, // not for loopback
			DialContext:           dial,
			TLSClientConfig:       config,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second,
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// pair reads the client's certificate and its key; what is wrong is said without
// what is in them.
func (t tlsFiles) pair() (*tls.Certificate, error) {
	cert, err := readBounded("client certificate", t.cert)
	if err != nil {
		return nil, err
	}
	keyFile, key := t.cert, cert
	if t.key != "" {
		keyFile = t.key
		if key, err = readBounded("private key", t.key); err != nil {
			return nil, err
		}
	}
	info, err := os.Stat(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	if info.Mode().Perm()&0o037 != 0 {
		return nil, fmt.Errorf("read private key %s: it can be read by others (mode %04o); run chmod 600 %s", keyFile,
			info.Mode().Perm(), keyFile)
	}
	pair, err := tls.X509KeyPair(cert, key)
	switch {
	case err != nil && strings.Contains(string(key), "ENCRYPTED"):
		return nil, fmt.Errorf("read private key %s: it is encrypted, and belay asks for no passphrase; decrypt it "+
			"with openssl pkey", keyFile)
	case err != nil && t.key == "":
		return nil, fmt.Errorf(
			"read client certificate %s: %w; if its key is in another file, name that with --key-file", t.cert, err)
	case err != nil:
		return nil, fmt.Errorf("read client certificate %s with the key %s: %w", t.cert, keyFile, err)
	case time.Now().After(pair.Leaf.NotAfter):
		return nil, fmt.Errorf("read client certificate %s: it ended on %s; ask for a new one", t.cert,
			pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return &pair, nil
}

// readBounded reads a file of certificates or of a key.
func readBounded(what, file string) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read %s %s: it does not exist", what, file)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", what, err)
	case info.Size() > certificateMax:
		return nil, fmt.Errorf("read %s %s: it is larger than certificates are", what, file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return b, nil
}
