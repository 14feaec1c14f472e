package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
)

// described is the endpoint that a name means, with its facts, as a list of one.
func described(ctx context.Context, e *env, conn *connection, name string) (api.EndpointList, error) {
	out := api.EndpointList{SchemaVersion: api.SchemaVersion}
	c, err := conn.client(e)
	if err != nil {
		return out, err
	}
	router, short, both := strings.Cut(name, "/")
	ref := rollout.EndpointRef{Router: router, Name: short}
	if !both {
		l, err := c.Endpoints(ctx)
		if err != nil {
			return out, err
		}
		if ref, err = matching(l, name); err != nil {
			return out, err
		}
	}
	d, err := c.Endpoint(ctx, ref)
	if err != nil {
		return out, err
	}
	out.Endpoints = []api.Endpoint{d.Endpoint}
	return out, nil
}

// printEndpoint shows one endpoint with its facts.
func (e *env) printEndpoint(output string, l api.EndpointList) error {
	if output != "table" {
		return e.printEndpoints(output, l)
	}
	if err := e.printEndpoints(output, l); err != nil {
		return err
	}
	for _, x := range l.Endpoints {
		if x.Facts == nil {
			continue
		}
		if err := e.printFacts(e.stdout, x); err != nil {
			return err
		}
	}
	return nil
}

// printFacts shows what a router tells of an endpoint.
func (e *env) printFacts(w io.Writer, x api.Endpoint) error {
	f := x.Facts
	untold := map[string]bool{}
	for _, field := range f.Unknown {
		untold[field] = true
	}
	told := func(field, value string) string {
		if untold[field] {
			return e.paint(yellow, "not told")
		}
		return orDash(safe(value))
	}
	t := &table{}
	t.add("DEPLOYMENT", "WEIGHT", "MIRROR", "READY", "INSTANCES", "CONCURRENCY", "VERSION", "")
	for _, name := range slices.Sorted(maps.Keys(f.Deployments)) {
		d, field := f.Deployments[name], "deployments."+name
		t.add(safe(name), fmt.Sprintf("%d%%", x.Weights[name]), fmt.Sprintf("%d%%", x.Mirror[name]),
			told(field+".ready", map[bool]string{true: "yes", false: "no"}[d.Ready]),
			told(field+".instances", fmt.Sprint(d.Instances)),
			told(field+".concurrency", fmt.Sprint(d.Concurrency)), told(field+".version", d.Version), safe(d.Reason))
	}
	fmt.Fprintln(w)
	if err := t.print(w); err != nil {
		return err
	}
	var tags []string
	for _, k := range slices.Sorted(maps.Keys(f.Tags)) {
		tags = append(tags, k+"="+f.Tags[k])
	}
	yes := map[bool]string{true: "yes", false: "no"}
	fmt.Fprintln(w)
	facts := &table{}
	facts.add("scoring address", told("scoringURI", f.ScoringURI))
	facts.add("clients show", told("authMode", f.AuthMode))
	facts.add("reached from outside", told("publicNetwork", yes[f.PublicNetwork]))
	facts.add("can mirror", yes[f.CanMirror])
	facts.add("tags", told("tags", strings.Join(tags, ", ")))
	facts.add("not told", orDash(safe(strings.Join(f.Unknown, ", "))))
	if err := facts.print(w); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(f.ManualRollback)) {
		fmt.Fprintf(w, "\nall to %s by hand:\n  %s\n", safe(name), safe(f.ManualRollback[name]))
	}
	return nil
}
