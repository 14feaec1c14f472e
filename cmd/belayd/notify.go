package main

import (
	"net"
	"os"
	"strconv"
	"time"
)

// A notifySocket tells systemd how the daemon does (sd_notify(3)): READY=1 when
// it serves, WATCHDOG=1 while it lives, STOPPING=1 when it ends. Without
// NOTIFY_SOCKET it does nothing.
type notifySocket struct {
	addr string
	done chan struct{}
}

func newNotify() *notifySocket {
	return &notifySocket{addr: os.Getenv("NOTIFY_SOCKET"), done: make(chan struct{})}
}

// ready says that requests are served, and from then on, where a watchdog is
// set, twice in each of its periods that the process lives.
func (n *notifySocket) ready(string) {
	n.send("READY=1")
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || n.addr == "" {
		return
	}
	go func() {
		t := time.NewTicker(time.Duration(usec) * time.Microsecond / 2)
		defer t.Stop()
		for {
			select {
			case <-n.done:
				return
			case <-t.C:
				n.send("WATCHDOG=1")
			}
		}
	}()
}

// stopping says that the daemon ends.
func (n *notifySocket) stopping() {
	close(n.done)
	n.send("STOPPING=1")
}

// send tells systemd one thing; nobody listening is no error of ours.
func (n *notifySocket) send(state string) {
	if n.addr == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.addr, Net: "unixgram"})
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte(state))
}
