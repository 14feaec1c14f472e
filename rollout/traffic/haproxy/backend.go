package haproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/belayd/belay/rollout/traffic"
)

// A backend is an endpoint whose servers are the deployments.
type backend struct {
	router *Router
	name   string
}

// A server is what the socket shows of one.
type server struct {
	row
	// weight is what was set, 0 to 256; away says that a person took it out of
	// service.
	weight int
	away   bool
}

// The bits of srv_admin_state by which a person takes a server out of service:
// forced and inherited maintenance, forced and inherited drain.
const adminAway = 0x01 | 0x02 | 0x08 | 0x10

// servers reads the servers that are not backups, by name.
func (b *backend) servers(ctx context.Context) (map[string]server, error) {
	out, err := b.router.socket.ask(ctx, fmt.Sprintf("show servers state %s;show stat %s %d -1", b.name, b.name,
		1<<kindServer))
	if err != nil {
		return nil, err
	}
	state, stat, ok := strings.Cut(out, "\n\n")
	if !ok {
		return nil, errors.New("read HAProxy's answer: it is cut short")
	}
	if strings.HasPrefix(state, "Can't find") {
		return nil, fmt.Errorf("no backend %s: %w", b.name, traffic.ErrNotFound)
	}
	rows, err := parseStat(strings.TrimLeft(stat, "\n"))
	if err != nil {
		return nil, err
	}
	weights, err := parseState(state)
	if err != nil {
		return nil, err
	}
	servers := make(map[string]server)
	for _, row := range rows {
		if s, ok := weights[row.server]; ok && !row.backup {
			s.row = row
			servers[row.server] = s
		}
	}
	return servers, nil
}

// parseState reads the weights and states out of "show servers state".
func parseState(out string) (map[string]server, error) {
	var column map[string]int
	servers := make(map[string]server)
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 1 && fields[0] == "#":
			column = make(map[string]int)
			for i, name := range fields[1:] {
				column[name] = i
			}
		case len(fields) > 1:
			if column == nil {
				return nil, fmt.Errorf("read HAProxy's servers: %w", refusal(strings.TrimSpace(out)))
			}
			var values [2]int
			for i, name := range []string{"srv_uweight", "srv_admin_state"} {
				at, ok := column[name]
				if !ok || at >= len(fields) {
					return nil, fmt.Errorf("read HAProxy's servers: there is no %s", name)
				}
				n, err := strconv.Atoi(fields[at])
				if err != nil || n < 0 {
					return nil, fmt.Errorf("read HAProxy's servers: %s is %q", name, fields[at])
				}
				values[i] = n
			}
			at, ok := column["srv_name"]
			if !ok || at >= len(fields) {
				return nil, errors.New("read HAProxy's servers: there is no srv_name")
			}
			servers[fields[at]] = server{weight: values[0], away: values[1]&adminAway != 0}
		}
	}
	if column == nil {
		return nil, fmt.Errorf("read HAProxy's servers: %w", refusal(strings.TrimSpace(out)))
	}
	return servers, nil
}

func (b *backend) split(ctx context.Context) (traffic.Split, error) {
	servers, err := b.servers(ctx)
	if err != nil {
		return traffic.Split{}, err
	}
	weights := make(map[string]int)
	for name, s := range servers {
		if s.weight > 0 && !s.away {
			weights[name] = s.weight
		}
	}
	return traffic.Split{Weights: percent(weights)}, nil
}

// percent makes weights sum to 100, the largest remainders rounded up, the
// first by name of equals. Weights that do already stay as they are.
func percent(weights map[string]int) map[string]int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	out := make(map[string]int, len(weights))
	if sum == 0 {
		return out
	}
	left := 100
	names := slices.Sorted(maps.Keys(weights))
	for _, name := range names {
		out[name] = weights[name] * 100 / sum
		left -= out[name]
	}
	slices.SortStableFunc(names, func(a, b string) int { return weights[b]*100%sum - weights[a]*100%sum })
	for _, name := range names[:left] {
		out[name]++
	}
	maps.DeleteFunc(out, func(_ string, w int) bool { return w == 0 })
	return out
}

// set writes the servers' weights in one line, those that rise first.
func (b *backend) set(ctx context.Context, weights map[string]int) error {
	servers, err := b.servers(ctx)
	if err != nil {
		return err
	}
	for name := range weights {
		if _, ok := servers[name]; !ok {
			return fmt.Errorf("no server %s in backend %s: %w", name, b.name, traffic.ErrNotFound)
		}
	}
	var rise, fall []string
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		command := fmt.Sprintf("set server %s/%s weight %d", b.name, name, weights[name])
		switch was := servers[name].weight; {
		case weights[name] > was:
			rise = append(rise, command)
		case weights[name] < was:
			fall = append(fall, command)
		}
	}
	commands := append(rise, fall...)
	if len(commands) == 0 {
		return nil
	}
	return b.router.socket.do(ctx, commands...)
}

func (b *backend) keep(ctx context.Context) error {
	if b.router.stateFile == "" {
		return nil
	}
	out, err := b.router.socket.ask(ctx, "show servers state")
	if err != nil {
		return err
	}
	if _, err := parseState(out); err != nil {
		return err
	}
	return replaceFile(b.router.stateFile, []byte(out))
}

func (b *backend) describe(ctx context.Context) (traffic.Description, error) {
	servers, err := b.servers(ctx)
	if err != nil {
		return traffic.Description{}, err
	}
	d := traffic.Description{Deployments: make(map[string]traffic.Deployment)}
	for name, s := range servers {
		out := traffic.Deployment{Ready: s.up() && !s.away, Instances: 1, Concurrency: s.limit}
		if !out.Ready {
			out.Reason = s.reason()
		}
		d.Deployments[name] = out
		if s.limit == 0 {
			d.Unknown = append(d.Unknown, "deployments."+name+".concurrency")
		}
		d.Unknown = append(d.Unknown, "deployments."+name+".version")
	}
	d.ManualRollback = func(stable string) string {
		if !validName(stable) {
			return ""
		}
		commands := []string{fmt.Sprintf("set server %s/%s weight 100", b.name, stable)}
		for _, name := range slices.Sorted(maps.Keys(servers)) {
			if name != stable {
				commands = append(commands, fmt.Sprintf("set server %s/%s weight 0", b.name, name))
			}
		}
		return fmt.Sprintf("echo '%s' | %s", strings.Join(commands, "; "), b.router.socket.socat())
	}
	return d, nil
}

// reason says why a row is not ready.
func (r row) reason() string {
	if r.check != "" {
		return r.status + " (" + r.check + ")"
	}
	return r.status
}

// socat is the command that speaks to the socket.
func (s socket) socat() string {
	if s.network == "unix" {
		return "socat - UNIX-CONNECT:" + shellWord(s.address)
	}
	return "socat - TCP:" + shellWord(s.address)
}

func shellWord(s string) string {
	if validPath(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
