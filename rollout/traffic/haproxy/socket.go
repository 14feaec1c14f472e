package haproxy

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/traffic"
)

const (
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 16 << 20
	// recentStart is how young a process is that was probably just reloaded.
	recentStart = 5 * time.Minute
)

// A socket is HAProxy's runtime API: one line of commands a connection.
type socket struct{ network, address string }

func parseSocket(s string) (socket, error) {
	if filepath.IsAbs(s) {
		return socket{"unix", s}, nil
	}
	if _, _, err := net.SplitHostPort(s); err != nil {
		return socket{}, fmt.Errorf("configure haproxy router: socket %q is neither an absolute path nor host:port", s)
	}
	return socket{"tcp", s}, nil
}

// ask sends one line of commands (with its payload) and returns the whole
// answer.
func (s socket) ask(ctx context.Context, commands string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("ask HAProxy: %w", err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, s.network, s.address)
	if err != nil {
		return "", fmt.Errorf("ask HAProxy: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, commands+"\n"); err != nil {
		return "", fmt.Errorf("ask HAProxy: %w", ended(ctx, err))
	}
	out, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	if err != nil {
		return "", fmt.Errorf("read HAProxy's answer: %w", ended(ctx, err))
	}
	if len(out) > maxAnswer {
		return "", fmt.Errorf("read HAProxy's answer: it is larger than %d bytes", maxAnswer)
	}
	return string(out), nil
}

// ended prefers the context's own error to the deadline that it caused.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// do sends commands that answer nothing when they succeed. Each of them ends
// its answer with an empty line, so that an answer cut short is noticed.
func (s socket) do(ctx context.Context, commands ...string) error {
	out, err := s.ask(ctx, strings.Join(commands, ";"))
	if err != nil {
		return err
	}
	if text := strings.TrimSpace(out); text != "" {
		return fmt.Errorf("HAProxy answered: %w", refusal(text))
	}
	if n := strings.Count(out, "\n"); n < len(commands) {
		return fmt.Errorf("HAProxy answered %d of %d commands", n, len(commands))
	}
	return nil
}

// refusal words what HAProxy wrote instead of doing a command.
func refusal(text string) error {
	text, _, _ = strings.Cut(text, "\n")
	if len(text) > 200 {
		text = text[:200]
	}
	err := fmt.Errorf("%q", text)
	switch {
	case strings.HasPrefix(text, "No such"), strings.HasPrefix(text, "Can't find"),
		strings.HasPrefix(text, "Unknown map"):
		return fmt.Errorf("%w: %w", err, traffic.ErrNotFound)
	case strings.HasPrefix(text, "Permission denied"):
		return fmt.Errorf("%w; the socket needs level admin: %w", err, traffic.ErrPermanent)
	case strings.Contains(text, "static LB algorithm"):
		return fmt.Errorf("%w; balance by roundrobin, leastconn, random or a consistent hash: %w", err,
			traffic.ErrPermanent)
	case strings.HasPrefix(text, "Unknown command"):
		return fmt.Errorf("%w; HAProxy 2.4 or newer is needed: %w", err, traffic.ErrPermanent)
	}
	return err
}

// uptime is how long the process has been running.
func (s socket) uptime(ctx context.Context) (time.Duration, error) {
	out, err := s.ask(ctx, "show info")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(line, "Uptime_sec: "); ok {
			seconds, err := strconv.Atoi(strings.TrimSpace(text))
			return time.Duration(seconds) * time.Second, err
		}
	}
	return 0, errors.New("read HAProxy's answer: it tells no uptime")
}

// The kinds of rows of statistics that matter here.
const (
	kindBackend = 1
	kindServer  = 2
)

// A row is a backend or a server in the statistics.
type row struct {
	proxy, server string
	kind          int
	status, check string
	backup        bool
	active        int
	// limit is the server's maxconn; 0 for none.
	limit int
}

// stat reads the statistics of a backend and its servers, or of all with "-1".
func (s socket) stat(ctx context.Context, proxy string) ([]row, error) {
	out, err := s.ask(ctx, fmt.Sprintf("show stat %s %d -1", proxy, 1<<kindBackend|1<<kindServer))
	if err != nil {
		return nil, err
	}
	return parseStat(out)
}

func parseStat(out string) ([]row, error) {
	table, ok := strings.CutPrefix(out, "# ")
	if !ok {
		return nil, fmt.Errorf("read HAProxy's statistics: %w", refusal(strings.TrimSpace(out)))
	}
	r := csv.NewReader(strings.NewReader(table))
	r.FieldsPerRecord = -1
	records, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read HAProxy's statistics: %w", err)
	}
	if len(records) == 0 {
		return nil, errors.New("read HAProxy's statistics: they are empty")
	}
	column := make(map[string]int)
	for i, name := range records[0] {
		column[name] = i
	}
	for _, name := range []string{"pxname", "svname", "status", "act", "bck", "slim", "type", "check_desc"} {
		if _, ok := column[name]; !ok {
			return nil, fmt.Errorf("read HAProxy's statistics: they have no column %s", name)
		}
	}
	var rows []row
	for _, record := range records[1:] {
		field := func(name string) string {
			if i := column[name]; i < len(record) {
				return record[i]
			}
			return ""
		}
		number := func(name string) int {
			n, err := strconv.Atoi(field(name))
			if err != nil {
				return 0
			}
			return n
		}
		rows = append(rows, row{
			proxy: field("pxname"), server: field("svname"), kind: number("type"), status: field("status"),
			check: field("check_desc"), backup: number("bck") > 0, active: number("act"), limit: number("slim"),
		})
	}
	return rows, nil
}

// up reports whether a status serves traffic; "no check" is not known to be
// down. A server without weight is shown as draining.
func (r row) up() bool {
	return strings.HasPrefix(r.status, "UP") || strings.HasPrefix(r.status, "no check") ||
		strings.HasPrefix(r.status, "OPEN") || strings.HasPrefix(r.status, "DRAIN")
}

// validName reports whether s can be the name of a proxy or a server, and so
// stands in a command as one word.
func validName(s string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_"
	return s != "" && len(s) <= 128 && strings.Trim(s, plain) == ""
}

// validPath reports whether s stands in a command, and in a shell, as one word.
func validPath(s string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_/@+,="
	return s != "" && len(s) <= 1024 && s[0] != '-' && strings.Trim(s, plain) == ""
}
