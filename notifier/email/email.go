// Package email sends notices as mail by SMTP.
//
// The rules of the package:
//   - A mail cannot be updated, so an update is another mail of the same thread:
//     every mail about one Key refers to the same root, and every mail about one
//     rollout to the rollout's. A repeated delivery has the Message-ID it had
//     before.
//   - A status is mailed when the rollout begins and when it ends; what happens in
//     between is mailed by its thread entries. The reference that Notify returns
//     says which of the two has been sent.
//   - A message goes to all recipients in one transaction. Those whom the server
//     refuses are named in the error; the others have it, so that is not retried.
//   - The connection is encrypted (STARTTLS, or TLS from the start) unless the
//     configuration says plain, and a password is sent over an encrypted
//     connection or to this machine only.
//
// The package does not queue, does not retry and hears no answers: a mail says
// which command answers it.
package email

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
)

// Security is how the connection is encrypted.
type Security string

// The kinds of security.
const (
	// StartTLS begins in plain and must be upgraded before anything is said.
	StartTLS Security = "starttls"
	// TLS is encrypted from the first byte, usually on port 465.
	TLS Security = "tls"
	// Plain is not encrypted.
	Plain Security = "plain"
)

// timeout bounds one mail, from dialling to the server's last word.
const timeout = 30 * time.Second

// Config says who sends to whom, through which server.
type Config struct {
	// Server is host:port.
	Server string `yaml:"server" required:"true" doc:"host:port of the mail server."`
	// Security is StartTLS where it is "".
	Security Security `yaml:"security" default:"starttls" enum:"starttls,tls,plain" doc:"How the connection is protected."`
	// From is one address, To at least one; "Name <local@domain>" or bare.
	From string   `yaml:"from" required:"true" doc:"The sender's address."`
	To   []string `yaml:"to" required:"true" doc:"The receivers' addresses."`
	// Username and Password are for AUTH PLAIN or LOGIN; "" for a server that asks
	// for none.
	Username string `yaml:"username" doc:"User at the mail server."`
	Password string
	// Hello is the name that Belay gives itself; "" is "localhost".
	Hello string `yaml:"hello" doc:"The name that Belay gives itself; some servers want a full one."`
	// TLSConfig holds the roots to trust; nil is the system's. It is cloned, and its
	// ServerName is Server's host where it has none.
	TLSConfig *tls.Config
	// Templates override the texts, see Templates for their names.
	Templates map[string]string `yaml:"templates" doc:"Texts instead of the built-in ones."`
}

// A Client mails through one server, one connection a mail. It is safe for
// concurrent use.
type Client struct {
	server   string
	host     string
	security Security
	from     *mail.Address
	to       []*mail.Address
	username string
	password string
	hello    string
	tls      *tls.Config
	words    *notifier.Templates
}

// New checks the configuration, all of it, and connects to nothing.
func New(c Config) (*Client, error) {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf("email: "+format, args...)) }
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil || host == "" || port == "" {
		problem("server: want host:port (got %q)", c.Server)
	}
	c.Security = cmp.Or(c.Security, StartTLS)
	if !slices.Contains([]Security{StartTLS, TLS, Plain}, c.Security) {
		problem("security: want starttls, tls or plain (got %q)", c.Security)
	}
	from, err := mail.ParseAddress(c.From)
	if err != nil {
		problem("from: want an address (got %q)", c.From)
	}
	var to []*mail.Address
	for _, t := range c.To {
		a, err := mail.ParseAddress(t)
		if err != nil {
			problem("to: want an address (got %q)", t)
		}
		to = append(to, a)
	}
	if len(to) == 0 {
		problem("to: want at least one address")
	}
	if (c.Username == "") != (c.Password == "") {
		problem("username, password: want both or none")
	}
	if c.Hello == "" {
		c.Hello = "localhost"
	}
	if strings.ContainsFunc(c.Hello, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		problem("hello: want a host name (got %q)", c.Hello)
	}
	words, err := notifier.ParseTemplates(notifier.PlainTexts, c.Templates, clean, nil)
	if err != nil {
		problem("%w", err)
	}
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLSConfig != nil {
		tlsConfig = c.TLSConfig.Clone()
	}
	if tlsConfig.ServerName == "" {
		tlsConfig.ServerName = host
	}
	return &Client{
		server: c.Server, host: host, security: c.Security, from: from, to: to, username: c.Username,
		password: c.Password,
		hello:    c.Hello, tls: tlsConfig, words: words,
	}, nil
}

// Notify mails n.
func (c *Client) Notify(ctx context.Context, n notifier.Notice) (string, error) {
	ref, said := notifier.PlainOnce(n)
	if said {
		return ref, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := c.send(ctx, c.message(n)); err != nil {
		return "", notifier.Redact(fmt.Errorf("send mail: %s: %w", c.server, err), c.secrets()...)
	}
	return ref, nil
}

// secrets are the forms in which the password goes over the wire.
func (c *Client) secrets() []string {
	return []string{
		c.password, base64.StdEncoding.EncodeToString([]byte(c.password)),
		base64.StdEncoding.EncodeToString([]byte("\x00" + c.username + "\x00" + c.password)),
	}
}
