package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/belayd/belay/cmd/internal/serve"
	"github.com/belayd/belay/rollout/api"
)

// controlMax bounds the connections of the control socket.
const controlMax = 64

// control serves the API and GET /backup on the control socket until ctx ends. Its
// connections are its own: whatever comes over the network does not take them.
func (d *daemon) control(ctx context.Context, api http.Handler) error {
	path := d.now().config.SocketPath()
	l, err := listenPrivately(path)
	if err != nil {
		// A path too long for a socket must not keep rollouts from being watched.
		d.log.Warn("no control socket: belayd backup works only while belayd is stopped", "outcome", err.Error())
		return nil
	}
	defer func() { _ = os.Remove(path) }()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /backup", d.serveBackup)
	mux.Handle("/", byControl(api))
	s := &serve.Server{Handler: mux, Log: d.log, ConnectionsMax: controlMax}
	if err := s.Run(ctx, l); err != nil {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
}

// controlKey marks the requests that came over the control socket.
type controlKey struct{}

// byControl marks requests as such that came over the control socket.
func byControl(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), controlKey{}, true)))
	})
}

// listenPrivately listens on a socket that only its owner may connect to, and puts
// it in the place of one that an earlier process has left. It is made in a folder
// of its own, so that nobody else gets in before its mode is set.
func listenPrivately(path string) (net.Listener, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	made := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it has another name by then
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		return nil, fmt.Errorf("open control socket: %w", errors.Join(err, l.Close()))
	}
	return l, nil
}

// locked lets nobody in but whoever may connect to the control socket: this
// machine's administrator, who could as well put the config right. It does not say
// why: whoever asks is nobody that is known.
type locked struct{}

// Authenticate implements api.Authenticator.
func (locked) Authenticate(r *http.Request) (api.Actor, error) {
	if by, _ := r.Context().Value(controlKey{}).(bool); by {
		r = r.Clone(r.Context())
		r.Host = "localhost" // a socket has no name that somebody could make resolve to it
		return api.Loopback{}.Authenticate(r)
	}
	return api.Actor{}, &api.ProblemDetails{Type: api.TypeUnavailable, Status: http.StatusServiceUnavailable,
		Title: "Not available now",
		Detail: "belayd's auth cannot be used, its log says why: until that is put right it answers on its own " +
			"machine's control socket alone"}
}
