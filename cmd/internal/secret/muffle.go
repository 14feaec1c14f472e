package secret

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	// refusalMax bounds what is kept of an answer that is no success, in bytes.
	refusalMax = 1 << 20
	// tellingMin is how short a text may be and still be a secret.
	tellingMin = 4
)

// sent are the credentials of the request that was answered: those that it was
// given, and every header that was added to it on its way.
func sent(given *http.Request, resp *http.Response) []string {
	if resp.Request == nil {
		return nil
	}
	var secrets []string
	for name, values := range resp.Request.Header {
		if name != "Authorization" && name != "Cookie" && slices.Equal(values, given.Header[name]) || name == "User-Agent" {
			continue
		}
		for _, v := range values {
			secrets = append(secrets, v)
			if kind, credentials, ok := strings.Cut(v, " "); ok && name == "Authorization" {
				secrets = append(secrets, credentials)
				if clear, err := base64.StdEncoding.DecodeString(credentials); err == nil && strings.EqualFold(kind, "Basic") {
					_, password, _ := strings.Cut(string(clear), ":")
					secrets = append(secrets, string(clear), password)
				}
			}
		}
	}
	return secrets
}

// muffle puts stars in the place of secrets in an answer.
func muffle(resp *http.Response, secrets []string) {
	secrets = slices.DeleteFunc(secrets, func(s string) bool { return len(s) < tellingMin })
	if len(secrets) == 0 || resp.Body == nil {
		return
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // the whole before its parts
	resp.Body = &muffled{body: resp.Body, secrets: secrets}
	resp.ContentLength = -1
	resp.Header.Del("Content-Length")
}

// A muffled body is read as a whole when it is first read from.
type muffled struct {
	body    io.ReadCloser
	secrets []string
	text    *bytes.Reader
}

// Read implements io.Reader.
func (m *muffled) Read(p []byte) (int, error) {
	if m.text == nil {
		text, err := io.ReadAll(io.LimitReader(m.body, refusalMax))
		if err != nil {
			return 0, err
		}
		m.text = bytes.NewReader([]byte(stars(string(text), m.secrets)))
	}
	return m.text.Read(p)
}

// Close implements io.Closer.
func (m *muffled) Close() error { return m.body.Close() }

// stars is a text without secrets, as they are and as they stand in addresses.
func stars(text string, secrets []string) string {
	for _, s := range secrets {
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s)} {
			text = strings.ReplaceAll(text, form, "***")
		}
	}
	return text
}
