package daemon

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/cmd/internal/secret"
)

// AzureLogin says as whom Azure is asked.
type AzureLogin struct {
	Credential string `yaml:"credential" default:"default" enum:"default,workload,managed,cli,file" doc:"default tries the environment, workload identity, managed identity and the CLI in turn."`
	ClientID   string `yaml:"clientID" doc:"Client id of a user-assigned identity."`
	TokenFile  string `yaml:"tokenFile" doc:"With credential: file, a file in which somebody else keeps a valid token."`
}

// azure makes the credential of one adapter. It asks nobody yet.
func (b *builder) azure(field string, l AzureLogin) (azcore.TokenCredential, error) {
	var credential azcore.TokenCredential
	var err error
	switch l.Credential {
	case "workload":
		credential, err = azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientID: l.ClientID})
	case "managed":
		o := &azidentity.ManagedIdentityCredentialOptions{}
		if l.ClientID != "" {
			o.ID = azidentity.ClientID(l.ClientID)
		}
		credential, err = azidentity.NewManagedIdentityCredential(o)
	case "cli":
		credential, err = azidentity.NewAzureCLICredential(nil)
	case "file":
		// It is read at every use: another content is not another adapter.
		if _, err := b.config.secret(field+".tokenFile", l.TokenFile); err != nil {
			return nil, err
		}
		return &tokenFile{path: b.config.path(l.TokenFile)}, nil
	default:
		credential, err = azidentity.NewDefaultAzureCredential(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("%s.credential: %w", field, err)
	}
	return secret.Credential(credential), nil
}

// tokenFile reads a token that somebody else keeps valid, at every use.
type tokenFile struct{ path string }

// GetToken reads the file.
func (t *tokenFile) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	b, _, err := folder.ReadFile(t.path, 1<<20)
	if err != nil {
		return azcore.AccessToken{}, fmt.Errorf("read token: %w", err)
	}
	return azcore.AccessToken{Token: strings.TrimSpace(string(b)), ExpiresOn: time.Now().Add(time.Minute)}, nil
}

// azureCloud is the public cloud, or the one with the resource manager at the
// address. Only on loopback are tokens sent without TLS.
func azureCloud(resourceManager string) policy.ClientOptions {
	if resourceManager == "" {
		return policy.ClientOptions{Cloud: cloud.AzurePublic}
	}
	c := cloud.AzurePublic
	c.Services = map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: resourceManager, Audience: "https://management.azure.com"},
	}
	return policy.ClientOptions{Cloud: c, InsecureAllowCredentialWithHTTP: isLoopbackURL(resourceManager)}
}

// entra adds an Entra token to every request.
type entra struct {
	next       http.RoundTripper
	credential azcore.TokenCredential
	scope      string
}

// RoundTrip sends the request with a token; the credential caches it.
func (e *entra) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := e.credential.GetToken(r.Context(), policy.TokenRequestOptions{Scopes: []string{e.scope}})
	if err != nil {
		return nil, fmt.Errorf("get token: %w", err)
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token.Token)
	return e.next.RoundTrip(r)
}
