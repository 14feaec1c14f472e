package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/rollout/traffic"
)

// RuleOutcome is how a rule of the contract came out.
type RuleOutcome string

// The verdicts. Advice is a rule that Belay can live without; skipped is one
// that could not be tried on this endpoint.
const (
	Pass    RuleOutcome = "pass"
	Fail    RuleOutcome = "fail"
	Advice  RuleOutcome = "advice"
	Skipped RuleOutcome = "skipped"
)

// A Finding is what Conform found about one rule.
type Finding struct {
	Rule    string      `json:"rule"`
	Verdict RuleOutcome `json:"verdict"`
	Found   string      `json:"found"`
	Want    string      `json:"want"`
}

// takesEffect is how long Conform waits for a write to be read back.
const takesEffect = 30 * time.Second

// Conform proves, rule by rule, that an endpoint keeps the contract. It writes:
// it moves one point of the traffic, tries writes that must be refused, and puts
// the split back in the end, also when ctx has ended meanwhile. Run it against an
// endpoint that serves nobody. url and client are those of Config; a client
// error is a finding, not an error.
func Conform(ctx context.Context, client *http.Client, url, endpoint string) []Finding {
	router, err := New(Config{URL: url, Client: client})
	if err != nil {
		return []Finding{{Rule: "address", Verdict: Fail, Found: err.Error(), Want: "an address that can be used"}}
	}
	c := &conformance{router: router, endpoint: endpoint}
	if c.reads(ctx) {
		c.writes(ctx)
		c.restore(ctx)
	}
	return c.findings
}

// A conformance is one run of Conform.
type conformance struct {
	router   *Router
	endpoint string
	start    EndpointState
	findings []Finding
}

func (c *conformance) add(rule string, ok bool, found, want string) bool {
	verdict := Pass
	if !ok {
		verdict = Fail
	}
	c.findings = append(c.findings, Finding{Rule: rule, Verdict: verdict, Found: found, Want: want})
	return ok
}

func (c *conformance) advise(rule string, ok bool, found, want string) {
	c.add(rule, ok, found, want)
	if !ok {
		c.findings[len(c.findings)-1].Verdict = Advice
	}
}

func (c *conformance) skip(why string, rules ...string) {
	for _, rule := range rules {
		c.findings = append(c.findings, Finding{Rule: rule, Verdict: Skipped, Found: why})
	}
}

// reads tries what needs no write; false when there is no use going on.
func (c *conformance) reads(ctx context.Context) bool {
	var names []string
	err := error(nil)
	for name, e := range c.router.Endpoints(ctx) {
		names, err = append(names, name), errors.Join(err, e)
	}
	if err != nil {
		c.add("list", false, err.Error(), `GET /endpoints answers {"endpoints":[…]}`)
	} else {
		c.add("list", slices.Contains(names, c.endpoint), fmt.Sprintf("%q", names),
			fmt.Sprintf("GET /endpoints names %q", c.endpoint))
	}
	c.start, err = c.router.read(ctx, c.endpoint)
	if err != nil {
		return c.add("read", false, err.Error(), "GET answers the endpoint's state as application/json")
	}
	c.add("read", true, c.start.split().String()+" at version "+c.start.Version, "GET answers the endpoint's state")
	again, err := c.router.read(ctx, c.endpoint)
	c.add("version is steady", err == nil && again.Version == c.start.Version,
		found(err, "%s, then %s", c.start.Version, again.Version), "the same version while nothing changes")
	_, err = c.router.read(ctx, "no-such-endpoint")
	c.add("unknown endpoint", errors.Is(err, traffic.ErrNotFound), found(err, "an answer"), "404")
	untold := slices.DeleteFunc(c.start.describe().Unknown, func(s string) bool {
		return s == "authMode" ||
			s == "publicNetwork"
	})
	told := "everything is told"
	if len(untold) > 0 {
		told = "not told: " + strings.Join(untold, ", ")
	}
	c.advise("facts for preflight", len(untold) == 0, told,
		"everything is told; a check that needs what is not told fails")
	return true
}

// writes tries every rule of PUT, each from the state that the one before left.
func (c *conformance) writes(ctx context.Context) {
	rules := []string{"stale version", "no version", "invalid sum", "unknown deployment", "write",
		"version in the body", "two writers"}
	moved, ok := c.start.moved()
	if !ok {
		c.skip("needs live traffic and a second deployment, in weights or in deployments", rules...)
		return
	}
	c.refuses(ctx, "stale version", moved.Weights, "another-version", http.StatusPreconditionFailed)
	c.refuses(ctx, "no version", moved.Weights, "", 0)
	c.refuses(ctx, "invalid sum", withShare(c.start.Weights, maxKey(c.start.Weights), -1), current, 0)
	stray := withShare(withShare(c.start.Weights, maxKey(c.start.Weights), -1), "no-such-deployment", 1)
	c.refuses(ctx, "unknown deployment", stray, current, 0)

	now, ok := c.write(ctx, "write", moved.Weights, nil)
	if !ok {
		c.skip("a plain write did not work", rules[5:]...)
		return
	}
	c.add("version changes", now.Version != c.start.Version, now.Version, "another version than "+c.start.Version)
	if now, ok = c.write(ctx, "version in the body", c.start.Weights, map[string]any{"version": "ignored"}); ok {
		c.twoWriters(ctx, now, moved.Weights)
	}
}

// current stands for the version that the endpoint shows; no version has spaces.
const current = "the current one"

// refuses checks that a write is refused, with this status where it is not 0,
// and changes nothing. Only the fence is a must: Belay itself never sends the
// others.
func (c *conformance) refuses(ctx context.Context, rule string, weights map[string]int, version string, want int) {
	wanted := "a 4xx answer and no change"
	if want != 0 {
		wanted = fmt.Sprintf("%d and no change", want)
	}
	before, err := c.look(ctx)
	if version == current {
		version = before.Version
	}
	status, err2 := c.put(ctx, weights, nil, version)
	after, err3 := c.look(ctx)
	if err := errors.Join(err, err2, err3); err != nil {
		c.add(rule, false, err.Error(), wanted)
		return
	}
	same := before.split().Equal(after.split())
	ok := same && (status == want || want == 0 && status/100 == 4)
	told := fmt.Sprintf("%d, %s", status, after.split())
	if want != 0 {
		c.add(rule, ok, told, wanted)
	} else {
		c.advise(rule, ok, told, wanted)
	}
	if !same {
		c.write(ctx, rule+": put back", before.Weights, nil)
	}
}

// look reads the state as it is: an endpoint that took weights that the contract
// does not allow must still get its first ones back.
func (c *conformance) look(ctx context.Context) (EndpointState, error) {
	var s EndpointState
	address, err := c.router.address(c.endpoint)
	if err == nil {
		err = c.router.get(ctx, address, &s)
	}
	return s, err
}

// write puts weights, with extra fields in the body, and waits until they are
// read back.
func (c *conformance) write(
	ctx context.Context, rule string, weights map[string]int, extra map[string]any,
) (EndpointState, bool) {
	want := traffic.Split{Weights: weights, Mirror: c.start.Mirror}
	wanted := "200, and GET shows " + want.String()
	now, err := c.look(ctx)
	if err != nil {
		return now, c.add(rule, false, err.Error(), wanted)
	}
	status, err := c.put(ctx, weights, extra, now.Version)
	if err != nil || status != http.StatusOK {
		return now, c.add(rule, false, found(err, "%d", status), wanted)
	}
	now, err = c.await(ctx, want)
	return now, c.add(rule, err == nil, found(err, "%d, %s", status, now.split().String()), wanted)
}

// await reads until the endpoint shows want.
func (c *conformance) await(ctx context.Context, want traffic.Split) (EndpointState, error) {
	ctx, cancel := context.WithTimeout(ctx, takesEffect)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		now, err := c.router.read(ctx, c.endpoint)
		if err == nil && now.split().Equal(want) {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return now, fmt.Errorf("not read back within %s: %w", takesEffect, errors.Join(err, ctx.Err()))
		case <-time.After(pause):
		}
	}
}

// twoWriters sends two writes for the same version at the same time.
func (c *conformance) twoWriters(ctx context.Context, now EndpointState, weights map[string]int) {
	var statuses [2]int
	var errs [2]error
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() { statuses[i], errs[i] = c.put(ctx, weights, nil, now.Version) })
	}
	wg.Wait()
	slices.Sort(statuses[:])
	err := errors.Join(errs[0], errs[1])
	ok := err == nil && statuses[0] == http.StatusOK &&
		(statuses[1] == http.StatusPreconditionFailed || statuses[1] == http.StatusConflict)
	c.add("two writers", ok, found(err, "%d and %d", statuses[0], statuses[1]), "200 for one, 412 for the other")
}

// restore puts the first split back.
func (c *conformance) restore(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*takesEffect)
	defer cancel()
	now, err := c.look(ctx)
	if err == nil && now.split().Equal(c.start.split()) {
		c.add("split put back", true, now.split().String(), "the split as it was")
		return
	}
	if len(traffic.Positive(c.start.Weights)) == 0 {
		c.skip("there was no traffic, and none was written", "split put back")
		return
	}
	c.write(ctx, "split put back", c.start.Weights, nil)
}

// put sends a state; version "" sends no If-Match.
func (c *conformance) put(
	ctx context.Context, weights map[string]int, extra map[string]any, version string,
) (int, error) {
	body := map[string]any{"weights": weights}
	if c.start.Mirror != nil {
		body["mirror"] = c.start.Mirror
	}
	maps.Copy(body, extra)
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, fmt.Errorf("encode state: %w", err)
	}
	address, err := c.router.address(c.endpoint)
	if err != nil {
		return 0, err
	}
	req, err := newRequest(ctx, http.MethodPut, address, bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if version != "" {
		req.Header.Set("If-Match", `"`+version+`"`)
	}
	resp, err := c.router.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("put state: %w", bare(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)); err != nil {
		return 0, fmt.Errorf("put state: read answer: %w", err)
	}
	return resp.StatusCode, nil
}

// moved is s with one point of the traffic given to another deployment; false
// when there is no traffic or no other deployment without mirrored traffic.
func (s EndpointState) moved() (EndpointState, bool) {
	from := maxKey(s.Weights)
	if s.Weights[from] == 0 {
		return s, false
	}
	names := slices.Sorted(maps.Keys(s.Weights))
	names = append(names, slices.Sorted(maps.Keys(s.Deployments))...)
	for _, to := range names {
		if to != from && s.Mirror[to] == 0 {
			s.Weights = withShare(withShare(s.Weights, from, -1), to, 1)
			return s, true
		}
	}
	return s, false
}

func withShare(weights map[string]int, name string, change int) map[string]int {
	out := maps.Clone(weights)
	out[name] += change
	return out
}

// maxKey is the deployment with the largest weight, the first by name of equals.
func maxKey(weights map[string]int) string {
	best := ""
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		if best == "" || weights[name] > weights[best] {
			best = name
		}
	}
	return best
}

// found words an outcome: the error where there is one.
func found(err error, format string, args ...any) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf(format, args...)
}
