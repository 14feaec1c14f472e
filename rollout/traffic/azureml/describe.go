package azureml

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout/traffic"
)

// deployment is what the router knows of a deployment.
type deployment struct {
	SKU *struct {
		Capacity *int `json:"capacity"`
	} `json:"sku"`
	Properties struct {
		ProvisioningState string          `json:"provisioningState"`
		Model             json.RawMessage `json:"model"`
		RequestSettings   *struct {
			Concurrency *int `json:"maxConcurrentRequestsPerInstance"`
		} `json:"requestSettings"`
	} `json:"properties"`
}

// Describe implements traffic.Router. A deployment is ready when its
// provisioning succeeded: ARM tells no more of its health.
func (r *Router) Describe(ctx context.Context, endpoint string) (traffic.Description, error) {
	d, err := r.describe(ctx, endpoint)
	if err != nil {
		return traffic.Description{}, fmt.Errorf("describe %s: %w", endpoint, err)
	}
	return d, nil
}

func (r *Router) describe(ctx context.Context, endpoint string) (traffic.Description, error) {
	e, err := r.read(ctx, endpoint)
	if err != nil {
		return traffic.Description{}, err
	}
	d := traffic.Description{
		Deployments: make(map[string]traffic.Deployment), Tags: e.tags, ScoringURI: e.properties.ScoringURI,
		CanMirror: e.properties.Compute == "", PublicNetwork: strings.EqualFold(e.properties.PublicNetworkAccess,
			"Enabled"),
	}
	switch mode := strings.ToLower(e.properties.AuthMode); mode {
	case "key":
		d.AuthMode = "key"
	case "amltoken":
		d.AuthMode = "aml-token"
	case "aadtoken":
		d.AuthMode = "aad-token"
	default:
		d.AuthMode = mode
	}
	untold := func(told bool, field string) {
		if !told {
			d.Unknown = append(d.Unknown, field)
		}
	}
	untold(e.tags != nil, "tags")
	untold(e.properties.ScoringURI != "", "scoringURI")
	untold(e.properties.AuthMode != "", "authMode")
	untold(e.properties.PublicNetworkAccess != "", "publicNetwork")
	address := r.host + r.workspace + "/onlineEndpoints/" + url.PathEscape(endpoint) + "/deployments?api-version=" +
		url.QueryEscape(r.config.APIVersion)
	for it, err := range r.list(ctx, address) {
		if err != nil {
			return traffic.Description{}, fmt.Errorf("list deployments: %w", err)
		}
		var told deployment
		if err := json.Unmarshal(it.Raw, &told); err != nil {
			return traffic.Description{}, fmt.Errorf("list deployments: %s is not what it should be",
				clean(it.Name, 64))
		}
		name := strings.ToLower(it.Name)
		d.Deployments[name] = told.describe(name, untold)
	}
	slices.Sort(d.Unknown)
	d.ManualRollback = func(stable string) string { return r.manual(endpoint, stable, e, d) }
	return d, nil
}

func (told deployment) describe(name string, untold func(told bool, field string)) traffic.Deployment {
	state := told.Properties.ProvisioningState
	out := traffic.Deployment{Ready: state == stateSucceeded, Concurrency: 1}
	if !out.Ready {
		out.Reason = "provisioning state " + clean(state, 40)
	}
	field := "deployments." + name
	untold(state != "", field+".ready")
	instances := told.SKU != nil && told.SKU.Capacity != nil
	untold(instances, field+".instances")
	if instances {
		out.Instances = *told.SKU.Capacity
	}
	// The service's default is one request at a time.
	if s := told.Properties.RequestSettings; s != nil && s.Concurrency != nil {
		out.Concurrency = *s.Concurrency
	}
	out.Version = model(told.Properties.Model)
	untold(out.Version != "", field+".version")
	return out
}

// model names the version of a deployment's model: "ranker:17" of an id that
// ends in models/ranker/versions/17.
func model(raw json.RawMessage) string {
	var id string
	if json.Unmarshal(raw, &id) != nil {
		var asset struct {
			AssetID string `json:"assetId"`
		}
		if json.Unmarshal(raw, &asset) != nil {
			return ""
		}
		id = asset.AssetID
	}
	parts := strings.Split(id, "/")
	if n := len(parts); n >= 4 && parts[n-4] == "models" && parts[n-2] == "versions" {
		return clean(parts[n-3]+":"+parts[n-1], 80)
	}
	return ""
}

// manual is the command that gives stable all the traffic and ends mirroring.
func (r *Router) manual(endpoint, stable string, e *resource, d traffic.Description) string {
	stable = strings.ToLower(stable)
	if !endpointName.MatchString(stable) {
		return ""
	}
	shares := []string{stable + "=100"}
	for _, name := range slices.Sorted(maps.Keys(d.Deployments)) {
		if name != stable && endpointName.MatchString(name) {
			shares = append(shares, name+"=0")
		}
	}
	var mirrors []string
	for _, name := range slices.Sorted(maps.Keys(e.split.Mirror)) {
		if endpointName.MatchString(name) {
			mirrors = append(mirrors, name+"=0")
		}
	}
	command := fmt.Sprintf(`az ml online-endpoint update --name %s --traffic "%s"`, endpoint, strings.Join(shares, " "))
	if len(mirrors) > 0 {
		command += fmt.Sprintf(` --mirror-traffic "%s"`, strings.Join(mirrors, " "))
	}
	return command + fmt.Sprintf(" --subscription %s --resource-group %s --workspace-name %s",
		word(r.config.Subscription), word(r.config.ResourceGroup), word(r.config.Workspace))
}

// word quotes a name that a shell would take apart; names hold no quotes.
func word(s string) string {
	if strings.ContainsAny(s, "()") {
		return "'" + s + "'"
	}
	return s
}
