package secret

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Whoever refuses a request may repeat it: nothing of its credentials is in what is
// read of the refusal, as they were sent or decoded. A success is as it was.
func TestDiscreetMuffles(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("belay:pass word"))
	for _, status := range []int{http.StatusOK, http.StatusUnauthorized, http.StatusInternalServerError} {
		echo := roundTripper(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context()) // as the library's round trippers do
			r.Header.Set("Authorization", basic)
			r.Header.Set("X-Api-Key", "key-of-theirs")
			text := fmt.Sprint(r.Header, " belay:pass word, pass+word, proxy-secret, application/json")
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
		})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := Discreet(echo, "proxy-secret").RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{basic, basic[6:], "pass word", "pass+word", "key-of-theirs", "proxy-secret"} {
			if got, want := strings.Contains(string(body), s), status == http.StatusOK; got != want {
				t.Errorf("%d: %q in the answer: got %v, want %v: %s", status, s, got, want, body)
			}
		}
		if !strings.Contains(string(body), "application/json") {
			t.Errorf("%d: what is no secret is not in the answer: %s", status, body)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
