package blackbox

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/realtest"
)

const (
	// tries is how many rollouts are rolled back under each attack.
	tries = 20
	// slower is by how much an attack may make a rollback slower, at the 95th
	// percentile of the same round.
	slower = 3
	// rounds is how often an attack is measured where that is asked for: of an odd
	// number most have kept to it, or most have not.
	rounds = 3
	// processorsMax is how many processors belayd uses at most for strangers, for whom
	// it does one thing at a time, and readersMax for readers, for whom it rests
	// besides. A busy machine leaves it fewer, never more.
	processorsMax, readersMax = 1.5, 1.0
	// residentMax bounds belayd's memory under any attack, in bytes: half of what the
	// manifests shipped give it.
	residentMax = 512 << 20
	// patience is how long a rollback, or an answer that is open to all, may take,
	// whatever strangers do and however busy the machine is.
	patience = 10 * time.Second
)

var strict = flag.Bool("strict", false, "hold rollbacks under attack to a multiple of the idle ones; wants a quiet machine")

// A besieged belayd has TLS, tokens and a rollout for every try to roll back.
type besieged struct {
	*world
	t     testing.TB
	roots string // the file of the certificate
	trust *tls.Config
	e     *endpoints
	names []string // of the endpoints
	ids   []string // of their rollouts
	n     int      // releases so far
}

// Whoever may roll back can, whatever strangers and readers do meanwhile: over the
// network, over the socket of the machine, from the attackers' own address and
// from another. belayd says that it is alive and shows its metrics all the while.
// With -strict, no attack makes a rollback more than three times slower than it is
// when nobody else asks for anything: that is measured, and so depends on what else
// the machine does, and counts when most rounds say so.
func TestRollbackUnderAttack(t *testing.T) {
	b := besiege(t)
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "attack\tidle p95\tp50\tp95\tmax\tslower\tprocessors\tbefore\tresident\t\n")
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			b.t, b.world.t = t, t
			if !*strict {
				b.round(a, out)
				return
			}
			missed := 0
			for range rounds {
				if b.round(a, out) > slower {
					missed++
				}
			}
			if missed > rounds/2 {
				t.Errorf("%d of %d rounds made the p95 of %d rollbacks more than %d times the idle one", missed, rounds, tries, slower)
			}
		})
	}
	_ = out.Flush() // into memory
	t.Logf("from the order to the write at the router, n=%d:\n%s", tries, &table)
	if strings.Contains(b.logs.String(), "panic") {
		t.Errorf("the log:\n%s", b.logs)
	}
}

// round rolls back under an attack, writes what it has measured, and, with -strict,
// tells by how much the p95 is slower than idle; without it nobody is idle first.
func (b *besieged) round(a attack, out io.Writer) float64 {
	b.t.Helper()
	idle := time.Duration(0)
	if *strict {
		b.begin()
		idle = b.rollBack("idle").p95()
	}
	b.begin()
	under := b.under(a)
	times := 0.0
	if idle > 0 {
		times = float64(under.p95()) / float64(idle)
	}
	fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%.1f x\t%.1f\t%.1f\t%d MiB\t\n", a.name, rough(idle), rough(under.took[tries/2]),
		rough(under.p95()), rough(under.took[tries-1]), times, under.processors, under.before, under.resident>>20)
	if under.p95() > patience {
		b.t.Errorf("p95 of %d rollbacks: got %s, want at most %s", tries, under.p95(), patience)
	}
	if most := cmp.Or(a.most, processorsMax); under.before > most {
		b.t.Errorf("belayd used %.1f processors, want at most %.1f", under.before, most)
	}
	if under.resident > residentMax {
		b.t.Errorf("belayd is %d MiB large, want at most %d", under.resident>>20, residentMax>>20)
	}
	return times
}

func rough(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// under rolls back while an attack is under way.
func (b *besieged) under(a attack) measured {
	b.t.Helper()
	stop := b.attack(a)
	defer stop()
	began, used := time.Now(), b.used()
	time.Sleep(time.Second) // it has begun
	before := (b.used() - used).Seconds() / time.Since(began).Seconds()
	m := b.rollBack(a.name)
	m.before = before
	for _, path := range []string{"/healthz", "/metrics"} {
		if took, err := b.look(path); err != nil || took > patience {
			b.t.Errorf("GET %s: got %v after %s, want an answer within %s", path, err, took, patience)
		}
	}
	return m
}

// attack starts an attack in a process of its own, which has only the processor
// time that belayd, the operator and the router leave: whoever attacks has other
// machines.
func (b *besieged) attack(a attack) (stop func()) {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command("nice", "-n", "10", self)
	cmd.Env = append(os.Environ(), attackEnv+"="+a.name, "ATTACKED="+b.address, "ATTACKED_ROOTS="+b.roots)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	return func() {
		_ = in.Close() // tells it to end
		if err := cmd.Wait(); err != nil {
			b.t.Errorf("attack: %v", err)
		}
	}
}

// besiege starts belayd, and gives it some history.
func besiege(t *testing.T) *besieged {
	b := &besieged{t: t}
	var policies []string
	for i := range tries {
		name := fmt.Sprintf("recs%d", i)
		b.names = append(b.names, name)
		policies = append(policies, policy(name, name, "", "[{weight: 5%, bake: 1h}, {weight: 100%, bake: 1h}]"))
	}
	b.e = newEndpoints(t, b.names...)
	dir := t.TempDir()
	b.roots = certificate(t, dir)
	b.trust = trusted(t, b.roots)
	roles := map[string]string{"ann": "operate, start", "viewer": "view"}
	for i := range 4 {
		roles[fmt.Sprintf("viewer%d", i)] = "view"
	}
	config := strings.Replace(tokens(roles), "auth:\n", "auth:\n  tls: {certFile: "+dir+"/tls.crt, keyFile: "+dir+"/tls.key}\n", 1)
	b.world = newWorld(t, b.e, config, policies...)
	b.begin()
	ann := b.client("ann", "127.0.0.1")
	for i := range 400 {
		verb := []string{"pause", "resume"}[i%2]
		if _, err := ann.Act(t.Context(), b.ids[0], verb, fmt.Sprint("k", i), api.Act{Reason: strings.Repeat("history ", 20)}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// begin begins a rollout of every endpoint, unless there are some, and waits until
// all have traffic.
func (b *besieged) begin() {
	b.t.Helper()
	if len(b.ids) > 0 {
		return
	}
	b.n++
	ann := b.client("ann", "127.0.0.1")
	for _, name := range b.names {
		r, _, err := ann.Start(b.t.Context(), fmt.Sprint(name, "-", b.n), api.StartRequest{Policy: name, Candidate: "green", Version: fmt.Sprint(b.n)})
		if err != nil {
			b.t.Fatal(err)
		}
		b.ids = append(b.ids, r.ID)
	}
	for _, name := range b.names {
		realtest.Eventually(b.t, "the candidates to have 5%", func() bool { return b.e.green(name) == 5 })
	}
}

// client is a client whose every request is a connection of its own, from one of
// loopback's addresses; "" is over the socket.
func (b *besieged) client(actor, from string) *api.Client {
	b.t.Helper()
	server, dial := "https://"+b.address, (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext
	if from == "" {
		path := filepath.Join(b.dir, "belay.db.ctl")
		server = api.UnixPrefix + path
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	}
	c, err := api.NewClient(server, single(b.trust, dial), tokenOf(actor))
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// single is a client that opens a connection for each request.
func single(trust *tls.Config, dial func(context.Context, string, string) (net.Conn, error)) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: trust.Clone(), DialContext: dial, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
}

// trusted is the TLS of whoever trusts the certificate in a file.
func trusted(t testing.TB, file string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	trust.RootCAs.AppendCertsFromPEM(pem)
	return trust
}

// What was measured while rollouts were rolled back.
type measured struct {
	took       []time.Duration // from the order to the write at the router, sorted
	processors float64         // that belayd used
	before     float64         // that it used for the attack alone
	resident   int             // belayd's memory at the end, in bytes
}

// p95 is the 95th percentile.
func (m measured) p95() time.Duration { return m.took[(tries*95+99)/100-1] }

// rollBack rolls every rollout back, which must work.
func (b *besieged) rollBack(what string) measured {
	b.t.Helper()
	var m measured
	began, used := time.Now(), b.used()
	for i, id := range b.ids {
		from := []string{"127.0.0.1", "127.0.0.9", ""}[i%3]
		ordered := time.Now()
		if _, err := b.client("ann", from).Act(b.t.Context(), id, "rollback", "rb"+id, api.Act{Reason: what}); err != nil {
			b.t.Fatalf("rollback %d from %q: after %s: %v", i, from, time.Since(ordered), err)
		}
		realtest.Eventually(b.t, "stable to have 100% again", func() bool { return b.e.green(b.names[i]) == 0 })
		m.took = append(m.took, b.e.at(b.names[i]).Sub(ordered))
	}
	b.ids = b.ids[:0]
	slices.Sort(m.took)
	m.processors, m.resident = (b.used()-used).Seconds()/time.Since(began).Seconds(), b.resident()
	return m
}

// look asks for a path that is open to all.
func (b *besieged) look(path string) (time.Duration, error) {
	began := time.Now()
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: b.trust.Clone(), DisableKeepAlives: true}, Timeout: 2 * patience}
	resp, err := h.Get("https://" + b.address + path)
	if err != nil {
		return time.Since(began), err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return time.Since(began), fmt.Errorf("%s: %w", resp.Status, err)
	}
	return time.Since(began), nil
}

// resident is belayd's resident memory, in bytes.
func (b *besieged) resident() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", b.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0
	}
	return pages * os.Getpagesize()
}

// used is the processor time that belayd has used.
func (b *besieged) used() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var user, system int
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		b.t.Fatal(err)
	}
	const tick = 10 * time.Millisecond // the kernel's USER_HZ is 100 wherever Linux runs
	return time.Duration(user+system) * tick
}
