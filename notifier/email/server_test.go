package email_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

const (
	user     = "belay"
	password = "cAnAry-smtp-password"
)

// A server is a mail server on loopback that keeps to RFC 5321 as far as a client
// can see: it answers commands in their order only, demands CRLF, and keeps what
// it accepted. Replies can be scripted by command.
type server struct {
	t     *testing.T
	l     net.Listener
	cert  tls.Certificate
	roots *x509.CertPool
	// mode: implicit TLS, STARTTLS offered, mechanisms offered.
	implicit, starttls bool
	mechanisms         string

	mu     sync.Mutex
	mails  []received
	script map[string]string // the reply to a command, by its verb or whole line
	broken bool
	silent bool
	ended  chan struct{}
	arrive chan struct{}
	conns  map[net.Conn]bool
	done   sync.WaitGroup
	said   []string // every command, as received
}

type received struct {
	from string
	to   []string
	data string
	tls  bool
	user string
}

func newServer(t *testing.T, setup func(*server)) *server {
	t.Helper()
	https := httptest.NewTLSServer(http.NotFoundHandler())
	s := &server{
		t: t, starttls: true, mechanisms: "PLAIN LOGIN", cert: https.TLS.Certificates[0], roots: x509.NewCertPool(),
		script: map[string]string{}, arrive: make(chan struct{}, 64), ended: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	s.roots.AddCert(https.Certificate())
	https.Close()
	if setup != nil {
		setup(s)
	}
	var err error
	if s.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.done.Go(s.accept)
	t.Cleanup(func() {
		_ = s.l.Close()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.done.Wait()
	})
	return s
}

func (s *server) accept() {
	for {
		conn, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		broken, silent := s.broken, s.silent
		s.conns[conn] = true
		s.mu.Unlock()
		switch {
		case broken:
			_ = conn.Close()
		case silent:
			s.arrive <- struct{}{}
		default:
			s.done.Go(func() { s.serve(conn) })
		}
	}
}

func (s *server) set(broken, silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken, s.silent = broken, silent
}

// a session is one connection's state.
type session struct {
	s                  *server
	r                  *bufio.Reader
	conn               net.Conn
	helloed, encrypted bool
	user               string
	mail               received
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	x := &session{s: s, conn: conn}
	if s.implicit {
		x.conn, x.encrypted = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.cert}}), true
	}
	x.r = bufio.NewReader(x.conn)
	x.say(s.reply("greeting", "220 mail.example ESMTP"))
	for {
		line, err := x.r.ReadString('\n')
		if err != nil {
			return
		}
		if !strings.HasSuffix(line, "\r\n") {
			s.t.Errorf("command %q: got no CRLF, want one", line)
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.said = append(s.said, line)
		s.mu.Unlock()
		if !x.command(line) {
			return
		}
	}
}

// reply is the scripted reply to a command, or the usual one.
func (s *server) reply(command, usual string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	verb, _, _ := strings.Cut(command, " ")
	for _, k := range []string{command, verb} {
		if r, ok := s.script[k]; ok {
			return r
		}
	}
	return usual
}

func (x *session) say(line string) { fmt.Fprintf(x.conn, "%s\r\n", line) }

func (x *session) command(line string) bool {
	s := x.s
	verb := strings.ToUpper(strings.Fields(line + " x")[0])
	usual := "250 ok"
	switch {
	case verb == "QUIT":
		x.say("221 bye")
		return false
	case verb == "EHLO" || verb == "HELO": // a client falls back to HELO
		if scripted := s.reply("EHLO", ""); scripted != "" {
			x.say(scripted)
			return true
		}
		x.helloed = true
		x.hello()
		return true
	case !x.helloed:
		usual = "503 EHLO first"
	case verb == "STARTTLS":
		r := s.reply("STARTTLS", "220 go ahead")
		x.say(r)
		if strings.HasPrefix(r, "220") {
			x.conn = tls.Server(x.conn, &tls.Config{Certificates: []tls.Certificate{s.cert}})
			x.r, x.encrypted, x.helloed = bufio.NewReader(x.conn), true, false
		}
		return true
	case verb == "AUTH":
		usual = x.auth(line)
	case verb == "MAIL":
		x.mail = received{from: between(line), tls: x.encrypted, user: x.user}
	case verb == "RCPT":
		if r := s.reply("RCPT "+between(line), usual); !strings.HasPrefix(r, "250") {
			x.say(r)
			return true
		}
		x.mail.to = append(x.mail.to, between(line))
	case verb == "DATA":
		x.data()
		return true
	}
	x.say(s.reply(verb, usual))
	return true
}

func (x *session) hello() {
	fmt.Fprint(x.conn, "250-mail.example\r\n250-8BITMIME\r\n")
	if x.s.starttls && !x.encrypted {
		fmt.Fprint(x.conn, "250-STARTTLS\r\n")
	}
	if x.s.mechanisms != "" {
		fmt.Fprintf(x.conn, "250-AUTH %s\r\n", x.s.mechanisms)
	}
	x.say("250 SIZE 1000000")
}

// auth checks a login by PLAIN with its initial response, or by LOGIN.
func (x *session) auth(line string) string {
	prompt := func(text string) string {
		x.say("334 " + base64.StdEncoding.EncodeToString([]byte(text)))
		answer, _ := x.r.ReadString('\n')
		plain, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(answer))
		return string(plain)
	}
	var name, secret string
	fields := strings.Fields(line)
	switch {
	case len(fields) == 3 && fields[1] == "PLAIN":
		plain, _ := base64.StdEncoding.DecodeString(fields[2])
		if parts := strings.Split(string(plain), "\x00"); len(parts) == 3 {
			name, secret = parts[1], parts[2]
		}
	case len(fields) == 2 && fields[1] == "LOGIN":
		name = prompt("Username:")
		secret = prompt("Password:")
	}
	if name != user || secret != password {
		return "535 authentication failed for " + secret + " " + line
	}
	x.user = name
	return "235 welcome"
}

func (x *session) data() {
	if r := x.s.reply("DATA", "354 go on"); !strings.HasPrefix(r, "354") {
		x.say(r)
		return
	}
	x.say("354 go on")
	var b strings.Builder
	for {
		line, err := x.r.ReadString('\n')
		if err != nil {
			return
		}
		if !strings.HasSuffix(line, "\r\n") || len(line) > 1000 || strings.ContainsFunc(line, func(r rune) bool { return r >= 0x7f }) {
			x.s.t.Errorf("line of a mail: got %q, want ASCII, CRLF and at most 998 characters", line)
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	r := x.s.reply("message", "250 queued")
	if strings.HasPrefix(r, "250") {
		x.mail.data = b.String()
		x.s.mu.Lock()
		x.s.mails = append(x.s.mails, x.mail)
		x.s.mu.Unlock()
	}
	x.say(r)
}

// between is the address in angle brackets.
func between(line string) string {
	_, rest, _ := strings.Cut(line, "<")
	address, _, _ := strings.Cut(rest, ">")
	return address
}

func (s *server) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.mails...)
}

// last waits for nothing: a mail is kept before its delivery is confirmed.
func (s *server) last() received {
	all := s.all()
	if len(all) == 0 {
		s.t.Fatal("mails: got none, want one")
	}
	return all[len(all)-1]
}

func (s *server) commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.said...)
}
