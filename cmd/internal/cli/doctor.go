package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/view"
)

func doctorCommand() *command {
	return &command{
		name: "doctor", short: "Look for what is wrong: the connection, the daemon, its policies, endpoints and " +
			"metric sources.",
		long: "Each line says what was looked at and what to do about it. The exit code is 1 when anything is wrong.\n" +
			"Every source is read once: what it shows of each policy's metrics, how far behind it is, and which " +
			"guardrails\n" +
			"could be judged now. An A/A test lets each of stable's instances play the candidate: who would be rolled " +
			"back\n" +
			"shows that clients stick, or instances differ. With --config that is done from here, without a daemon; " +
			"nothing is changed.",
		examples: []string{"belay doctor", "belay doctor --config belayd.yaml        # before belayd runs",
			"belay doctor --notify                   # people get a marked test message",
			"belay doctor --context prod --output json"},
		setup: func(f *flags) run {
			conn := f.connection()
			notify := f.Bool("notify", false, "also send a marked test through every notifier, as a page goes there")
			config := f.file("config", "look at belayd's config `FILE` and its sources from here, without a daemon")
			output := f.choice("output", "how to print", "table", "json", "yaml")
			return func(ctx context.Context, e *env, _ []string) error {
				if *config != "" {
					if *notify || *conn.server != "" || *conn.context != "" {
						return usageError("--config looks without a daemon; --server, --context and --notify need one")
					}
					return e.printFindings(configFindings(ctx, *config), *output)
				}
				c, err := conn.client(e)
				if err != nil {
					return err
				}
				return doctor(ctx, e, c, *notify, *output)
			}
		},
	}
}

// A finding is one thing that was looked at.
type finding struct {
	OK     bool   `json:"ok"`
	What   string `json:"what"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"`
	// Look says what only a person can see.
	Look string `json:"look,omitempty"`
}

func doctor(ctx context.Context, e *env, c *api.Client, notify bool, output string) error {
	var all []finding
	looks := []func(context.Context, *api.Client) []finding{lookReady, lookPolicies, lookEndpoints, e.lookRollouts,
		e.lookTriggers, lookSources}
	if notify {
		looks = append(looks, e.lookNotifiers)
	}
	for _, look := range looks {
		found := look(ctx, c)
		all = append(all, found...)
		if len(found) > 0 && found[0].What == "connection" && !found[0].OK {
			break // nothing else can be asked
		}
	}
	return e.printFindings(all, output)
}

// printFindings prints what was found; anything wrong is the exit code 1.
func (e *env) printFindings(all []finding, output string) error {
	out := struct {
		SchemaVersion int       `json:"schemaVersion"`
		OK            bool      `json:"ok"`
		Findings      []finding `json:"findings"`
	}{SchemaVersion: api.SchemaVersion, OK: true, Findings: all}
	for _, f := range out.Findings {
		out.OK = out.OK && f.OK
	}
	err := e.print(output, out, func(w io.Writer) error {
		for _, f := range out.Findings {
			mark := e.paint(green, "ok   ")
			if !f.OK {
				mark = e.paint(red, "WRONG")
			}
			fmt.Fprintf(w, "%s  %-11s %s\n", mark, f.What, safe(f.Found))
			for _, next := range []string{f.Remedy, f.Look} {
				if next != "" {
					fmt.Fprintf(w, "       %-11s → %s\n", "", safe(next))
				}
			}
		}
		return nil
	}, nil)
	if err == nil && !out.OK {
		return &codeError{code: exitError}
	}
	return err
}

// lookReady asks whether the daemon answers and is well.
func lookReady(ctx context.Context, c *api.Client) []finding {
	h, err := c.Ready(ctx)
	if err != nil {
		return []finding{{What: "connection", Found: err.Error(),
			Remedy: "start belayd, or name it with --server, BELAY_SERVER or a context"}}
	}
	out := []finding{{OK: true, What: "connection", Found: "belayd " + h.Version + " answers"}}
	for _, p := range h.Problems {
		out = append(out, finding{What: "daemon", Found: p, Remedy: "see belayd's log"})
	}
	switch {
	case h.Status == "ready":
		out = append(out, finding{OK: true, What: "daemon", Found: "ready"})
	case len(h.Problems) == 0:
		out = append(out, finding{What: "daemon", Found: "not ready; it says why to those who may view",
			Remedy: "name a token with --token-file, BELAY_TOKEN_FILE or a context"})
	}
	return out
}

// lookPolicies asks which policies are in force, and thereby whether the token is
// good.
func lookPolicies(ctx context.Context, c *api.Client) []finding {
	l, err := c.Policies(ctx)
	if p, ok := errors.AsType[*api.ProblemDetails](err); ok && (p.Status == 401 || p.Status == 403) {
		return []finding{{What: "token", Found: sentence(err),
			Remedy: "name a token with --token-file, BELAY_TOKEN_FILE or a context"}}
	}
	switch {
	case err != nil:
		return []finding{{What: "policies", Found: sentence(err)}}
	case len(l.Policies) == 0:
		return []finding{{What: "policies", Found: "there are none that this token may see",
			Remedy: "name policy files in belayd's config under policies"}}
	}
	return []finding{{OK: true, What: "policies", Found: fmt.Sprintf("%d in force", len(l.Policies))}}
}

// lookEndpoints asks whether the routers show the endpoints that policies name.
func lookEndpoints(ctx context.Context, c *api.Client) []finding {
	l, err := c.Endpoints(ctx)
	if err != nil {
		return []finding{{What: "endpoints", Found: sentence(err)}}
	}
	shown := map[string]bool{}
	var out []finding
	for _, x := range l.Endpoints {
		shown[x.Router+"/"+x.Name] = true
		if x.Error != "" {
			out = append(out, finding{What: "endpoint", Found: x.Router + "/" + x.Name + ": " + x.Error,
				Remedy: "check the router's address and credentials in belayd's config"})
		}
	}
	ps, err := c.Policies(ctx)
	if err != nil {
		return append(out, finding{What: "policies", Found: sentence(err)})
	}
	for _, p := range ps.Policies {
		if at := p.Endpoint.Router + "/" + p.Endpoint.Name; !shown[at] {
			out = append(out,
				finding{What: "endpoint", Found: fmt.Sprintf("policy %s names %s, which its router does not show",
					p.Name, at), Remedy: "correct spec.endpoint, or create the endpoint"})
		}
	}
	if len(out) == 0 {
		out = append(out, finding{OK: true, What: "endpoints", Found: fmt.Sprintf("%d shown, all can be read",
			len(l.Endpoints))})
	}
	return out
}

// lookRollouts names the rollouts that wait for a person.
func (e *env) lookRollouts(ctx context.Context, c *api.Client) []finding {
	var out []finding
	n := 0
	for r, err := range c.Rollouts(ctx, view.Filter{Phases: []string{"open"}}) {
		if err != nil {
			return []finding{{What: "rollouts", Found: sentence(err)}}
		}
		n++
		if r.Page != nil || r.Unconfirmed {
			out = append(out, finding{What: "rollout", Found: fmt.Sprintf("%s is %s: %s", r.ID, r.Phase,
				e.told(r.Sentence)), Remedy: e.belay("explain", r.ID)})
		}
	}
	if len(out) == 0 {
		out = append(out, finding{OK: true, What: "rollouts", Found: fmt.Sprintf("%d open, none calls a person", n)})
	}
	return out
}

// lookTriggers names the triggers that refused events: somebody waits for a
// rollout that does not come.
func (e *env) lookTriggers(ctx context.Context, c *api.Client) []finding {
	l, err := c.Triggers(ctx)
	if p, ok := errors.AsType[*api.ProblemDetails](err); ok && p.Status == 403 {
		return nil // lookSources says what the token lacks
	}
	if err != nil {
		return []finding{{What: "triggers", Found: sentence(err)}}
	}
	var out []finding
	for _, t := range l.Triggers {
		f := finding{OK: true, What: "trigger", Found: t.Name + " consumes " + t.Stream}
		switch {
		case t.Refused > 0:
			f = finding{What: "trigger", Found: fmt.Sprintf("%s refused %d events since belayd started", t.Name,
				t.Refused), Remedy: e.belay("trigger", "refused", t.Name)}
		case t.Error != "":
			continue // what is not ready has said so
		}
		out = append(out, f)
	}
	return out
}

// lookNotifiers sends a test through every notifier. Whether it arrived only a person
// can say.
func (e *env) lookNotifiers(ctx context.Context, c *api.Client) []finding {
	l, err := c.TestNotifiers(ctx)
	if err != nil {
		return []finding{{What: "notifiers", Found: sentence(err)}}
	}
	if len(l.Notifiers) == 0 {
		return []finding{{What: "notifiers", Found: "there are none: nobody is paged",
			Remedy: "add notifiers to belayd's config and name them in policies"}}
	}
	var out []finding
	for _, n := range l.Notifiers {
		f := finding{OK: n.OK, What: "notifier", Found: n.Name + " took a test"}
		if n.Look != "" {
			f.Look = fmt.Sprintf("look for %s; the test ends by itself at %s. If nothing came by then, nobody would "+
				"be paged", n.Look, e.clock(n.Ends))
		}
		if !n.OK {
			f.Found, f.Remedy = n.Name+": "+n.Error, "check its address and secret in belayd's config"
		}
		out = append(out, f)
	}
	return out
}
