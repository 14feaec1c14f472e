package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/belayd/belay/cmd/internal/folder"
)

// A chain finds credentials, and keeps those that a container's agent gave until shortly
// before they end. It is safe for concurrent use.
type chain struct {
	file   string
	client *http.Client
	getenv func(string) string

	mu   sync.Mutex
	kept sdk.Credentials
}

// early is how long before their end credentials are asked for anew.
const early = 5 * time.Minute

func newChain(file string) *chain {
	return &chain{file: file, getenv: os.Getenv, client: &http.Client{
		Timeout:       5 * time.Second,
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Retrieve finds valid credentials.
func (c *chain) Retrieve(ctx context.Context) (sdk.Credentials, error) {
	if c.file != "" {
		text, _, err := folder.ReadFile(c.file, most)
		if err != nil {
			return sdk.Credentials{}, fmt.Errorf("credentialsFile: %w", err)
		}
		return parse(text, "credentialsFile")
	}
	at, err := c.agent()
	switch {
	case err != nil:
		return sdk.Credentials{}, err
	case at != "":
		return c.ask(ctx, at)
	}
	found := sdk.Credentials{AccessKeyID: c.getenv("AWS_ACCESS_KEY_ID"),
		SecretAccessKey: c.getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: c.getenv("AWS_SESSION_TOKEN")}
	if !found.HasKeys() {
		return sdk.Credentials{},
			errors.New("there are none: name a credentialsFile, give belayd's pod or task a role, or set AWS_ACCESS_KEY_ID " +
				"and AWS_SECRET_ACCESS_KEY")
	}
	return found, nil
}

// agents are the addresses of ECS's and EKS's agents, which are asked without TLS.
var agents = []string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}

// agent is the address at which the container's credentials are had; "" for none.
func (c *chain) agent() (string, error) {
	if path := c.getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		return "http://169.254.170.2" + path, nil
	}
	full := c.getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if full == "" {
		return "", nil
	}
	u, err := url.Parse(full)
	if err != nil {
		return "", errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is no address")
	}
	host := u.Hostname()
	known := u.Scheme == "https"
	if ip, err := netip.ParseAddr(host); err == nil {
		known = known || u.Scheme == "http" && ip.IsLoopback()
	}
	for _, a := range agents {
		known = known || u.Scheme == "http" && a == host
	}
	if !known {
		return "", errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor an agent's address")
	}
	return full, nil
}

// ask has the container's credentials from its agent.
func (c *chain) ask(ctx context.Context, at string) (sdk.Credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept.HasKeys() && time.Until(c.kept.Expires) > early {
		return c.kept, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return sdk.Credentials{}, errors.New("the agent's address is none")
	}
	token := c.getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	if file := c.getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
		text, _, err := folder.ReadFile(file, most)
		if err != nil {
			return sdk.Credentials{}, fmt.Errorf("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	resp, err := c.client.Do(req) //nolint:gosec // the address is an agent's, or https as the environment says
	if err != nil {
		return sdk.Credentials{}, errors.New("the container's agent does not answer")
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil || resp.StatusCode != http.StatusOK {
		return sdk.Credentials{}, fmt.Errorf("the container's agent answered %d", resp.StatusCode)
	}
	found, err := parse(text, "the container's agent")
	if err == nil {
		c.kept = found
	}
	return found, err
}

// parse reads credentials as credential_process and the agents write them; from says
// whose they are.
func parse(text []byte, from string) (sdk.Credentials, error) {
	var in struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Token           string
		Expiration      time.Time
	}
	if err := json.Unmarshal(text, &in); err != nil || in.AccessKeyID == "" || in.SecretAccessKey == "" {
		return sdk.Credentials{}, fmt.Errorf("%s: there is no AccessKeyId and SecretAccessKey in JSON", from)
	}
	if !in.Expiration.IsZero() && !time.Now().Before(in.Expiration) {
		return sdk.Credentials{}, fmt.Errorf("%s: the credentials ended at %s", from,
			in.Expiration.UTC().Format(time.RFC3339))
	}
	return sdk.Credentials{AccessKeyID: in.AccessKeyID, SecretAccessKey: in.SecretAccessKey,
		SessionToken: in.SessionToken + in.Token,
		CanExpire:    !in.Expiration.IsZero(), Expires: in.Expiration}, nil
}
