// Package aws signs requests to Amazon's services: Signature Version 4, by the SDK's own
// signer, with credentials that somebody else keeps valid.
//
// The rules:
//   - Credentials are read before every request: out of the file that the config names,
//     in the form of credential_process's output, or else from where ECS and EKS Pod
//     Identity give them, or else out of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
//     and AWS_SESSION_TOKEN.
//   - No error holds a part of them, or of an answer that they came in.
//   - It assumes no role and asks no instance for its metadata; `aws configure
//     export-credentials --format process` writes the file for everything that the SDK can do.
package aws

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Login says for what and as whom requests are signed; it is a section of belayd's config.
type Login struct {
	Region          string `yaml:"region" required:"true" doc:"The region: eu-west-1."`
	Service         string `yaml:"service" required:"true" doc:"The service as signatures name it: monitoring for CloudWatch, aps for Managed Prometheus."`
	Target          string `yaml:"target" doc:"The operation, of a service that takes JSON 1.0: GraniteServiceVersion20100801.GetMetricData."`
	CredentialsFile string `yaml:"credentialsFile" doc:"A file in which somebody else keeps valid credentials, as credential_process prints them; without it those of ECS or EKS Pod Identity, or of the environment."`
}

// most bounds what is signed and what credentials may take.
const most = 1 << 20

// A signer signs what goes through it.
type signer struct {
	next   http.RoundTripper
	login  Login
	chain  *chain
	signer *v4.Signer
}

// Sign is next with every request signed. Requests must be able to give their body again.
func Sign(next http.RoundTripper, l Login) http.RoundTripper {
	return &signer{next: next, login: l, chain: newChain(l.CredentialsFile), signer: v4.NewSigner()}
}

// RoundTrip sends the request with a signature.
func (s *signer) RoundTrip(r *http.Request) (*http.Response, error) {
	credentials, err := s.chain.Retrieve(r.Context())
	if err != nil {
		return nil, fmt.Errorf("get credentials: %w", err)
	}
	var body []byte
	if r.Body != nil && r.Body != http.NoBody {
		body, err = io.ReadAll(io.LimitReader(r.Body, most+1))
		_ = r.Body.Close()
		if err != nil || len(body) > most {
			return nil, fmt.Errorf("sign request: its body is longer than %d bytes, or cannot be read", most)
		}
	}
	r = r.Clone(r.Context())
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		r.Body = http.NoBody
	}
	if s.login.Target != "" {
		r.Header.Set("X-Amz-Target", s.login.Target)
		r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	}
	sum := sha256.Sum256(body)
	if err := s.signer.SignHTTP(r.Context(), credentials, r, hex.EncodeToString(sum[:]),
		cmp.Or(s.login.Service, "monitoring"), s.login.Region, time.Now()); err != nil {
		return nil, fmt.Errorf("sign request: %w", err)
	}
	return s.next.RoundTrip(r)
}

// CloseIdleConnections lets go of connections that nobody uses.
func (s *signer) CloseIdleConnections() {
	if c, ok := s.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	s.chain.client.CloseIdleConnections()
}
