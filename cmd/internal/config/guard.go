package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"

	"github.com/belayd/belay/rollout/traffic"
)

// errForbiddenAddress: an address that belayd does not call on anybody's word. No
// retry mends it.
var errForbiddenAddress error = forbiddenAddress{}

type forbiddenAddress struct{}

// Error implements error.
func (forbiddenAddress) Error() string { return "address not allowed" }

// Is makes it permanent to whoever would try again.
func (forbiddenAddress) Is(target error) bool { return target == traffic.ErrPermanent }

// metadata are the addresses of the clouds' metadata services that are not
// link-local: of AWS, Google, Azure, Alibaba and Oracle.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd00:ec2::23"), netip.MustParseAddr("fd20:ce::254"),
	netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"),
}

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

// allowed reports why an address may not be called; nil when it may. An IPv4
// address within an IPv6 one is judged as well, and is never this machine's
// loopback.
func allowed(a netip.Addr, loopback bool) error {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() && loopback {
		return nil
	}
	if forbidden(a) || slices.ContainsFunc(embedded(a), forbidden) {
		return fmt.Errorf("dial %s: %w", a, errForbiddenAddress)
	}
	return nil
}

// forbidden reports whether an address by itself may not be called.
func forbidden(a netip.Addr) bool {
	return a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() || slices.Contains(metadata, a)
}

// The prefixes under which an IPv6 address stands for an IPv4 one.
var (
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
)

// embedded are the IPv4 addresses to which a translator or a tunnel may take the
// address. Where a form leaves open which bytes they are, all that it may mean.
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	v4 := func(i, j, k, l int) netip.Addr { return netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}) }
	last := v4(12, 13, 14, 15)
	switch {
	case compatible.Contains(a), translated.Contains(a), nat64.Contains(a):
		return []netip.Addr{last}
	case localNAT64.Contains(a):
		// The network chooses the length of its prefix: 48, 56, 64 or 96 (RFC 6052,
		// section 2.2). What is read at another length is often nothing but zeros.
		return slices.DeleteFunc([]netip.Addr{v4(6, 7, 9, 10), v4(7, 9, 10, 11), v4(9, 10, 11, 12), last},
			netip.Addr.IsUnspecified)
	case sixToFour.Contains(a):
		return []netip.Addr{v4(2, 3, 4, 5)}
	case teredo.Contains(a):
		return []netip.Addr{v4(4, 5, 6, 7), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}
	case b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, RFC 5214
		return []netip.Addr{last}
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
