package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/config"
	yamlv2 "go.yaml.in/yaml/v2"

	"github.com/belayd/belay/cmd/internal/secret"
	"github.com/belayd/belay/policies/document"
)

// clientTimeout bounds one request of an adapter; the engine's own limits are
// shorter.
const clientTimeout = 30 * time.Second

// client builds the HTTP client of one adapter out of prometheus/common's
// HTTPClientConfig (basic_auth, authorization, oauth2, tls_config, proxy_url,
// http_headers). It follows no redirects and takes no proxy from the
// environment.
func (c *Config) client(field string, raw document.Raw) (*http.Client, error) {
	return c.newClient(field, raw, (&net.Dialer{}).DialContext)
}

// guarded is a client for addresses that an endpoint or a policy names; see
// guardedDialer.
func (c *Config) guarded(field string, raw document.Raw, loopback bool) (*http.Client, error) {
	return c.newClient(field, raw, guardedDialer(loopback).DialContext)
}

func (c *Config) newClient(field string, raw document.Raw, dial secret.Dial) (*http.Client, error) {
	hc := config.DefaultHTTPClientConfig
	hc.FollowRedirects = false
	if raw != "" {
		text, err := secret.Section(field, string(raw))
		if err != nil {
			return nil, err
		}
		if err := yamlv2.UnmarshalStrict([]byte(text), &hc); err != nil {
			return nil, fmt.Errorf("%s: %w", field, plainly(err))
		}
		hc.FollowRedirects = false
		hc.SetDirectory(c.dir)
	}
	if err := hc.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	if hc.OAuth2 != nil {
		dial = secret.Impatient(dial, clientTimeout)
	}
	cl, err := config.NewClientFromConfig(hc, "belay", config.WithDialContextFunc(config.DialContextFunc(dial)),
		config.WithUserAgent("belayd"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	var proxy []string
	if at := hc.ProxyURL.URL; at != nil && at.User != nil {
		password, _ := at.User.Password()
		proxy = []string{password, base64.StdEncoding.EncodeToString([]byte(at.User.Username() + ":" + password))}
	}
	cl.Transport = secret.Discreet(cl.Transport, proxy...)
	if hc.OAuth2 != nil {
		cl.Transport = secret.Prompt(cl.Transport)
	}
	cl.Timeout = clientTimeout
	cl.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return cl, nil
}

// unknownField is how the library says that it does not know a field, with the
// line of the text that it was given and its own type's name.
var unknownField = regexp.MustCompile(`line \d+: field (\S+) not found in type \S+`)

// quoted is how the library shows the value that it could not read.
var quoted = regexp.MustCompile("`[^`]*`")

// plainKey is a name that a field of the section could have.
var plainKey = regexp.MustCompile(`^[a-z_]{1,32}$`)

// plainly says what is wrong with an HTTPClientConfig without the library's words,
// and without what stands in it.
func plainly(err error) error {
	bad, ok := errors.AsType[*yamlv2.TypeError](err)
	if _, address := errors.AsType[*url.Error](err); address {
		return errors.New("proxy_url is no address (what is there is not shown: it may hold a password)")
	}
	if !ok {
		text, _, _ := strings.Cut(err.Error(), ": ")
		return errors.New(text)
	}
	var why []string
	for _, e := range bad.Errors {
		if m := unknownField.FindStringSubmatch(e); m != nil {
			e = "there is a field that it does not know"
			if plainKey.MatchString(m[1]) {
				e = "there is no field " + m[1]
			}
		}
		e = strings.ReplaceAll(quoted.ReplaceAllString(e, ""), "  ", " ")
		_, after, cut := strings.Cut(e, ": ")
		if cut && strings.HasPrefix(e, "line ") {
			e = after
		}
		why = append(why, e)
	}
	return fmt.Errorf("%s; it takes basic_auth, authorization, oauth2, tls_config, proxy_url and http_headers",
		strings.Join(why, "; "))
}
