// Package realtest runs real programs beside a test: it finds them, or skips the test
// loudly, gives each an address that nobody else has, waits until they answer, and ends
// them with the test. Only tests import it.
package realtest

import (
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// requireEnv, set to 1, makes what is missing a failure: CI has everything.
const requireEnv = "BELAY_REQUIRE_REAL"

// patience is how long Eventually waits: the machine may be busy.
const patience = 3 * time.Minute

// Missing ends a test for want of something real: it skips it, unless everything must
// be there.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(requireEnv) == "1" {
		t.Fatalf(format+" ("+requireEnv+"=1)", args...)
	}
	t.Skipf(format, args...)
}

// atOnce is how many tests that wait for programs run beside each other.
const atOnce = 6

// Main runs the tests of a package that mostly wait for real programs: those that are
// parallel are more at a time than there are processors, unless -parallel says how many.
func Main(m *testing.M) int {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given && runtime.GOMAXPROCS(0) < atOnce {
		_ = flag.Set("test.parallel", strconv.Itoa(atOnce)) // a number, as it takes
	}
	return m.Run()
}

// Program is the path of a program that a test cannot do without.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "a real %s is missing: %v", name, err)
	}
	return path
}

// The ports that Address gives lie below those that systems give to whoever asks for
// any (32768 on Linux, 49152 elsewhere): no server on port 0 and no connection takes one.
const (
	firstPort = 20_000
	portPairs = 6_000
)

// given counts the addresses of this process.
var given atomic.Int64

// Address is an address of loopback, host:port, that nobody else has until the test
// ends, for a program that must be told one, or that must find it again after a restart.
// The port below it is kept open for as long: it is the claim that all processes see.
func Address(t testing.TB) string {
	t.Helper()
	for range portPairs {
		pair := (int64(os.Getpid())*61 + given.Add(1)) % portPairs
		claim, err := net.Listen("tcp", loopback(firstPort+2*pair))
		if err != nil {
			continue // another's
		}
		address := loopback(firstPort + 2*pair + 1)
		l, err := net.Listen("tcp", address)
		if err != nil { // a program that knows nothing of claims has it
			_ = claim.Close()
			continue
		}
		t.Cleanup(func() { _ = claim.Close() })
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("find an address: every port is taken")
	return ""
}

// loopback is the address of a port.
func loopback(port int64) string { return net.JoinHostPort("127.0.0.1", strconv.FormatInt(port, 10)) }

// HTTP serves in the test's own process at such an address: closed, nobody else's server
// answers in its place.
func HTTP(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", Address(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}} //nolint:gosec // the test's own client asks
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// Ready waits until a GET of the address is answered with 200.
func Ready(t testing.TB, url string) {
	t.Helper()
	Eventually(t, url+" to be ready", func() bool {
		resp, err := http.Get(url) //nolint:gosec,noctx // the test's own program on loopback
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// Eventually waits until ok, at most a generous while, and asks often.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %s for: %s", patience, what)
}
