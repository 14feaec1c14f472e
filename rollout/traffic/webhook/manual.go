package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/belayd/belay/rollout/traffic"
)

// Describe implements traffic.Router.
func (r *Router) Describe(ctx context.Context, endpoint string) (traffic.Description, error) {
	state, err := r.read(ctx, endpoint)
	if err != nil {
		return traffic.Description{}, fmt.Errorf("describe %s: %w", endpoint, err)
	}
	d := state.describe()
	d.ManualRollback = func(stable string) string { return r.manual(endpoint, stable, d.CanMirror) }
	return d, nil
}

// manual is the command that gives stable all the traffic: it reads the version
// and requires it, as every writer must. When someone else was faster it fails
// with 412 and is simply run again.
func (r *Router) manual(endpoint, stable string, mirrors bool) string {
	state := map[string]any{"weights": map[string]int{stable: 100}}
	if mirrors {
		state["mirror"] = map[string]int{}
	}
	// Encoding a map of strings and integers cannot fail.
	body, _ := json.Marshal(state)
	address := quote(r.base.String() + "/endpoints/" + url.PathEscape(endpoint))
	words := []string{"curl", "-fsS"}
	for _, arg := range r.curl {
		words = append(words, quote(arg))
	}
	curl := strings.Join(words, " ")
	return fmt.Sprintf(
		`%s -X PUT -H "If-Match: \"$(%s %s | jq -er .version)\"" -H 'Content-Type: application/json' --data %s %s`,
		curl, curl, address, quote(string(body)), address)
}

// quote makes one word of a POSIX shell; a leading ~/ stays for the shell.
func quote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,"
	head := ""
	if rest, ok := strings.CutPrefix(s, "~/"); ok {
		head, s = "~/", rest
	}
	if s != "" && strings.Trim(s, plain) == "" {
		return head + s
	}
	return head + "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
