package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/config"
	yamlv2 "go.yaml.in/yaml/v2"

	"github.com/belayd/belay/policies"
)

// clientTimeout bounds one request of an adapter; the engine's own limits are
// shorter.
const clientTimeout = 30 * time.Second

// client builds the HTTP client of one adapter out of prometheus/common's
// HTTPClientConfig (basic_auth, authorization, oauth2, tls_config, proxy_url,
// http_headers). It follows no redirects and takes no proxy from the
// environment.
func (c *Config) client(field string, raw policies.Raw) (*http.Client, error) {
	return c.newClient(field, raw)
}

// guarded is a client for addresses that an endpoint or a policy names; see
// guardedDialer.
func (c *Config) guarded(field string, raw policies.Raw, loopback bool) (*http.Client, error) {
	return c.newClient(field, raw, config.WithDialContextFunc(guardedDialer(loopback).DialContext))
}

func (c *Config) newClient(field string, raw policies.Raw, options ...config.HTTPClientOption) (*http.Client, error) {
	hc := config.DefaultHTTPClientConfig
	hc.FollowRedirects = false
	if raw != "" {
		if err := yamlv2.UnmarshalStrict([]byte(raw), &hc); err != nil {
			return nil, fmt.Errorf("%s: %w", field, plainly(err))
		}
		hc.FollowRedirects = false
		hc.SetDirectory(c.dir)
	}
	if err := hc.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	cl, err := config.NewClientFromConfig(hc, "belay", append(options, config.WithUserAgent("belayd"))...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	cl.Timeout = clientTimeout
	cl.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return cl, nil
}

// unknownField is how the library says that it does not know a field, with the
// line of the text that it was given and its own type's name.
var unknownField = regexp.MustCompile(`line \d+: field (\S+) not found in type \S+`)

// plainly says what is wrong with an HTTPClientConfig without the library's words.
func plainly(err error) error {
	bad, ok := errors.AsType[*yamlv2.TypeError](err)
	if !ok {
		return err
	}
	var why []string
	for _, e := range bad.Errors {
		e = unknownField.ReplaceAllString(e, "there is no field $1")
		_, after, cut := strings.Cut(e, ": ")
		if cut && strings.HasPrefix(e, "line ") {
			e = after
		}
		why = append(why, e)
	}
	return fmt.Errorf("%s; it takes basic_auth, authorization, oauth2, tls_config, proxy_url and http_headers", strings.Join(why, "; "))
}
