package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/belayd/belay/cmd/internal/serve"
	"github.com/belayd/belay/store/bolt"
)

// controlMax bounds the connections of the control socket.
const controlMax = 64

// socketPath is the socket on which a running belayd answers its own machine's
// administrator: its own user, and root. It lies beside the store where the config
// does not say.
func (c *Config) socketPath() string {
	if c.Socket != "" {
		return c.path(c.Socket)
	}
	return c.path(c.Store.Bolt.Path) + ".ctl"
}

// control serves the API and GET /backup on the control socket until ctx ends. Its
// connections are its own: whatever comes over the network does not take them.
func (d *daemon) control(ctx context.Context, api http.Handler) error {
	path := d.now().config.socketPath()
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

// serveBackup sends a consistent copy of the store.
func (d *daemon) serveBackup(w http.ResponseWriter, r *http.Request) {
	dir, err := os.MkdirTemp(filepath.Dir(d.storePath()), ".backup-*")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "belay.db")
	if err := d.store.Backup(r.Context(), file); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.ServeFile(w, r, file)
}

// Backup writes a consistent copy of the store that the config names to a file
// that must not exist: from the running belayd where there is one, else from the
// file itself. The copy was opened and checked when it returns.
func Backup(ctx context.Context, configFile, to string) error {
	c, err := ReadConfig(configFile)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("back up store: %s exists already", to)
	}
	path := c.path(c.Store.Bolt.Path)
	if err := fetchBackup(ctx, c.socketPath(), to); err == nil {
		return checkCopy(to)
	} else if !errors.Is(err, errNoDaemon) {
		return fmt.Errorf("back up store: %w", err)
	}
	s, err := bolt.Open(path, bolt.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	return errors.Join(s.Backup(ctx, to), s.Close())
}

// errNoDaemon: nobody answers on the control socket.
var errNoDaemon = errors.New("no belayd is running")

// fetchBackup asks the running belayd for a copy.
func fetchBackup(ctx context.Context, socket, to string) (err error) {
	cl := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer cl.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://belayd/backup", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := cl.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoDaemon, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("belayd answered %s: %s", resp.Status, b)
	}
	tmp, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = io.Copy(tmp, resp.Body)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Link(tmp.Name(), to)
}

// checkCopy opens a copy as a store.
func checkCopy(file string) error {
	s, err := bolt.Open(file, bolt.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("check the copy: %w", err)
	}
	return s.Close()
}
