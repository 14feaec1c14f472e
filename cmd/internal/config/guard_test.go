package config

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout/traffic"
)

// An address that may not be called may not be called in disguise either: IPv6
// has many ways to write an IPv4 address, and on the way a translator or a tunnel
// takes it out again. What is public stays reachable in every form: clusters with
// IPv6 alone reach IPv4 through NAT64.
func TestEmbeddedAddresses(t *testing.T) {
	forms := map[string]func(v4 [4]byte) netip.Addr{
		"itself":          netip.AddrFrom4,
		"mapped":          func(v [4]byte) netip.Addr { return v6("::ffff:0:0", 12, v) },
		"translated":      func(v [4]byte) netip.Addr { return v6("::ffff:0:0:0", 12, v) },
		"compatible":      func(v [4]byte) netip.Addr { return v6("::", 12, v) },
		"NAT64":           func(v [4]byte) netip.Addr { return v6("64:ff9b::", 12, v) },
		"local NAT64 /96": func(v [4]byte) netip.Addr { return v6("64:ff9b:1:abcd::", 12, v) },
		"local NAT64 /64": func(v [4]byte) netip.Addr { return v6("64:ff9b:1:abcd::", 9, v) },
		"local NAT64 /56": func(v [4]byte) netip.Addr { return v6("64:ff9b:1:ab00::", 7, v, 8) },
		"local NAT64 /48": func(v [4]byte) netip.Addr { return v6("64:ff9b:1::", 6, v, 8) },
		"local NAT64 /48 with a suffix": func(v [4]byte) netip.Addr {
			return v6("64:ff9b:1::7", 6, v, 8)
		},
		"6to4":          func(v [4]byte) netip.Addr { return v6("2002::1", 2, v) },
		"Teredo client": func(v [4]byte) netip.Addr { return v6("2001:0:808:808::", 12, [4]byte{^v[0], ^v[1], ^v[2], ^v[3]}) },
		"Teredo server": func(v [4]byte) netip.Addr { return v6("2001::f7f7:f7f7", 4, v) },
		"ISATAP":        func(v [4]byte) netip.Addr { return v6("2600:1901::5efe:0:0", 12, v) },
		"global ISATAP": func(v [4]byte) netip.Addr { return v6("2600:1901::200:5efe:0:0", 12, v) },
	}
	for name, form := range forms {
		for _, v4 := range []string{"169.254.169.254", "169.254.170.2", "127.0.0.1", "127.8.9.10", "224.0.0.1", "168.63.129.16", "100.100.100.200"} {
			a := form(netip.MustParseAddr(v4).As4())
			if err := allowed(a, false); !errors.Is(err, errForbiddenAddress) {
				t.Errorf("%s as %s (%s): got %v, want it refused", v4, name, a, err)
			}
		}
		for _, v4 := range []string{"8.8.8.8", "10.0.0.7", "192.168.1.20", "20.50.2.3"} {
			a := form(netip.MustParseAddr(v4).As4())
			if err := allowed(a, false); err != nil {
				t.Errorf("%s as %s (%s): got %v, want it allowed", v4, name, a, err)
			}
		}
	}
}

// What the dialer refuses is refused for good to whoever asked for it: another try
// would say the same, so a release whose endpoint names such an address does not
// wait for one.
func TestForbiddenAddressIsPermanent(t *testing.T) {
	cl, err := (&Config{}).guarded("routers.edge.webhook.http", "", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, uri := range []string{"http://169.254.169.254/latest", "http://127.0.0.1:1/score", "http://[::ffff:168.63.129.16]/"} {
		if resp, err := cl.Get(uri); err == nil { //nolint:noctx // it is not sent
			_ = resp.Body.Close()
			t.Errorf("%s: got an answer, want an error", uri)
		} else if !errors.Is(err, traffic.ErrPermanent) {
			t.Errorf("%s: got %v, want it permanent", uri, err)
		}
	}
}

// v6 writes v4's bytes into an address from byte at on, leaving out the byte skip.
func v6(base string, at int, v4 [4]byte, skip ...int) netip.Addr {
	b := netip.MustParseAddr(base).As16()
	for _, x := range v4 {
		for _, s := range skip {
			if at == s {
				at++
			}
		}
		b[at] = x
		at++
	}
	return netip.AddrFrom16(b)
}

// What is allowed on this machine is loopback itself, never a translator's; the
// metadata services have addresses of their own in IPv6, with and without a zone.
func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		address  string
		loopback bool
		ok       bool
	}{
		{"127.0.0.1", true, true}, {"::1", true, true}, {"::ffff:127.0.0.1", true, true},
		{"64:ff9b::7f00:1", true, false}, {"2002:7f00:1::1", true, false}, {"::127.0.0.1", true, false},
		{"169.254.169.254", true, false}, {"64:ff9b::a9fe:a9fe", true, false},
		{"fd00:ec2::254", false, false}, {"fd00:ec2::254%eth0", false, false}, {"fd00:ec2::23", false, false}, {"fd20:ce::254", false, false},
		{"fe80::1", false, false}, {"fe80::1%eth0", false, false}, {"fe80::a9fe:a9fe", false, false}, {"ff02::1", false, false},
		{"::", false, false}, {"0.0.0.0", false, false}, {"64:ff9b::", false, false}, {"::1", false, false},
		{"2606:4700::1111", false, true}, {"fd12:3456::1", false, true}, {"2001:4860:4860::8888", false, true},
	} {
		if err := allowed(netip.MustParseAddr(c.address), c.loopback); (err == nil) != c.ok {
			t.Errorf("allowed(%s, loopback=%v): got %v, want ok=%v", c.address, c.loopback, err, c.ok)
		}
	}
}

// TestGuard: addresses that nobody's word may reach.
func TestGuard(t *testing.T) {
	for _, c := range []struct {
		address  string
		loopback bool
		ok       bool
	}{
		{"93.184.216.34", false, true}, {"10.1.2.3", false, true}, {"127.0.0.1", false, false}, {"127.0.0.1", true, true}, {"::1", false, false},
		{"::ffff:127.0.0.1", false, false}, {"169.254.169.254", true, false}, {"::ffff:169.254.169.254", true, false}, {"fe80::1", true, false},
		{"fd00:ec2::254", true, false}, {"0.0.0.0", true, false}, {"224.0.0.1", true, false},
	} {
		if err := allowed(netip.MustParseAddr(c.address), c.loopback); (err == nil) != c.ok {
			t.Errorf("allowed(%s, loopback=%v): got %v, want ok=%v", c.address, c.loopback, err, c.ok)
		}
	}
	cl, err := (&Config{}).guarded("x", "", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Get("http://127.0.0.1:9/"); err == nil || !strings.Contains(err.Error(), "not allowed") { //nolint:bodyclose // there is none
		t.Errorf("get loopback through the guard: got %v, want it refused", err)
	}
}
