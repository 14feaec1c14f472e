package email

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"

	"github.com/belayd/belay/notifier"
)

// maxText bounds each value in a mail, in characters.
const maxText = 2000

// clean keeps the lines of commands and lets nothing through that a mail program
// would act on; a mail is plain text.
func clean(s string) string { return notifier.Lines(s, maxText) }

// message is the mail as it goes over the wire: headers in ASCII, the body in
// quoted-printable UTF-8.
func (c *Client) message(n notifier.Notice) []byte {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	at := n.At
	if at.IsZero() {
		at = time.Now()
	}
	subjectKind := notifier.PlainKind(n) + "-subject"
	header("Date", at.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	header("From", c.from.String())
	header("To", addresses(c.to))
	header("Subject", subject(c.words.Text(subjectKind, n)))
	header("Message-ID", c.id("message", n.Key, n.Delivery))
	root := c.id("key", n.Key)
	header("In-Reply-To", root)
	header("References", c.id("rollout", n.Rollout.ID)+"\r\n "+root)
	header("Auto-Submitted", "auto-generated")
	header("X-Belay-Rollout", headerValue(n.Rollout.ID))
	if k := notifier.PlainKind(n); k == "page" || k == "test" {
		header("Importance", "high")
		header("X-Priority", "1")
	}
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	q := quotedprintable.NewWriter(&b)
	_, _ = q.Write([]byte(strings.ReplaceAll(c.words.Text(notifier.PlainKind(n), n), "\n", "\r\n") + "\r\n"))
	_ = q.Close()
	return b.Bytes()
}

// id makes a message id that is the same for the same parts.
func (c *Client) id(parts ...string) string {
	sum := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(sum, "%d:%s", len(p), p)
	}
	_, domain, _ := strings.Cut(c.from.Address, "@")
	return "<" + hex.EncodeToString(sum.Sum(nil)[:16]) + ".belay@" + domain + ">"
}

// subject folds a subject into encoded words, one header line each.
func subject(s string) string {
	s = notifier.Line(s, 250)
	if s == "" {
		s = "[Belay]"
	}
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", s), "?= =?", "?=\r\n =?")
}

func headerValue(s string) string {
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", notifier.Line(s, 100)), "?= =?", "?=\r\n =?")
}

func addresses(as []*mail.Address) string {
	parts := make([]string, 0, len(as))
	for _, a := range as {
		parts = append(parts, a.String())
	}
	return strings.Join(parts, ",\r\n ")
}
