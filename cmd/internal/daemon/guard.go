package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// errForbiddenAddress: an address that belayd does not call on anybody's word.
var errForbiddenAddress = errors.New("address not allowed")

// metadata6 is the cloud metadata address of IPv6.
var metadata6 = netip.MustParseAddr("fd00:ec2::254")

// guardedDialer connects only to addresses that may be called on the word of an
// endpoint or a policy: not to link-local ones (cloud metadata among them),
// multicast or unspecified, and to loopback only where it is allowed. It looks
// at the resolved address, after DNS and before the connection, so that no name
// can be rebound in between.
func guardedDialer(loopback bool) *net.Dialer {
	return &net.Dialer{
		Timeout: 10 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("dial %s: %w", address, errForbiddenAddress)
			}
			return allowed(ap.Addr(), loopback)
		},
	}
}

// allowed reports why an address may not be called; nil when it may.
func allowed(a netip.Addr, loopback bool) error {
	a = a.Unmap()
	switch {
	case a.IsLoopback() && loopback:
		return nil
	case a.IsLoopback(), a.IsUnspecified(), a.IsLinkLocalUnicast(), a.IsMulticast(), a.IsInterfaceLocalMulticast(), a == metadata6:
		return fmt.Errorf("dial %s: %w", a, errForbiddenAddress)
	}
	return nil
}

// isLoopbackURL reports whether an address of the config is on this machine: what
// such an endpoint names may be on this machine too.
func isLoopbackURL(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	if u.Hostname() == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	return err == nil && a.IsLoopback()
}
