package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/belayd/belay/store/bolt"
)

// controlPath is the socket beside the store on which a running belayd answers
// its own machine's administrator: whoever may read the store's folder.
func controlPath(storePath string) string { return storePath + ".ctl" }

// control serves GET /backup on the control socket until ctx ends.
func (d *daemon) control(ctx context.Context) error {
	path := controlPath(d.storePath())
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open control socket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		// A path too long for a socket must not keep rollouts from being watched.
		d.log.Warn("no control socket: belayd backup works only while belayd is stopped", "outcome", err.Error())
		return nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("open control socket: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /backup", d.serveBackup)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
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
	if err := fetchBackup(ctx, controlPath(path), to); err == nil {
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
