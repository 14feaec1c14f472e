package secret

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/prometheus/common/config"
)

// oauth is a client that gets its tokens at an address.
func oauth(t *testing.T, tokens string) *http.Client {
	t.Helper()
	hc := config.DefaultHTTPClientConfig
	hc.OAuth2 = &config.OAuth2{ClientID: "belay", ClientSecret: canary, TokenURL: tokens, EndpointParams: map[string]string{"assertion": canary}}
	cl, err := config.NewClientFromConfig(hc, "test")
	if err != nil {
		t.Fatal(err)
	}
	cl.Transport = Discreet(cl.Transport)
	return cl
}

// Whatever a token endpoint answers, the error tells its status and code and not
// what it was asked or said.
func TestTokenEndpoint(t *testing.T) {
	for what, c := range map[string]struct {
		status int
		body   string
		says   string
	}{
		"a known code":     {401, `{"error":"invalid_client","error_description":"` + canary + `","error_uri":"` + canary + `"}`, "answered 401 (invalid_client)"},
		"a code of theirs": {400, `{"error":"bad ` + canary + `"}`, "answered 400"},
		"no JSON":          {503, "<html>" + canary, "answered 503"},
		"the request":      {403, "", "answered 403"},
		"a good error":     {200, `{"error":"` + canary + `"}`, "answered 200"},
		"no token":         {200, `{"scope":"` + canary + `"}`, "cannot be used"},
		"broken":           {200, `{` + canary, "cannot be used"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(c.status)
			if what == "the request" {
				_ = r.ParseForm()
				fmt.Fprintf(w, `{"error":%q}`, r.Form.Encode()+r.Header.Get("Authorization"))
				return
			}
			fmt.Fprint(w, c.body)
		}))
		_, err := oauth(t, server.URL+"/"+canary).Get("http://127.0.0.1:1/") //nolint:bodyclose // there is none
		server.Close()
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v, want it to say %q and no secret", what, err, c.says)
		}
	}
}

// A token endpoint that is away is said to be, without its address; what the error
// stands for can still be asked.
func TestTokenEndpointAway(t *testing.T) {
	_, err := oauth(t, "http://127.0.0.1:1/"+canary+"?k="+canary).Get("http://127.0.0.1:1/") //nolint:bodyclose // there is none
	if err == nil || !strings.Contains(err.Error(), "get token: dial tcp") || strings.Contains(err.Error(), canary) {
		t.Errorf("got %v, want that nobody is there, without the address", err)
	}

	err = told(fmt.Errorf("round trip: %w", &reduced{text: "x", err: context.DeadlineExceeded}))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want it to stand for %v", err, context.DeadlineExceeded)
	}
	if told(nil) != nil || told(context.Canceled) != context.Canceled { //nolint:errorlint // the very same
		t.Error("an error of the transport itself was changed")
	}
}

// failing is a credential whose service refuses with a body.
type failing struct{ err error }

func (f failing) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, f.err
}

// The Azure client's errors show the identity service's whole answer; here they do
// not, and are final for its retries all the same.
func TestCredential(t *testing.T) {
	recorder := httptest.NewRecorder()
	recorder.WriteHeader(http.StatusUnauthorized)
	fmt.Fprintf(recorder, `{"error":"invalid_client","error_description":%q}`, canary)
	_, err := Credential(failing{fmt.Errorf("chain: %w", &azidentity.AuthenticationFailedError{RawResponse: recorder.Result()})}).
		GetToken(t.Context(), policy.TokenRequestOptions{})
	if err == nil || err.Error() != "get token: the token endpoint answered 401 (invalid_client)" {
		t.Errorf("got %v, want status and code alone", err)
	}
	if _, ok := errors.AsType[interface {
		error
		NonRetriable()
	}](err); !ok {
		t.Error("the error may be tried again, want it final")
	}
	other := errors.New("no credential is configured")
	if _, err := Credential(failing{other}).GetToken(t.Context(), policy.TokenRequestOptions{}); !errors.Is(err, other) {
		t.Errorf("got %v, want %v as it is", err, other)
	}
}
