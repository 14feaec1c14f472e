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
type notifySocket struct{ addr string }

func newNotify() notifySocket { return notifySocket{addr: os.Getenv("NOTIFY_SOCKET")} }

// ready says that requests are served.
func (n notifySocket) ready(string) { n.send("READY=1") }

// every is how often systemd wants to hear of the process: twice in each period
// of its watchdog, 0 where there is none. A watchdog for another process
// (WATCHDOG_PID) is none.
func (n notifySocket) every() time.Duration {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err != nil || usec <= 0 || n.addr == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

// beat says that the daemon is not stuck.
func (n notifySocket) beat() { n.send("WATCHDOG=1") }

// stopping says that the daemon ends.
func (n notifySocket) stopping() { n.send("STOPPING=1") }

// send tells systemd one thing; nobody listening is no error of ours.
func (n notifySocket) send(state string) {
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
