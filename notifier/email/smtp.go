package email

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"slices"
	"strings"

	"github.com/belayd/belay/notifier"
)

// send brings one message to the server. When ctx ends, the connection is closed
// under whatever waits for it.
func (c *Client) send(ctx context.Context, message []byte) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.server)
	if err != nil {
		return cause(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	if c.security == TLS {
		t := tls.Client(conn, c.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			return cause(ctx, fmt.Errorf("TLS: %w", err))
		}
		conn = t
	}
	session, err := smtp.NewClient(conn, c.host)
	if err != nil {
		return cause(ctx, reply(err))
	}
	if err := c.converse(session, message); err != nil {
		return cause(ctx, err)
	}
	// The server has taken the message; whether it says goodbye does not matter.
	_ = session.Quit()
	return nil
}

// cause is why a call ended: the context's error where that was first.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

func (c *Client) converse(s *smtp.Client, message []byte) error {
	if err := s.Hello(c.hello); err != nil {
		return reply(err)
	}
	if c.security == StartTLS {
		if ok, _ := s.Extension("STARTTLS"); !ok {
			return fmt.Errorf("%w: the server offers no STARTTLS; set security to tls (port 465), or to plain if "+
				"nobody can listen", notifier.ErrPermanent)
		}
		if err := s.StartTLS(c.tls); err != nil {
			return fmt.Errorf("STARTTLS: %w", reply(err))
		}
	}
	if c.username != "" {
		if _, encrypted := s.TLSConnectionState(); !encrypted && !local(c.host) {
			return fmt.Errorf("%w: log in: the connection is not encrypted; set security to starttls or tls",
				notifier.ErrPermanent)
		}
		if err := s.Auth(c.auth(s)); err != nil {
			return fmt.Errorf("log in: %w", reply(err))
		}
	}
	if err := s.Mail(c.from.Address); err != nil {
		return fmt.Errorf("sender: %w", reply(err))
	}
	refused, err := c.recipients(s)
	if err != nil {
		return err
	}
	w, err := s.Data()
	if err != nil {
		return fmt.Errorf("message: %w", reply(err))
	}
	if _, err := w.Write(message); err != nil {
		return fmt.Errorf("message: %w", reply(err))
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("message: %w", reply(err))
	}
	if refused != nil {
		return fmt.Errorf("%w: delivered to %d of %d recipients: %w", notifier.ErrPermanent, len(c.to)-len(refused),
			len(c.to), errors.Join(refused...))
	}
	return nil
}

// recipients names everyone; what it returns are the refusals, and an error if
// nobody is left. That may pass if it may for one of them.
func (c *Client) recipients(s *smtp.Client) ([]error, error) {
	var refused []error
	passing := false
	for _, to := range c.to {
		err := s.Rcpt(to.Address)
		if err == nil {
			continue
		}
		var code *textproto.Error
		if !errors.As(err, &code) {
			return nil, fmt.Errorf("recipient %s: %w", to.Address, err)
		}
		passing = passing || code.Code < 500
		refused = append(refused, fmt.Errorf("recipient %s: %s", to.Address, line(code)))
	}
	if len(refused) < len(c.to) {
		return refused, nil
	}
	if passing {
		return nil, errors.Join(refused...)
	}
	return nil, fmt.Errorf("%w: %w", notifier.ErrPermanent, errors.Join(refused...))
}

// reply classifies what a server says: 5xx is for good, everything else may pass.
func reply(err error) error {
	code, ok := errors.AsType[*textproto.Error](err)
	if !ok {
		return err
	}
	if code.Code >= 500 {
		return fmt.Errorf("%w: %s", notifier.ErrPermanent, line(code))
	}
	return errors.New(line(code))
}

func line(e *textproto.Error) string {
	return fmt.Sprintf("%d %s", e.Code, notifier.Line(e.Msg, 300))
}

// auth picks the mechanism: PLAIN, which servers should know, or LOGIN, which some
// know alone.
func (c *Client) auth(s *smtp.Client) smtp.Auth {
	_, offered := s.Extension("AUTH")
	fields := strings.Fields(strings.ToUpper(offered))
	if slices.Contains(fields, "LOGIN") && !slices.Contains(fields, "PLAIN") {
		return &login{c}
	}
	return smtp.PlainAuth("", c.username, c.password, c.host)
}

// login is AUTH LOGIN: the server asks for the name, then for the password.
type login struct{ c *Client }

func (l *login) Start(server *smtp.ServerInfo) (string, []byte, error) {
	if !server.TLS && !local(server.Name) {
		// Unreachable: converse has checked it.
		return "", nil, errors.New("the connection is not encrypted")
	}
	return "LOGIN", nil, nil
}

func (l *login) Next(fromServer []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	switch prompt := bytes.ToLower(bytes.TrimSpace(fromServer)); {
	case bytes.HasPrefix(prompt, []byte("user")):
		return []byte(l.c.username), nil
	case bytes.HasPrefix(prompt, []byte("pass")):
		return []byte(l.c.password), nil
	}
	return nil, errors.New("the server asks for something unknown")
}

func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
