package cli

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/api"
)

// belayd's socket is taken where it is named, and where nothing is named and
// somebody answers there; a server that is named is asked itself.
func TestSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.Host != "localhost" && r.Host != "127.0.0.1:7070" {
			t.Errorf("Host: got %q, want this machine", r.Host)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(api.PolicyList{SchemaVersion: 1})
	})} //nolint:gosec // of a test
	go func() { _ = h.Serve(l) }()
	defer func() { _ = h.Close() }()
	for _, x := range []struct {
		name      string
		preferred string
		args      []string
		code      int
		want      string // of standard error
	}{
		{"named", "", []string{"--server", "unix:" + socket}, 0, ""},
		{"preferred", socket, nil, 0, ""},
		{"named, and nobody there", socket, []string{"--server", "unix:" + socket + ".not"}, 1, "unix:" + socket + ".not"},
		{"another server named", socket, []string{"--server", "http://127.0.0.1:1"}, 1, "127.0.0.1:1"},
		{"with a certificate, which goes over TLS only", socket, []string{"--server", "unix:" + socket, "--cert-file", "x"}, 2, "https"},
	} {
		asked = 0
		s := newShell(t)
		e := s.env()
		e.socket = x.preferred
		if got := e.run(t.Context(), append([]string{"list"}, x.args...)); got != x.code || !strings.Contains(s.err.String(), x.want) {
			t.Errorf("%s: got exit code %d and %q, want %d and %q", x.name, got, s.err.String(), x.code, x.want)
		}
		if (asked > 0) != (x.code == 0) {
			t.Errorf("%s: the socket was asked %d times", x.name, asked)
		}
	}
}
