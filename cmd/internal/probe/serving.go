package probe

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/traffic"
)

// Serving says which deployments of an endpoint a rollout would be about, and
// what its router tells of them.
type Serving struct {
	// Stable serves most of the traffic, or is the one that the policy names;
	// Candidate is another deployment, "" when there is none.
	Stable, Candidate string
	// Split and Description are what the router showed.
	Split       traffic.Split
	Description traffic.Description
}

// ServingAt asks a router who serves an endpoint. stable and candidate are those
// that are known; "" and "auto" are found out. The error names what the router
// did not tell; what is known without it is returned all the same.
func (a *Adapters) ServingAt(ctx context.Context, ref rollout.EndpointRef, stable, candidate string) (Serving, error) {
	return servingAt(ctx, a.Routers, ref, stable, candidate)
}

func servingAt(
	ctx context.Context, routers map[string]traffic.Router, ref rollout.EndpointRef, stable, candidate string,
) (Serving, error) {
	if stable == "auto" {
		stable = ""
	}
	out := Serving{Stable: stable, Candidate: candidate}
	r, ok := routers[ref.Router]
	if !ok {
		return out, fmt.Errorf("router %s: the config has none of that name", ref.Router)
	}
	var err error
	if out.Split, err = r.Split(ctx, ref.Name); err != nil {
		return out, fmt.Errorf("read the weights of %s/%s: %w", ref.Router, ref.Name, err)
	}
	if out.Description, err = r.Describe(ctx, ref.Name); err != nil {
		return out, fmt.Errorf("describe %s/%s: %w", ref.Router, ref.Name, err)
	}
	if out.Stable == "" {
		out.Stable = heaviest(out.Split.Weights, candidate)
	}
	if out.Stable == "" {
		return out, fmt.Errorf("%s/%s: no deployment has traffic, so stable is not known", ref.Router, ref.Name)
	}
	if out.Candidate == "" {
		out.Candidate = heaviest(out.Split.Weights, out.Stable)
	}
	if out.Candidate == "" {
		for _, name := range slices.Sorted(maps.Keys(out.Description.Deployments)) {
			if name != out.Stable {
				out.Candidate = name
				break
			}
		}
	}
	return out, nil
}

// heaviest is the deployment with the largest weight, but not the one that is
// left out; "" when none has any.
func heaviest(weights map[string]int, but string) string {
	best := ""
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		if name != but && weights[name] > 0 && (best == "" || weights[name] > weights[best]) {
			best = name
		}
	}
	return best
}
