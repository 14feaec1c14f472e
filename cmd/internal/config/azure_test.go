package config

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/google/go-cmp/cmp"
)

// Each cloud signs in at its own authority and has its services at its own addresses.
func TestAzureClouds(t *testing.T) {
	for name, want := range map[string][]string{
		"":           {"https://login.microsoftonline.com/", "https://management.azure.com", "https://api.loganalytics.io", "https://metrics.monitor.azure.com", "https://r1.metrics.monitor.azure.com", "https://prometheus.monitor.azure.com/.default"},
		"government": {"https://login.microsoftonline.us/", "https://management.usgovcloudapi.net", "https://api.loganalytics.us", "https://metrics.monitor.azure.us", "https://r1.metrics.monitor.azure.us", "https://prometheus.monitor.azure.us/.default"},
		"china":      {"https://login.chinacloudapi.cn/", "https://management.chinacloudapi.cn", "https://api.loganalytics.azure.cn", "https://metrics.monitor.azure.cn", "https://r1.metrics.monitor.azure.cn", "https://prometheus.monitor.azure.cn/.default"},
	} {
		c := AzureLogin{Cloud: name}.where()
		arm := c.options("").Cloud
		audience, endpoint := c.metrics("r1")
		got := []string{arm.ActiveDirectoryAuthorityHost, arm.Services[cloud.ResourceManager].Endpoint, c.logs, audience, endpoint, c.prometheus()}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", name, d)
		}
		own := c.options("https://arm.example").Cloud
		if own.ActiveDirectoryAuthorityHost != want[0] || own.Services[cloud.ResourceManager].Endpoint != "https://arm.example" {
			t.Errorf("%q with an address of its own: got %+v", name, own)
		}
	}
}

// gives is a credential with this answer.
type gives struct{ err error }

// GetToken implements azcore.TokenCredential.
func (g gives) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, g.err
}

// Without a token at hand the error is one short line that begins with what helps and
// names every way that was tried.
func TestNoTokenSaysWhatHelps(t *testing.T) {
	chain := errors.New("DefaultAzureCredential: failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: missing environment variable AZURE_TENANT_ID\n\t" +
		"WorkloadIdentityCredential: no client ID specified. Check pod configuration or set ClientID in the options\n\tManagedIdentityCredential: " +
		strings.Repeat("no response from the IMDS endpoint ", 20) + "\n\tAzureCLICredential: Azure CLI not found on path\n\tAzureDeveloperCLICredential: Azure Developer CLI not found on path")
	_, err := signIn{gives{chain}}.GetToken(t.Context(), policy.TokenRequestOptions{})
	text := err.Error()
	if !strings.HasPrefix(text, "no token: run az login (credential: cli) or give belayd an identity; tried Environment (missing") || strings.Contains(text, "\n") {
		t.Errorf("got %s", text)
	}
	for _, way := range []string{"Environment", "WorkloadIdentity", "ManagedIdentity", "AzureCLI", "AzureDeveloperCLI"} {
		if !strings.Contains(text, way+" (") {
			t.Errorf("got %s, want %s named", text, way)
		}
	}
	if len(text) > 300 {
		t.Errorf("got %d bytes: %s", len(text), text)
	}
	// The real thing, as far as it asks nobody.
	t.Setenv("PATH", t.TempDir())
	cli, err := azidentity.NewAzureCLICredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = signIn{cli}.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}})
	if err == nil || !strings.Contains(err.Error(), "run az login") || !strings.Contains(err.Error(), "AzureCLI (") {
		t.Errorf("got %v, want what helps and the way that was tried", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (signIn{gives{context.Canceled}}).GetToken(gone, policy.TokenRequestOptions{}); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "az login") {
		t.Errorf("got %v, want a cancelled call left as it is", err)
	}
}
