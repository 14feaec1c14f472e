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

	"github.com/belayd/belay/cmd/internal/config"
)

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
	c, err := config.Read(configFile)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("back up store: %s exists already", to)
	}
	if err := fetchBackup(ctx, c.SocketPath(), to); err == nil {
		return checkCopy(c, to)
	} else if !errors.Is(err, errNoDaemon) {
		return fmt.Errorf("back up store: %w", err)
	}
	s, err := c.OpenStore(true, nil)
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
func checkCopy(c *config.Config, file string) error {
	s, err := c.OpenCopy(file, true, nil)
	if err != nil {
		return fmt.Errorf("check the copy: %w", err)
	}
	return s.Close()
}
