package aws

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// env is the environment of a process.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

type seen struct{ r *http.Request }

// RoundTrip implements http.RoundTripper.
func (s *seen) RoundTrip(r *http.Request) (*http.Response, error) {
	s.r = r
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

// What is sent is what was signed: the body whole, the operation and the session's token
// among what the signature covers, and the secret nowhere. A second request is signed
// by the credentials that the file has then.
func TestSign(t *testing.T) {
	file := filepath.Join(t.TempDir(), "aws.json")
	write := func(key string) {
		text := fmt.Sprintf(`{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": "s3cr3t", "SessionToken": "t0ken"}`, key)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got seen
	rt := Sign(&got, Login{Region: "eu-west-1", Service: "monitoring", Target: "Granite.GetMetricData", CredentialsFile: file})
	for _, key := range []string{"AKIDONE", "AKIDTWO"} {
		write(key)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://monitoring.eu-west-1.amazonaws.com/", strings.NewReader(`{"a":1}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if _, err := rt.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.r.Body)
		if err != nil || string(body) != `{"a":1}` || got.r.ContentLength != 7 {
			t.Errorf("got the body %q of %d bytes, %v", body, got.r.ContentLength, err)
		}
		a := got.r.Header.Get("Authorization")
		for _, want := range []string{"Credential=" + key + "/", "/eu-west-1/monitoring/aws4_request", "content-type", "x-amz-target", "x-amz-security-token", "host"} {
			if !strings.Contains(a, want) {
				t.Errorf("got the authorization %q, want %q in it", a, want)
			}
		}
		if all := fmt.Sprint(got.r.Header); strings.Contains(all, "s3cr3t") || got.r.Header.Get("Content-Type") != "application/x-amz-json-1.0" {
			t.Errorf("got the headers %s", all)
		}
		if req.Header.Get("Authorization") != "" {
			t.Error("the caller's request was changed")
		}
	}
}

// The signature is the one that AWS's published test suite gives for get-vanilla.
func TestSignVector(t *testing.T) {
	c := chain{getenv: env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")}
	credentials, err := c.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.amazonaws.com/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, empty, "service", "us-east-1", time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	const want = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, " +
		"Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
	if got := r.Header.Get("Authorization"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A container's agent is asked with its token and once for as long as its credentials
// are good; what it must not be is refused, and no error says what it answered.
func TestAgent(t *testing.T) {
	asked, answer := 0, ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Header.Get("Authorization") != "p0d" {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = fmt.Fprint(w, answer)
	}))
	defer srv.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("p0d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newChain("")
	c.getenv = env("AWS_CONTAINER_CREDENTIALS_FULL_URI", srv.URL+"/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token)
	for _, bad := range []string{"", "{}", `{"AccessKeyId": "A", "SecretAccessKey": "s3cr3t", "Expiration": "2020-01-01T00:00:00Z"}`} {
		answer = bad
		if _, err := c.Retrieve(t.Context()); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q: got %v, want an error without the secret", bad, err)
		}
	}
	asked = 0
	answer = fmt.Sprintf(`{"AccessKeyId": "A", "SecretAccessKey": "s3cr3t", "Token": "t", "Expiration": %q}`, time.Now().Add(time.Hour).Format(time.RFC3339))
	for range 3 {
		got, err := c.Retrieve(t.Context())
		if err != nil || got.SessionToken != "t" {
			t.Fatalf("got %v, %v, want the agent's credentials", got.SessionToken, err)
		}
	}
	if asked != 1 {
		t.Errorf("the agent was asked %d times, want once", asked)
	}
	for _, other := range []string{"http://metadata.example/", "http://169.254.169.254/latest", "ftp://127.0.0.1/", "://"} {
		c := newChain("")
		c.getenv = env("AWS_CONTAINER_CREDENTIALS_FULL_URI", other)
		if _, err := c.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "AWS_CONTAINER_CREDENTIALS_FULL_URI") {
			t.Errorf("%s: got %v, want it refused", other, err)
		}
	}
	c = newChain("")
	c.getenv = env()
	if _, err := c.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "name a credentialsFile") {
		t.Errorf("without any: got %v, want the ways to give some", err)
	}
}
