package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/traffic"
	"github.com/belayd/belay/rollout/traffic/webhook"
)

func routerCommand() *command {
	return &command{
		name: "router", short: "Try routers. Needs no belayd.",
		sub: []*command{routerConformCommand()},
	}
}

func routerConformCommand() *command {
	return &command{
		name: "conform", args: "URL", short: "Prove that an endpoint keeps the webhook router's contract.", min: 1,
		max: 1,
		long: "It WRITES to the endpoint: it moves one point of the traffic to another deployment, tries writes that must\n" +
			"be refused, and puts the split back in the end, also after Ctrl-C. Run it where nobody is served.\n" +
			"URL is what the router's config names, without /endpoints. Each rule of the contract is a line: pass, " +
			"fail,\n" +
			"advice (Belay can live without it) or skipped (it could not be tried). The exit code is 1 when a rule fails.",
		examples: []string{
			"belay router conform http://127.0.0.1:8080",
			"belay router conform https://edge.example/traffic --endpoint recs --token-file edge.token",
			"belay router conform http://127.0.0.1:8080 --output json > conform.json",
		},
		setup: func(f *flags) run {
			endpoint := f.String("endpoint", "", "`NAME` of the endpoint; may be left out when there is one")
			tokenFile := f.file("token-file", "`FILE` that holds a bearer token for URL")
			caFile := f.file("ca-file", "`FILE` with the certificates that URL's must be signed by")
			output := f.choice("output", "how to print", "table", "json", "yaml")
			return func(ctx context.Context, e *env, args []string) error {
				client, err := endpointClient(*tokenFile, *caFile)
				if err != nil {
					return err
				}
				return e.conform(ctx, client, args[0], *endpoint, *output)
			}
		},
	}
}

// endpointClient is an HTTP client for an endpoint of the caller's, which is no
// belayd.
func endpointClient(tokenFile, caFile string) (*http.Client, error) {
	client, err := tlsFiles{ca: caFile}.client(dialTCP)
	if err != nil || tokenFile == "" {
		return client, err
	}
	token, err := readToken(tokenFile)
	if err != nil {
		return nil, err
	}
	next := client.Transport
	client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+token)
		return next.RoundTrip(r)
	})
	return client, nil
}

// roundTrip is a function as http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A conformity is what conform prints as JSON.
type conformity struct {
	SchemaVersion int               `json:"schemaVersion"`
	URL           string            `json:"url"`
	Endpoint      string            `json:"endpoint"`
	OK            bool              `json:"ok"`
	Findings      []webhook.Finding `json:"findings"`
}

// conform runs the conformance test and prints what it found.
func (e *env) conform(ctx context.Context, client *http.Client, url, endpoint, output string) error {
	router, err := webhook.New(webhook.Config{URL: url, Client: client})
	if err != nil {
		return usageError("%w", err)
	}
	if endpoint == "" {
		if endpoint, err = onlyEndpoint(ctx, router); err != nil {
			return err
		}
	}
	now, err := router.Split(ctx, endpoint)
	if err != nil {
		fmt.Fprintf(e.stderr, "%s cannot be read; nothing will be written\n", safe(endpoint))
	} else {
		fmt.Fprintf(e.stderr, "%s shows %s. This test WRITES to it: it moves one point of the traffic and puts it "+
			"back.\n", safe(endpoint), safe(now.String()))
	}
	out := conformity{SchemaVersion: api.SchemaVersion, URL: url, Endpoint: endpoint, OK: true,
		Findings: webhook.Conform(ctx, client, url, endpoint)}
	count := map[webhook.RuleOutcome]int{}
	for _, x := range out.Findings {
		count[x.Verdict]++
	}
	out.OK = count[webhook.Fail] == 0
	err = e.print(output, out, func(w io.Writer) error {
		colors := map[webhook.RuleOutcome]string{webhook.Pass: green, webhook.Fail: red, webhook.Advice: yellow,
			webhook.Skipped: faint}
		t := &table{}
		t.add("RULE", "VERDICT", "WANT", "FOUND")
		for _, x := range out.Findings {
			t.add(x.Rule, e.paint(colors[x.Verdict], string(x.Verdict)), orDash(safe(x.Want)), safe(x.Found))
		}
		return t.print(w)
	}, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "%s: %d pass, %d fail, %d advice, %d skipped\n", plural(len(out.Findings), "rule"),
		count[webhook.Pass], count[webhook.Fail], count[webhook.Advice], count[webhook.Skipped])
	if ctx.Err() != nil {
		return errors.New("interrupted; the split was put back as far as the last line says")
	}
	if !out.OK {
		return &codeError{code: exitError}
	}
	return nil
}

// onlyEndpoint is the endpoint that a router shows, when it shows one.
func onlyEndpoint(ctx context.Context, router traffic.Router) (string, error) {
	var names []string
	for name, err := range router.Endpoints(ctx) {
		if err != nil {
			return "", err
		}
		names = append(names, name)
	}
	switch len(names) {
	case 1:
		return names[0], nil
	case 0:
		return "", errors.New("there is no endpoint")
	}
	return "", usageError("--endpoint: name one of %s", strings.Join(names, ", "))
}
