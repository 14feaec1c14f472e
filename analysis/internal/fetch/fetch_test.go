package fetch

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Addresses go, whatever wraps them; what happened stays.
func TestBare(t *testing.T) {
	inner := errors.New("dial tcp 10.0.0.1:443: connect: connection refused")
	u := &url.Error{Op: "Get", URL: "https://u:pw@h/x?token=abc", Err: inner}
	for _, err := range []error{
		u,
		fmt.Errorf("token: %w", &url.Error{Op: "Post", URL: "https://login/abc", Err: u}),
		errors.New(`Get "https://u:pw@h/x?token=abc": ` + inner.Error()),
	} {
		got := Bare(err).Error()
		if strings.Contains(got, "abc") || strings.Contains(got, "pw") || !strings.Contains(got, "connection refused") {
			t.Errorf("Bare(%v): got %q, want the cause and no address", err, got)
		}
	}
	if Bare(nil) != nil {
		t.Error("Bare(nil): want nil")
	}
}

type body string

// RoundTrip implements http.RoundTripper.
func (b body) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Request: r, Body: io.NopCloser(strings.NewReader(string(b)))}, nil
}

// An answer of exactly the bound is whole, one byte more is an error.
func TestDoBounds(t *testing.T) {
	for most, want := range map[int64]string{4: "", 3: "larger than 3 bytes"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://h", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		err = Do(&http.Client{Transport: body("1234")}, req, time.Minute, most, func(_ *http.Response, r io.Reader) error {
			var err error
			got, err = io.ReadAll(r)
			return err
		})
		switch {
		case want == "" && (err != nil || string(got) != "1234"):
			t.Errorf("bound %d: got %q, %v, want all of it", most, got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("bound %d: got %v, want %q", most, err, want)
		}
	}
}
