// Package azureml moves the traffic of Azure Machine Learning online endpoints,
// managed and Kubernetes, through Azure Resource Manager (ARM).
//
// ARM has no call that changes traffic alone and no fence (no entity tag): who
// changes traffic writes the whole resource, and the last writer wins. So the
// rules of the package are:
//   - A write reads the resource as raw JSON, replaces properties.traffic (and
//     properties.mirrorTraffic), leaves out what only the service may write, and
//     proves before sending that nothing else differs. A property that this package
//     does not know stays as it is.
//   - A write needs a resource whose provisioning state is settled and whose
//     traffic is what the caller last saw. While an operation runs the answer is a
//     *traffic.BusyError: a rollback waits for a forward shift still in progress,
//     and for nothing else. A Failed or Canceled state does not stop a write, since
//     writing again is what mends it; nobody knows what is in effect then, so that
//     a split which sends everything to one deployment is written whatever is shown.
//   - Accepted is not in effect. Split answers only for a Succeeded resource; no
//     poller is trusted.
//   - Between the read and the write lies one round trip, in which another writer's
//     change is overwritten. Who reads next sees what is true.
//   - 409, 423, 429 and the code OperationCanceled mean waiting, with Retry-After
//     where there is one. Nothing is retried here.
//   - Names of deployments are compared without regard to case, and told in lower
//     case.
//   - A deployment has live or mirrored traffic: the write that gives it the one
//     ends the other.
//
// The identity needs Microsoft.MachineLearningServices/workspaces/onlineEndpoints/
// read and write and …/onlineEndpoints/deployments/read, and no access to keys: the
// probe's key is given to the router's Prober.
package azureml

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/belayd/belay/rollout/traffic"
)

const (
	// DefaultAPIVersion is the version of the ARM API that is spoken.
	DefaultAPIVersion = "2024-04-01"
	// ProbeHeader is the request header by which an endpoint routes a request to
	// one deployment, whatever its traffic.
	ProbeHeader = "azureml-model-deployment"
)

// Config names a workspace and who speaks to it.
type Config struct {
	Subscription  string `yaml:"subscription" required:"true" doc:"The subscription's id."`
	ResourceGroup string `yaml:"resourceGroup" required:"true" doc:"The workspace's resource group."`
	Workspace     string `yaml:"workspace" required:"true" doc:"The workspace's name."`
	// Credential may read endpoints and deployments and write endpoints.
	Credential azcore.TokenCredential
	// Options are those of every ARM client (cloud, transport). Retries are turned
	// off and resource providers are not registered, whatever they say.
	Options *arm.ClientOptions
	// APIVersion is DefaultAPIVersion when empty. A newer one sees, and so keeps,
	// properties that an older one does not.
	APIVersion string `yaml:"apiVersion" doc:"Version of the ARM API; 2024-04-01 when missing."`
	// Prober sends the sample requests; its Header is ProbeHeader when empty.
	Prober traffic.Prober
}

// A Router moves the traffic of the online endpoints of one workspace. It is
// safe for concurrent use.
type Router struct {
	config    Config
	pipeline  runtime.Pipeline
	host      string
	workspace string
}

var _ traffic.Router = (*Router)(nil)

var (
	// part is what a subscription, resource group or workspace may be called.
	part = regexp.MustCompile(`^[-\w.()]{1,128}$`)
	// endpointName is what an endpoint or a deployment may be called.
	endpointName = regexp.MustCompile(`^[a-zA-Z]([-a-zA-Z0-9]{0,62}[a-zA-Z0-9])?$`)
)

// New checks c and returns its router. It makes no connection.
func New(c Config) (*Router, error) {
	for _, p := range []struct{ name, value string }{
		{"subscription", c.Subscription}, {"resourceGroup", c.ResourceGroup}, {"workspace", c.Workspace},
	} {
		if !part.MatchString(p.value) {
			return nil, fmt.Errorf("configure azureml router: %s %q is not a name", p.name, p.value)
		}
	}
	if c.Credential == nil {
		return nil, errors.New("configure azureml router: Credential is missing")
	}
	if c.APIVersion == "" {
		c.APIVersion = DefaultAPIVersion
	}
	if c.Prober.Header == "" {
		c.Prober.Header = ProbeHeader
	}
	var options arm.ClientOptions
	if c.Options != nil {
		options = *c.Options
	}
	options.Retry.MaxRetries = -1
	options.DisableRPRegistration = true
	client, err := arm.NewClient("belay/azureml", "v1.0.0", c.Credential, &options)
	if err != nil {
		return nil, fmt.Errorf("configure azureml router: %w", err)
	}
	return &Router{
		config: c, pipeline: client.Pipeline(), host: strings.TrimRight(client.Endpoint(), "/"),
		workspace: fmt.Sprintf("/subscriptions/%s/resourceGroups/%s"+
			"/providers/Microsoft.MachineLearningServices/workspaces/%s",
			url.PathEscape(c.Subscription), url.PathEscape(c.ResourceGroup), url.PathEscape(c.Workspace)),
	}, nil
}

// Split implements traffic.Router. While the resource is not settled nobody
// knows which split is in effect, and the answer is an error.
func (r *Router) Split(ctx context.Context, endpoint string) (traffic.Split, error) {
	e, err := r.read(ctx, endpoint)
	if err == nil {
		err = e.settled()
	}
	if err == nil && e.state != stateSucceeded {
		err = fmt.Errorf("its provisioning state is %s, so that %s may not be in effect; shift it again, or repair "+
			"the endpoint", clean(e.state, 40), e.split)
	}
	if err != nil {
		return traffic.Split{}, fmt.Errorf("read split of %s: %w", endpoint, err)
	}
	return e.split, nil
}

// Shift implements traffic.Router.
func (r *Router) Shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	if err := r.shift(ctx, endpoint, from, to); err != nil {
		return fmt.Errorf("shift %s: %w", endpoint, err)
	}
	return nil
}

func (r *Router) shift(ctx context.Context, endpoint string, from, to traffic.Split) error {
	from, to = folded(from), folded(to)
	if err := traffic.Validate(to); err != nil {
		return err
	}
	e, err := r.read(ctx, endpoint)
	if err != nil {
		return err
	}
	if err := e.settled(); err != nil {
		return err
	}
	if err := e.allows(to); err != nil {
		return err
	}
	needed, err := traffic.NeedsWrite(e.split, from, to)
	if e.state != stateSucceeded {
		// What it shows may never have come into effect: it is written even when it
		// shows `to`, and a rollback also when it shows neither, since nobody could
		// read what to roll back from.
		needed = true
		if len(traffic.Positive(to.Weights)) == 1 {
			err = nil
		}
	}
	if err != nil || !needed {
		return err
	}
	body, err := change(e.raw, to)
	if err != nil {
		return fmt.Errorf("build resource: %w: %w", err, traffic.ErrPermanent)
	}
	if err := prove(e.raw, body); err != nil {
		return fmt.Errorf("prove that traffic alone changes: %w: %w", err, traffic.ErrPermanent)
	}
	_, err = r.send(ctx, http.MethodPut, r.url(endpoint), body)
	return err
}

// Endpoints implements traffic.Router.
func (r *Router) Endpoints(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for item, err := range r.list(ctx, r.host+r.workspace+"/onlineEndpoints?api-version="+
			url.QueryEscape(r.config.APIVersion)) {
			if err != nil {
				yield("", fmt.Errorf("list endpoints: %w", err))
				return
			}
			if !yield(item.Name, nil) {
				return
			}
		}
	}
}

// Probe implements traffic.Router. The deployment is named in the probe header;
// a deployment without traffic answers too.
func (r *Router) Probe(ctx context.Context, endpoint, deployment string, sample *http.Request) (*http.Response, error) {
	e, err := r.read(ctx, endpoint)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", endpoint, err)
	}
	resp, err := r.config.Prober.Probe(ctx, e.properties.ScoringURI, deployment, sample)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", endpoint, err)
	}
	return resp, nil
}

// url is where an endpoint is.
func (r *Router) url(endpoint string) string {
	return r.host + r.workspace + "/onlineEndpoints/" + url.PathEscape(endpoint) + "?api-version=" + url.QueryEscape(
		r.config.APIVersion)
}

// read gets an endpoint.
func (r *Router) read(ctx context.Context, endpoint string) (*resource, error) {
	if !endpointName.MatchString(endpoint) {
		return nil, fmt.Errorf("endpoint name %q: %w", endpoint, traffic.ErrNotFound)
	}
	raw, err := r.send(ctx, http.MethodGet, r.url(endpoint), nil)
	if err != nil {
		return nil, err
	}
	e, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("read resource: %w", err)
	}
	return e, nil
}

// folded is a split with names in lower case.
func folded(s traffic.Split) traffic.Split {
	return traffic.Split{Weights: fold(s.Weights), Mirror: fold(s.Mirror)}
}

// fold lower-cases names and adds up those that become equal.
func fold(shares map[string]int) map[string]int {
	out := make(map[string]int, len(shares))
	for name, share := range shares {
		out[strings.ToLower(name)] += share
	}
	return out
}
