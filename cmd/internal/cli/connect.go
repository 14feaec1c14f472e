package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"os"
	"strings"
	"time"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/view"
)

// defaultServer is where a belayd on this machine listens, defaultSocket where it
// does for root and its own user, if its config says so: no stranger can take the
// connections there.
const (
	defaultServer = "http://127.0.0.1:7070"
	defaultSocket = "/run/belay/belay.sock"
)

// tokenMax bounds a token file, in bytes.
const tokenMax = 64 << 10

// A reader is where rollouts are read from: a belayd, or a store's file.
type reader interface {
	Rollout(ctx context.Context, id string) (view.Rollout, error)
	Rollouts(ctx context.Context, f view.Filter) iter.Seq2[view.Rollout, error]
	Journal(ctx context.Context, id string) iter.Seq2[journal.Entry, error]
	Plan(ctx context.Context, id string) (*rollout.Plan, error)
	// AuditHead is the head of all journals at a revision; 0 is now.
	AuditHead(ctx context.Context, at uint64) (api.AuditHead, error)
}

// idLength is how long the ids are that belayd gives, in letters; idShortest is the
// shortest beginning of one that is taken for it.
const (
	idLength   = 20
	idShortest = 3
)

// wholeID is the id of the one rollout whose id begins as is written; an id that no
// rollout has is left to whoever looks for it.
func (f *flags) wholeID(ctx context.Context, e *env, id string) (string, error) {
	if len(id) < idShortest || len(id) >= idLength {
		return id, nil
	}
	r, done, err := f.reader().open(e)
	if err != nil {
		return "", err
	}
	defer func() { _ = done() }() // a store that was only read
	var found []view.Rollout
	for x, err := range r.Rollouts(ctx, view.Filter{ID: id, Limit: 4}) {
		if err != nil {
			return "", err
		}
		if x.ID == id { // one that began with an id of its own
			return id, nil
		}
		found = append(found, x)
	}
	switch len(found) {
	case 0:
		return id, nil
	case 1:
		return found[0].ID, nil
	}
	var names []string
	for _, x := range found[:min(len(found), 3)] {
		names = append(names, safe(fmt.Sprintf("%s (%s %s, %s)", x.ID, x.Endpoint.Name, x.Version, x.Phase)))
	}
	more := ""
	if len(found) > 3 {
		more = ", …"
	}
	return "", usageError("%q begins more than one id: %s%s", id, strings.Join(names, ", "), more)
}

// connection is how a command reaches belayd.
type connection struct {
	server, tokenFile, context *string
	certFile, keyFile, caFile  *string
}

// connection declares the flags with which belayd is reached.
func (f *flags) connection() *connection {
	f.conn = &connection{
		server: f.String("server", "", "`URL` of belayd, or unix:PATH (BELAY_SERVER, else the context's, else "+
			defaultSocket+" or "+defaultServer+")"),
		tokenFile: f.file("token-file", "`FILE` that holds a token (BELAY_TOKEN_FILE, else the context's)"),
		certFile: f.file("cert-file", "`FILE` of a client certificate, for a belayd with auth.mtls "+
			"(BELAY_CERT_FILE, else the context's)"),
		keyFile: f.file("key-file", "`FILE` of its private key, if that is not in --cert-file (BELAY_KEY_FILE, "+
			"else the context's)"),
		caFile: f.file("ca-file", "`FILE` of certificates that the server's must be signed by (BELAY_CA_FILE, "+
			"else the context's)"),
		context: f.named("CONTEXT", "context", "`NAME` of a context (BELAY_CONTEXT, else the current one)"),
	}
	return f.conn
}

// client connects by the flags, the environment and the context, in this order.
// A token and a client certificate are shown only to the server that they were
// named with or for.
func (c *connection) client(e *env) (*api.Client, error) {
	chosen, err := e.chosenContext(*c.context)
	if err != nil {
		return nil, err
	}
	server := cmp.Or(*c.server, e.getenv("BELAY_SERVER"))
	tokenFile := cmp.Or(*c.tokenFile, e.getenv("BELAY_TOKEN_FILE"))
	files := tlsFiles{ca: cmp.Or(*c.caFile, e.getenv("BELAY_CA_FILE"), chosen.CAFile),
		cert: cmp.Or(*c.certFile, e.getenv("BELAY_CERT_FILE")), key: cmp.Or(*c.keyFile, e.getenv("BELAY_KEY_FILE"))}
	if server == "" || server == chosen.Server {
		tokenFile = cmp.Or(tokenFile, chosen.TokenFile)
		if files.cert == "" && files.key == "" {
			files.cert, files.key = chosen.CertFile, chosen.KeyFile
		}
	}
	dial := dialTCP
	switch path, unix := strings.CutPrefix(cmp.Or(server, chosen.Server), api.UnixPrefix); {
	case unix:
		dial = dialUnix(path)
	case path == "":
		dial = preferring(dialUnix(e.socket), dialTCP)
	}
	server = cmp.Or(server, chosen.Server, defaultServer)
	if err := files.check(server); err != nil {
		return nil, err
	}
	token := ""
	if tokenFile != "" {
		if token, err = readToken(tokenFile); err != nil {
			return nil, err
		}
	}
	h, err := files.client(dial)
	if err != nil {
		return nil, err
	}
	e.reach = c.reach(e)
	return api.NewClient(server, h, token)
}

// reach are the flags by which another command reaches the same server: those that
// were given, and the server or context that the environment names, which the next
// shell may not have. The files of secrets that the environment names stay with it.
func (c *connection) reach(e *env) string {
	var b strings.Builder
	for _, f := range [][2]string{
		{"context", cmp.Or(*c.context, e.getenv("BELAY_CONTEXT"))},
		{"server", cmp.Or(*c.server, e.getenv("BELAY_SERVER"))},
		{"token-file", *c.tokenFile}, {"ca-file", *c.caFile}, {"cert-file", *c.certFile}, {"key-file", *c.keyFile},
	} {
		if f[1] != "" {
			b.WriteString(" --" + f[0] + " " + shellWord(f[1]))
		}
	}
	return b.String()
}

// shellWord is a word as a shell takes it.
func shellWord(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return r != '/' && r != '.' && r != ':' && r != '-' && r != '_' && r != '@' && r != '+' && r != '=' &&
			r != ',' &&
			(r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// A dialer opens a connection, as an http.Transport wants it.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// dialTCP dials the address.
var dialTCP dialer = (&net.Dialer{Timeout: 5 * time.Second}).DialContext

// dialUnix dials a Unix socket, whatever the address.
func dialUnix(path string) dialer {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	}
}

// preferring tries one dialer, and another when nobody answers there.
func preferring(one, other dialer) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if c, err := one(ctx, network, address); err == nil {
			return c, nil
		}
		return other(ctx, network, address)
	}
}

// readToken reads a token file; what is wrong is said without what is in it.
func readToken(file string) (string, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read token file %s: it does not exist", file)
	case err != nil:
		return "", fmt.Errorf("read token file: %w", err)
	case info.Size() > tokenMax:
		return "", fmt.Errorf("read token file %s: it is larger than a token", file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read token file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("read token file %s: want one token and nothing else", file)
	}
	return token, nil
}

// asking sets up a command that asks belayd one thing and prints the answer.
func asking[A any](ask func(ctx context.Context, c *api.Client, args []string) (A, error),
	show func(e *env, output string, answer A) error) func(*flags) run {
	return func(f *flags) run {
		conn := f.connection()
		output := f.choice("output", "how to print", "table", "json", "yaml", "name")
		return func(ctx context.Context, e *env, args []string) error {
			c, err := conn.client(e)
			if err != nil {
				return err
			}
			answer, err := ask(ctx, c, args)
			if err != nil {
				return err
			}
			return show(e, *output, answer)
		}
	}
}

// source is a connection or a store's file.
type source struct {
	connection *connection
	store      *string
}

// source declares the flags of a command that also reads a store.
func (f *flags) source() *source {
	f.reads = &source{connection: f.connection(), store: f.file("store",
		"`FILE` of a store to read instead, without a daemon")}
	return f.reads
}

// reader is where a command that names rollouts finds them.
func (f *flags) reader() *source {
	if f.reads != nil {
		return f.reads
	}
	return &source{connection: f.conn, store: new("")}
}

// open returns the reader; close gives it back.
func (s *source) open(e *env) (r reader, close func() error, err error) {
	if *s.store != "" {
		st, err := openStore(*s.store)
		if err != nil {
			return nil, nil, err
		}
		return st, st.close, nil
	}
	c, err := s.connection.client(e)
	return c, func() error { return nil }, err
}
