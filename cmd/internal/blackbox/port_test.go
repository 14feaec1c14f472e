package blackbox

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/belayd/belay/rollout/realtest"
)

// belayd is killed in the middle of a rollout, and somebody else has its port when
// it comes back. It carries the rollout all the same, is ordered about over its
// socket, says there what is wrong, and listens as soon as the port is free.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	w := newWorld(t, e, "", policy("recs", "recs", "", "[{weight: 5%, bake: 1h}, {weight: 100%, bake: 1h}]"))
	w.release("v1")
	realtest.Eventually(t, "green to have 5%", func() bool { return e.green("recs") == 5 })
	w.kill(syscall.SIGKILL)
	thief, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	e.broken.Store(requests())
	w.spawn()
	realtest.Eventually(t, "the broken candidate to be rolled back", func() bool { return e.green("recs") == 0 })
	socket := "unix:" + w.dir + "/belay.db.ctl"
	if code, out := w.run("", "list", "--server", socket); code != 0 || !strings.Contains(out, "recs") {
		t.Errorf("list over the socket: got exit code %d: %s", code, out)
	}
	if got := w.overSocket("/readyz"); !strings.Contains(got, "address already in use") || !strings.Contains(got, "belay.db.ctl") {
		t.Errorf("/readyz over the socket: got %s, want the port and the socket", got)
	}
	if err := thief.Close(); err != nil {
		t.Fatal(err)
	}
	realtest.Eventually(t, "belayd to listen", func() bool {
		code, _ := w.run("", "list")
		return code == 0
	})
	if got := w.overSocket("/readyz"); strings.Contains(got, "already in use") {
		t.Errorf("/readyz when it listens: got %s", got)
	}
}

// overSocket is what belayd answers on its socket.
func (w *world) overSocket(path string) string {
	w.t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(w.dir, "belay.db.ctl"))
	}
	resp, err := (&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}).Get("http://localhost" + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}
