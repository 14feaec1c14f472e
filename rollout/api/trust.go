package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
)

// ErrTLS: whoever answered and this client do not take each other's certificate.
// Another try would end the same way.
var ErrTLS = errors.New("api: no trust over TLS")

// mistrust is what can be done when one side does not take the other's
// certificate; "" when it is not that.
func (c *Client) mistrust(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "name the authority that signed the server's certificate with --ca-file"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "use a name in --server that the server's certificate is for"
	}
	if _, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return "the server's certificate needs renewing (auth.tls of belayd), or this machine's clock is wrong"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return "it does not speak TLS there; use http:// in --server"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return "belayd does not take the client certificate; --cert-file must be signed by an authority in its " +
			"auth.mtls.clientCAFile, for clients, and must not have ended"
	}
	return ""
}
