package config

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"regexp"
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
	Cloud      string `yaml:"cloud" default:"public" enum:"public,government,china" doc:"The cloud: it says where to sign in, and where its services are."`
}

// An azureCloud is where one of Microsoft's clouds signs in and has its services. The
// addresses are those of the SDK for Go and of Azure Monitor's reference.
type azureCloud struct {
	cloud.Configuration
	// domain is what Azure Monitor's hosts end in, logs Log Analytics' address.
	domain, logs string
}

var azureClouds = map[string]azureCloud{
	"public":     {cloud.AzurePublic, "azure.com", "https://api.loganalytics.io"},
	"government": {cloud.AzureGovernment, "azure.us", "https://api.loganalytics.us"},
	"china":      {cloud.AzureChina, "azure.cn", "https://api.loganalytics.azure.cn"},
}

// where is the login's cloud.
func (l AzureLogin) where() azureCloud { return azureClouds[cmp.Or(l.Cloud, "public")] }

// metrics is the audience of Azure Monitor's metrics and the address for a region.
func (c azureCloud) metrics(region string) (audience, endpoint string) {
	return "https://metrics.monitor." + c.domain, "https://" + region + ".metrics.monitor." + c.domain
}

// prometheus is what a token for Azure Managed Prometheus is for.
func (c azureCloud) prometheus() string {
	return "https://prometheus.monitor." + c.domain + "/.default"
}

// azure makes the credential of one adapter. It asks nobody yet.
func (b *Builder) azure(field string, l AzureLogin) (azcore.TokenCredential, error) {
	var credential azcore.TokenCredential
	var err error
	at := policy.ClientOptions{}
	if l.Cloud != "" && l.Cloud != "public" {
		at.Cloud = l.where().Configuration // without it, AZURE_AUTHORITY_HOST is heeded
	}
	switch l.Credential {
	case "workload":
		credential, err = azidentity.NewWorkloadIdentityCredential(
			&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: at, ClientID: l.ClientID})
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
		return &tokenFile{path: b.config.Path(l.TokenFile)}, nil
	default:
		credential, err = azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: at})
	}
	if err != nil {
		return nil, fmt.Errorf("%s.credential: %w", field, err)
	}
	return signIn{secret.Credential(credential)}, nil
}

// signIn is a credential whose errors say in one line what was tried and what helps.
type signIn struct{ azcore.TokenCredential }

// GetToken asks the credential.
func (s signIn) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := s.TokenCredential.GetToken(ctx, o)
	if err != nil && ctx.Err() == nil {
		return token, &noToken{err}
	}
	return token, err
}

// noToken is a sign-in that gave no token.
type noToken struct{ err error }

// attempt matches one way that was tried and why it failed, as azidentity lists them.
var attempt = regexp.MustCompile(`(?m)^\s*(\w+)Credential: *(?:\w+Credential: *)?([^\n]*)`)

// Error names the remedies first: what follows may be cut.
func (e *noToken) Error() string {
	const most = 20
	var tried []string
	for _, m := range attempt.FindAllStringSubmatch(e.err.Error(), -1) {
		why := strings.TrimSpace(m[2])
		if r := []rune(why); len(r) > most {
			why = string(r[:most-1]) + "…"
		}
		if m[1] != "DefaultAzure" && why != "" {
			tried = append(tried, m[1]+" ("+why+")")
		}
	}
	text := "no token: run az login (credential: cli) or give belayd an identity"
	if len(tried) > 0 {
		return text + "; tried " + strings.Join(tried, ", ")
	}
	return text + ": " + strings.Join(strings.Fields(e.err.Error()), " ")
}

// Unwrap is azidentity's own error.
func (e *noToken) Unwrap() error { return e.err }

// NonRetriable: asking again at once brings no identity.
func (e *noToken) NonRetriable() {}

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

// options are a client's of the cloud, or of the resource manager at the address.
// Only on loopback are tokens sent without TLS.
func (c azureCloud) options(resourceManager string) policy.ClientOptions {
	if resourceManager == "" {
		return policy.ClientOptions{Cloud: c.Configuration}
	}
	own := c.Configuration
	own.Services = map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: resourceManager,
			Audience: cmp.Or(c.Services[cloud.ResourceManager].Audience, "https://management.azure.com")},
	}
	return policy.ClientOptions{Cloud: own, InsecureAllowCredentialWithHTTP: isLoopbackURL(resourceManager)}
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
