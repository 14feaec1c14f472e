package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"golang.org/x/oauth2"
)

// Discreet is next with errors that hold nothing of what a token endpoint was asked
// or answered: it may repeat the client's secret, and its address may hold one. Of
// its answer the status is told, and the code if it is one of RFC 6749. Nor does an
// answer that is no success hold the credentials of its own request, or one of the
// secrets: who refuses a request may repeat it, and what was answered is shown.
func Discreet(next http.RoundTripper, secrets ...string) http.RoundTripper {
	return discreet{next, secrets}
}

type discreet struct {
	next    http.RoundTripper
	secrets []string
}

// RoundTrip sends the request.
func (d discreet) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.next.RoundTrip(r)
	if err == nil && resp.StatusCode/100 != 2 {
		muffle(resp, append(sent(r, resp), d.secrets...))
	}
	return resp, told(err)
}

// CloseIdleConnections lets go of connections that nobody uses.
func (d discreet) CloseIdleConnections() {
	(&http.Client{Transport: d.next}).CloseIdleConnections()
}

// told is the error of a transport without what a token endpoint said.
func told(err error) error {
	if err == nil {
		return nil
	}
	if bad, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		status := 0
		if bad.Response != nil {
			status = bad.Response.StatusCode
		}
		return refused(err, status, bad.ErrorCode)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err // a file of the operator's
	}
	// A transport's own errors name no address; one that does is of the request for a
	// token.
	var cause error
	for nested, ok := errors.AsType[*url.Error](err); ok; nested, ok = errors.AsType[*url.Error](cause) {
		cause = nested.Err
	}
	switch {
	case cause != nil:
		return &reduced{text: "get token: " + cause.Error(), err: err}
	case strings.Contains(err.Error(), "oauth2"):
		return &reduced{text: "get token: the token endpoint's answer cannot be used", err: err}
	}
	return err
}

// codes are the error codes of RFC 6749, 4.1.2.1 and 5.2.
var codes = []string{
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
	"access_denied", "unsupported_response_type", "server_error", "temporarily_unavailable",
}

// refused says how a token endpoint refused: its status, and its code where that is
// one of the known ones.
func refused(err error, status int, code string) *reduced {
	text := fmt.Sprintf("get token: the token endpoint answered %d", status)
	if slices.Contains(codes, code) {
		text += " (" + code + ")"
	}
	return &reduced{text: text, err: err}
}

// A reduced error shows a text of its own. What it stands for is asked about, never
// shown: it is not unwrapped.
type reduced struct {
	text string
	err  error
}

// Error is the text.
func (r *reduced) Error() string { return r.text }

// Is reports whether it stands for the target.
func (r *reduced) Is(target error) bool { return errors.Is(r.err, target) }

// Timeout reports whether it stands for something that took too long.
func (r *reduced) Timeout() bool {
	slow, ok := errors.AsType[net.Error](r.err)
	return errors.Is(r.err, context.DeadlineExceeded) || ok && slow.Timeout()
}

// Temporary is part of net.Error.
func (r *reduced) Temporary() bool { return r.Timeout() }

// Credential is an Azure credential with errors that hold nothing of what the
// identity service answered but its status and code.
func Credential(c azcore.TokenCredential) azcore.TokenCredential { return credential{c} }

type credential struct{ next azcore.TokenCredential }

// GetToken asks for a token.
func (c credential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t, err := c.next.GetToken(ctx, o)
	bad, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || bad.RawResponse == nil {
		return t, err
	}
	var answer struct {
		Error string `json:"error"`
	}
	if body, rerr := runtime.Payload(bad.RawResponse); rerr == nil {
		_ = json.Unmarshal(body, &answer) // no code, then
	}
	return t, final{refused(err, bad.RawResponse.StatusCode, answer.Error)}
}

// A final error is one that the Azure client does not try again.
type final struct{ *reduced }

// NonRetriable says so to the client.
func (final) NonRetriable() {}
