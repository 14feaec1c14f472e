package email_test

import (
	"crypto/tls"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/email"
	"github.com/belayd/belay/notifier/notifiertest"
	"github.com/belayd/belay/rollout/realtest/goldentest"
)

// open gives a client of a fresh server; setup changes either before it starts.
func open(t *testing.T, setup func(*server, *email.Config)) (*email.Client, *server) {
	t.Helper()
	config := email.Config{
		From: "Belay <belay@release.example>", To: []string{"on-call@example.com", "Zoë Müller <zoe@example.com>"},
		Username: user, Password: password, Hello: "belayd.example",
	}
	s := newServer(t, func(s *server) {
		if setup != nil {
			setup(s, &config)
		}
	})
	config.Server = s.l.Addr().String()
	if config.TLSConfig == nil {
		config.TLSConfig = &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12}
	}
	c, err := email.New(config)
	if err != nil {
		t.Fatalf("New: got %v, want no error", err)
	}
	return c, s
}

// parsed is a mail as a mail program sees it.
type parsed struct {
	header mail.Header
	body   string
}

func parse(t *testing.T, r received) parsed {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(r.data))
	if err != nil {
		t.Fatalf("parse mail: got %v, want no error; it is\n%s", err, r.data)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatalf("decode body: got %v, want no error; it is\n%s", err, r.data)
	}
	return parsed{m.Header, string(body)}
}

// root is what the mails about one key refer to.
func (p parsed) root() string { return p.header.Get("In-Reply-To") }

func notify(t *testing.T, c *email.Client, n notifier.Notice) string {
	t.Helper()
	ref, err := c.Notify(t.Context(), n)
	if err != nil {
		t.Fatalf("Notify(%s): got %v, want no error", n.Topic, err)
	}
	return ref
}

func TestExercise(t *testing.T) {
	notifiertest.Exercise(t, func(t *testing.T) notifiertest.Subject {
		c, s := open(t, nil)
		return notifiertest.Subject{
			Notifier: c, Secrets: []string{password},
			// What a person sees as one message is a thread: the mails that refer to the
			// root of the key, which the test knows from the first mail about it.
			Messages: func(key string) int {
				probe, ps := open(t, nil)
				n := notifiertest.Notice(notifier.TopicPage)
				n.Key = key
				notify(t, probe, n)
				root := parse(t, ps.last()).root()
				roots := map[string]bool{}
				for _, m := range s.all() {
					if p := parse(t, m); p.root() == root {
						roots[p.root()] = true
					}
				}
				return len(roots)
			},
			Break: func() { s.set(true, false) },
			Silence: func() <-chan struct{} {
				s.set(false, true)
				return s.arrive
			},
			Heal: func() { s.set(false, false) },
		}
	})
}

// TestReplies is the retry table by SMTP reply: 4xx may pass, 5xx will not, and
// none of them shows the password that the server repeats.
func TestReplies(t *testing.T) {
	for _, test := range []struct {
		command, reply string
		permanent      bool
	}{
		{"greeting", "421 too many connections", false},
		{"greeting", "554 go away", true},
		{"EHLO", "421 shutting down", false},
		{"STARTTLS", "454 not now", false},
		{"STARTTLS", "502 no", true},
		{"AUTH", "454 try later, " + password, false},
		{"AUTH", "535 you said " + password, true},
		{"MAIL", "451 local error", false},
		{"MAIL", "550 not you", true},
		{"RCPT", "450 greylisted", false},
		{"RCPT", "550 nobody here", true},
		{"DATA", "452 disk full", false},
		{"DATA", "554 no", true},
		{"message", "451 scanner is away", false},
		{"message", "552 too large", true},
	} {
		c, s := open(t, func(s *server, _ *email.Config) { s.script[test.command] = test.reply })
		_, err := c.Notify(t.Context(), notifiertest.Notice(notifier.TopicPage))
		if err == nil || errors.Is(err, notifier.ErrPermanent) != test.permanent {
			t.Errorf("Notify answered %q to %s: got %v, want permanent = %t", test.reply, test.command, err, test.permanent)
		}
		if err != nil && !strings.Contains(err.Error(), test.reply[:3]) {
			t.Errorf("Notify answered %q to %s: got %v, want the reply in it", test.reply, test.command, err)
		}
		notifiertest.NoSecret(t, err, password)
		if got := len(s.all()); got != 0 {
			t.Errorf("mails after %q to %s: got %d, want none", test.reply, test.command, got)
		}
	}
}

// TestRecipients: whom the server refuses is named, whom it takes has the mail, and
// only if nobody has it is it worth another try.
func TestRecipients(t *testing.T) {
	for _, test := range []struct {
		name           string
		first, second  string
		mails          int
		err, permanent bool
	}{
		{"both taken", "250 ok", "250 ok", 1, false, false},
		{"one refused", "250 ok", "550 nobody", 1, true, true},
		{"one put off", "451 later", "250 ok", 1, true, true},
		{"both refused", "550 nobody", "550 nobody", 0, true, true},
		{"both put off", "451 later", "451 later", 0, true, false},
		{"one refused, one put off", "550 nobody", "451 later", 0, true, false},
	} {
		c, s := open(t, func(s *server, _ *email.Config) {
			s.script["RCPT on-call@example.com"], s.script["RCPT zoe@example.com"] = test.first, test.second
		})
		_, err := c.Notify(t.Context(), notifiertest.Notice(notifier.TopicPage))
		if (err != nil) != test.err || errors.Is(err, notifier.ErrPermanent) != test.permanent {
			t.Errorf("Notify(%s): got %v, want an error = %t, permanent = %t", test.name, err, test.err, test.permanent)
		}
		if got := len(s.all()); got != test.mails {
			t.Errorf("mails (%s): got %d, want %d", test.name, got, test.mails)
		}
	}
}

// TestSecurity: what is said before the connection is encrypted, and that nothing
// secret is said without.
func TestSecurity(t *testing.T) {
	for _, test := range []struct {
		name  string
		setup func(*server, *email.Config)
		want  string // of the error; "" for a mail that arrives
		tls   bool
		user  string
	}{
		{"starttls", nil, "", true, user},
		{"tls", func(s *server, c *email.Config) { s.implicit, c.Security = true, email.TLS }, "", true, user},
		{"login mechanism", func(s *server, _ *email.Config) { s.mechanisms = "LOGIN" }, "", true, user},
		{"plain to this machine", func(_ *server, c *email.Config) { c.Security = email.Plain }, "", false, user},
		{"plain login to this machine", func(s *server, c *email.Config) { s.mechanisms, c.Security = "LOGIN", email.Plain }, "", false, user},
		{"no password", func(_ *server, c *email.Config) { c.Username, c.Password = "", "" }, "", true, ""},
		{"starttls is not offered", func(s *server, _ *email.Config) { s.starttls = false }, "offers no STARTTLS", false, ""},
		{"a certificate nobody trusts", func(_ *server, c *email.Config) { c.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} }, "certificate", false, ""},
		{"a certificate of another host", func(s *server, c *email.Config) {
			c.TLSConfig = &tls.Config{RootCAs: s.roots, ServerName: "other.example.org", MinVersion: tls.VersionTLS12}
		}, "certificate", false, ""},
	} {
		c, s := open(t, test.setup)
		_, err := c.Notify(t.Context(), notifiertest.Notice(notifier.TopicPage))
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Notify(%s): got %v, want an error about %q", test.name, err, test.want)
			}
			if i := slices.IndexFunc(s.commands(), func(l string) bool { return strings.HasPrefix(l, "AUTH") || strings.HasPrefix(l, "MAIL") }); i >= 0 {
				t.Errorf("commands (%s): got %q, want nothing after the failure", test.name, s.commands())
			}
			continue
		}
		if err != nil {
			t.Errorf("Notify(%s): got %v, want no error", test.name, err)
			continue
		}
		got := s.last()
		if got.tls != test.tls || got.user != test.user {
			t.Errorf("mail (%s): got tls = %t, user %q, want %t, %q", test.name, got.tls, got.user, test.tls, test.user)
		}
		if diff := cmp.Diff([]string{"on-call@example.com", "zoe@example.com"}, got.to); diff != "" || got.from != "belay@release.example" {
			t.Errorf("envelope (%s): got from %q, recipients (-want +got):\n%s", test.name, got.from, diff)
		}
	}
}

// TestThread tells of a page in a mail program: its mails have message ids of their
// own, a repeated delivery has the one it had, and all refer to one root; the mails
// of a rollout refer to the rollout's.
func TestThread(t *testing.T) {
	c, s := open(t, nil)
	n := notifiertest.Notice(notifier.TopicPage)
	mails := func(change func(*notifier.Notice)) parsed {
		change(&n)
		n.Ref = notify(t, c, n)
		return parse(t, s.last())
	}
	first := mails(func(*notifier.Notice) {})
	again := mails(func(*notifier.Notice) {})
	updated := mails(func(n *notifier.Notice) { n.Delivery, n.Summary = "2", "not confirmed" })
	resolved := mails(func(n *notifier.Notice) { n.Delivery, n.Resolve, n.Summary = "3", true, "stable has 100%" })
	entry := mails(func(n *notifier.Notice) { *n = notifiertest.Notice(notifier.TopicThread) })
	id := func(p parsed) string { return p.header.Get("Message-ID") }
	if id(first) != id(again) {
		t.Errorf("Message-ID of a repeated delivery: got %s, want %s", id(again), id(first))
	}
	if id(first) == id(updated) || id(updated) == id(resolved) || id(first) == first.root() {
		t.Errorf("Message-IDs: got %s, %s, %s, want different ones", id(first), id(updated), id(resolved))
	}
	for _, p := range []parsed{again, updated, resolved} {
		if p.root() != first.root() {
			t.Errorf("In-Reply-To: got %s, want %s", p.root(), first.root())
		}
	}
	rollout := strings.Fields(first.header.Get("References"))[0]
	if got := strings.Fields(entry.header.Get("References")); got[0] != rollout || entry.root() == first.root() {
		t.Errorf("References of another key: got %s, want the rollout's root %s and another key's", got, rollout)
	}
	if got := subjectOf(t, resolved); got != "[Belay RESOLVED] stable has 100%" {
		t.Errorf("Subject: got %q, want the end of the page", got)
	}
	if got, want := first.header.Get("Importance")+resolved.header.Get("Importance"), "high"; got != want {
		t.Errorf("Importance of the page and its end: got %q, want %q", got, want)
	}
}

// TestStatus: a status is mailed at the begin and at the end, whatever is between.
func TestStatus(t *testing.T) {
	c, s := open(t, nil)
	n := notifiertest.Notice(notifier.TopicStatus)
	for _, phase := range []string{"preflight", "shifting", "baking", "waiting", "shifting", "rolling-back", "rolled-back", "rolled-back"} {
		n.Rollout.Phase = phase
		n.Ref = notify(t, c, n)
	}
	var phases []string
	for _, m := range s.all() {
		_, rest, _ := strings.Cut(parse(t, m).body, "  phase ")
		phase, _, _ := strings.Cut(rest, ",")
		phases = append(phases, phase)
	}
	if diff := cmp.Diff([]string{"preflight", "rolled-back"}, phases); diff != "" {
		t.Errorf("mails of a status (-want +got):\n%s", diff)
	}
}

func subjectOf(t *testing.T, p parsed) string {
	t.Helper()
	s, err := new(mime.WordDecoder).DecodeHeader(p.header.Get("Subject"))
	if err != nil {
		t.Fatalf("Subject: got %v, want no error", err)
	}
	return s
}

// TestHostileHeaders: no text of a notice becomes a header or ends the mail.
func TestHostileHeaders(t *testing.T) {
	c, s := open(t, nil)
	n := notifiertest.Notice(notifier.TopicPage)
	n.Summary = "fine\r\nBcc: evil@example.com\r\n\r\n.\r\nMAIL FROM:<evil@example.com>"
	n.Rollout.ID = "r\r\nX-Evil: 1"
	n.Rollout.Sentence = "a line\r\n.\r\nand another"
	notify(t, c, n)
	got := parse(t, s.last())
	for _, h := range []string{"Bcc", "X-Evil"} {
		if v := got.header.Get(h); v != "" {
			t.Errorf("header %s: got %q, want none", h, v)
		}
	}
	if len(s.all()) != 1 || !strings.Contains(got.body, "a line\r\n.\r\nand another") {
		t.Errorf("body: got %q in %d mails, want the sentence as it is in one", got.body, len(s.all()))
	}
	if got, want := subjectOf(t, got), "[Belay PAGE] fine Bcc: evil@example.com . MAIL FROM:<evil@example.com>"; got != want {
		t.Errorf("Subject: got %q, want %q", got, want)
	}
	n.Summary = strings.Repeat("日本語", 200)
	notify(t, c, n)
	if got := subjectOf(t, parse(t, s.last())); !strings.HasPrefix(got, "[Belay PAGE] 日本語日本語") || len([]rune(got)) > 250 {
		t.Errorf("Subject of a long summary: got %q, want its begin", got)
	}
}

// TestTemplates: a team's words for one message; the others stay.
func TestTemplates(t *testing.T) {
	c, s := open(t, func(_ *server, c *email.Config) {
		c.Templates = map[string]string{"page-subject": "P1 {{.Rollout.Endpoint}}", "page": "{{.Rollout.Candidate}} is bad: {{.Summary}}"}
	})
	notify(t, c, notifiertest.Notice(notifier.TopicPage))
	if got := parse(t, s.last()); subjectOf(t, got) != "P1 recs" || got.body != "green is bad: recs: failures broke its limit on green; rolling back to blue\r\n" {
		t.Errorf("mail: got %q and %q, want the team's words", subjectOf(t, got), got.body)
	}
	notify(t, c, notifiertest.Notice(notifier.TopicTest))
	if got := subjectOf(t, parse(t, s.last())); !strings.HasPrefix(got, "[Belay TEST]") {
		t.Errorf("Subject of a test: got %q, want the default's", got)
	}
}

// TestGolden holds every mail against the files in testdata, decoded.
func TestGolden(t *testing.T) {
	resolved := notifiertest.Notice(notifier.TopicPage)
	resolved.Resolve, resolved.Summary = true, "recs: blue has 100% again, confirmed"
	decided := notifiertest.Notice(notifier.TopicAsk)
	decided.Question.State = "rejected"
	decided.Question.Answers = []notifier.ShownVote{{Who: "slack:T1/U2", When: notifiertest.Noon, Reason: "wrong week"}}
	c, s := open(t, nil)
	for _, test := range []struct {
		name   string
		notice notifier.Notice
	}{
		{"page", notifiertest.Notice(notifier.TopicPage)},
		{"acknowledged", notifiertest.Acknowledged()},
		{"resolved", resolved},
		{"status", notifiertest.Notice(notifier.TopicStatus)},
		{"thread", notifiertest.Notice(notifier.TopicThread)},
		{"ask", notifiertest.Notice(notifier.TopicAsk)},
		{"decided", decided},
		{"test", notifiertest.Notice(notifier.TopicTest)},
	} {
		notify(t, c, test.notice)
		r := s.last()
		head, _, _ := strings.Cut(r.data, "\r\n\r\n")
		got := strings.ReplaceAll(head+"\r\n\r\n"+parse(t, r).body, "\r\n", "\n")
		file := filepath.Join("testdata", test.name+".txt")
		goldentest.Check(t, file, got)
	}
}

// TestNew: all problems of a configuration are told at once.
func TestNew(t *testing.T) {
	_, err := email.New(email.Config{
		Server: "mail.example", Security: "ssl", From: "nobody", To: []string{"a@example.com", "b"}, Username: "u", Hello: "two words",
		Templates: map[string]string{"pgae": "x"},
	})
	for _, want := range []string{"server: want host:port", "security: want", `from: want an address (got "nobody")`, `to: want an address (got "b")`,
		"username, password", "hello: want", "template pgae"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: got %v, want %q in it", err, want)
		}
	}
	_, err = email.New(email.Config{Server: "mail.example:587", From: "a@example.com"})
	if err == nil || !strings.Contains(err.Error(), "to: want at least one") {
		t.Errorf("New without recipients: got %v, want an error about to", err)
	}
	if _, err = email.New(email.Config{Server: "[::1]:25", From: "a@example.com", To: []string{"b@example.com"}}); err != nil {
		t.Errorf("New of the smallest configuration: got %v, want no error", err)
	}
}

// TestPasswordNeedsEncryption: a password is not sent in plain to another machine.
func TestPasswordNeedsEncryption(t *testing.T) {
	c, s := open(t, func(_ *server, c *email.Config) { c.Security = email.Plain })
	port := strings.TrimPrefix(s.l.Addr().String(), "127.0.0.1")
	// The name of this machine that is neither "localhost" nor a loopback address.
	other, err := email.New(email.Config{
		Server: "0.0.0.0" + port, Security: email.Plain, From: "a@example.com", To: []string{"b@example.com"}, Username: user, Password: password,
	})
	if err != nil {
		t.Fatalf("New: got %v, want no error", err)
	}
	if _, err := other.Notify(t.Context(), notifiertest.Notice(notifier.TopicPage)); !errors.Is(err, notifier.ErrPermanent) || !strings.Contains(err.Error(), "not encrypted") {
		t.Errorf("Notify over plain: got %v, want a permanent refusal", err)
	}
	for _, l := range s.commands() {
		if strings.HasPrefix(l, "AUTH") {
			t.Errorf("commands: got %q, want no login", s.commands())
		}
	}
	notify(t, c, notifiertest.Notice(notifier.TopicPage))
}
