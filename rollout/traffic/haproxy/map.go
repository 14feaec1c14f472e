package haproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/belayd/belay/rollout/traffic"
)

// slots is how many keys a map has: one a percent.
const slots = 100

// chunk is how many entries are added with one command, so that it fits into
// HAProxy's smallest buffers.
const chunk = 25

// A mapEndpoint is an endpoint whose map leads to the backends that are the
// deployments.
type mapEndpoint struct {
	router *Router
	file   string
	kept   bool
}

// read returns the backend of each key.
func (m *mapEndpoint) read(ctx context.Context) ([slots]string, error) {
	out, err := m.router.socket.ask(ctx, "show map "+m.file)
	if err != nil {
		return [slots]string{}, err
	}
	return parseMap(out)
}

// parseMap reads lines of "<address> <key> <value>".
func parseMap(out string) ([slots]string, error) {
	var entries [slots]string
	n := 0
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 || !strings.HasPrefix(fields[0], "0x") {
			return entries, fmt.Errorf("read HAProxy's map: %w", refusal(strings.TrimSpace(out)))
		}
		key, err := strconv.Atoi(fields[1])
		if err != nil || key < 0 || key >= slots {
			return entries, fmt.Errorf("read HAProxy's map: key %q is not 0 to %d: %w", fields[1], slots-1,
				traffic.ErrPermanent)
		}
		if entries[key] != "" {
			return entries, fmt.Errorf("read HAProxy's map: key %d stands there twice", key)
		}
		entries[key] = fields[2]
		n++
	}
	if n != slots {
		return entries, fmt.Errorf("read HAProxy's map: got %d entries, want the keys 0 to %d", n, slots-1)
	}
	return entries, nil
}

func (m *mapEndpoint) split(ctx context.Context) (traffic.Split, error) {
	entries, err := m.read(ctx)
	if err != nil {
		return traffic.Split{}, err
	}
	weights := make(map[string]int)
	for _, name := range entries {
		weights[name]++
	}
	return traffic.Split{Weights: weights}, nil
}

// set replaces the map: it prepares a new version, fills it, and commits it in
// one act.
func (m *mapEndpoint) set(ctx context.Context, weights map[string]int) error {
	names, err := m.backends(ctx)
	if err != nil {
		return err
	}
	for name := range weights {
		if _, ok := names[name]; !ok {
			return fmt.Errorf("no backend %s: %w", name, traffic.ErrNotFound)
		}
	}
	now, err := m.read(ctx)
	if err != nil {
		return err
	}
	next := assign(now, weights)
	out, err := m.router.socket.ask(ctx, "prepare map "+m.file)
	if err != nil {
		return err
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(out), "New version created: ")
	version, err := strconv.ParseUint(text, 10, 32)
	if !ok || err != nil {
		return fmt.Errorf("prepare a version of HAProxy's map: %w", refusal(strings.TrimSpace(out)))
	}
	for first := 0; first < slots; first += chunk {
		var payload strings.Builder
		_, _ = fmt.Fprintf(&payload, "add map @%d %s <<\n", version, m.file)
		for key := first; key < min(first+chunk, slots); key++ {
			_, _ = fmt.Fprintf(&payload, "%d %s\n", key, next[key])
		}
		if err := m.router.socket.do(ctx, payload.String()); err != nil {
			return fmt.Errorf("fill a version of HAProxy's map: %w", err)
		}
	}
	if err := m.router.socket.do(ctx, fmt.Sprintf("commit map @%d %s", version, m.file)); err != nil {
		return fmt.Errorf("commit a version of HAProxy's map: %w", err)
	}
	return nil
}

// assign gives each deployment its number of keys and moves as few as it can:
// who has too many gives up the highest, who has too few takes the lowest free.
func assign(now [slots]string, weights map[string]int) [slots]string {
	left := maps.Clone(weights)
	var next [slots]string
	for key, name := range now {
		if left[name] > 0 {
			next[key] = name
			left[name]--
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		for key := range next {
			if left[name] > 0 && next[key] == "" {
				next[key] = name
				left[name]--
			}
		}
	}
	return next
}

func (m *mapEndpoint) keep(ctx context.Context) error {
	if !m.kept {
		return nil
	}
	entries, err := m.read(ctx)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for key, name := range entries {
		_, _ = fmt.Fprintf(&b, "%d %s\n", key, name)
	}
	return replaceFile(m.file, b.Bytes())
}

// backends reads all backends, by name, with their servers.
func (m *mapEndpoint) backends(ctx context.Context) (map[string][]row, error) {
	rows, err := m.router.socket.stat(ctx, "-1")
	if err != nil {
		return nil, err
	}
	out := make(map[string][]row)
	for _, r := range rows {
		switch r.kind {
		case kindBackend:
			out[r.proxy] = append([]row{r}, out[r.proxy]...)
		case kindServer:
			out[r.proxy] = append(out[r.proxy], r)
		}
	}
	maps.DeleteFunc(out, func(_ string, rows []row) bool { return rows[0].kind != kindBackend })
	if len(out) == 0 {
		return nil, errors.New("read HAProxy's statistics: they show no backend")
	}
	return out, nil
}

// describe tells of every backend: any of them may become a deployment.
func (m *mapEndpoint) describe(ctx context.Context) (traffic.Description, error) {
	if _, err := m.read(ctx); err != nil {
		return traffic.Description{}, err
	}
	backends, err := m.backends(ctx)
	if err != nil {
		return traffic.Description{}, err
	}
	d := traffic.Description{Deployments: make(map[string]traffic.Deployment)}
	for name, rows := range backends {
		whole, servers := rows[0], rows[1:]
		out := traffic.Deployment{Ready: whole.up() && whole.active > 0, Instances: whole.active}
		if !out.Ready {
			out.Reason = fmt.Sprintf("%s, %d servers active", whole.reason(), whole.active)
		}
		limits := make(map[int]bool)
		for _, s := range servers {
			if !s.backup {
				limits[s.limit] = true
				out.Concurrency = s.limit
			}
		}
		if len(limits) != 1 || limits[0] {
			out.Concurrency = 0
			d.Unknown = append(d.Unknown, "deployments."+name+".concurrency")
		}
		d.Unknown = append(d.Unknown, "deployments."+name+".version")
		d.Deployments[name] = out
	}
	d.ManualRollback = func(stable string) string {
		if !validName(stable) {
			return ""
		}
		return fmt.Sprintf(
			`{ printf 'set map %[1]s 0 %[2]s'; i=1; while [ $i -lt %[3]d ]; do printf '; set map %[1]s %%d %[2]s' $i; i=$((i+1)); done; echo; } | %[4]s`,
			m.file, stable, slots, m.router.socket.socat())
	}
	return d, nil
}
