package cli

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	flag "github.com/spf13/pflag"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/view"
)

// completeWithin is how long a shell waits for what belayd knows, and completeMost how
// much of it is offered.
const (
	completeWithin = 2 * time.Second
	completeMost   = 200
)

func completionCommand() *command {
	return &command{
		name: "completion", args: "SHELL", short: "Print a completion script for bash, zsh, fish or powershell.",
		min: 1, max: 1,
		long: "The script asks belay itself at every key: ids of rollouts, policies, endpoints, contexts and phases are\n" +
			"those of the belayd that the command line leads to. In bash it needs the package bash-completion.",
		examples: []string{
			"source <(belay completion bash)",
			"belay completion zsh > \"${fpath[1]}/_belay\"",
			"belay completion fish > ~/.config/fish/completions/belay.fish",
			"belay completion powershell | Out-String | Invoke-Expression",
		},
		setup: func(*flags) run {
			return func(_ context.Context, e *env, args []string) error {
				root := e.tree()
				switch args[0] {
				case "bash":
					return root.GenBashCompletionV2(e.stdout, true)
				case "zsh":
					return root.GenZshCompletion(e.stdout)
				case "fish":
					return root.GenFishCompletion(e.stdout, true)
				case "powershell":
					return root.GenPowerShellCompletionWithDesc(e.stdout)
				}
				return usageError("want bash, zsh, fish or powershell (got %q)", args[0])
			}
		},
	}
}

// A completer says what may stand at a place, each as "word" or "word\tdescription".
// One that fails says nothing: an error in the middle of a line that is being typed
// helps nobody.
type completer func(ctx context.Context, e *env, f *flags) ([]string, error)

// completers are those of the kinds of names that commands and flags take.
var completers = map[string]completer{
	"ID":       completeIDs,
	"ENDPOINT": completeEndpoints,
	"POLICY":   completePolicies,
	"TRIGGER":  completeTriggers,
	"CONTEXT":  completeContexts,
	"PHASES":   completePhases,
	"SHELL": func(context.Context, *env, *flags) ([]string, error) {
		return []string{"bash", "zsh", "fish", "powershell"}, nil
	},
}

// complete tells cobra what completes the arguments and the flags of a command.
func (e *env) complete(to *cobra.Command, c *command, f *flags) {
	kind := strings.Trim(c.args, "[].")
	to.ValidArgsFunction = func(x *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		switch {
		case strings.HasPrefix(c.args, "FILE"), c.args == "OLD NEW":
			return nil, cobra.ShellCompDirectiveDefault
		case c.max >= 0 && len(args) >= c.max:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return e.offer(x.Context(), kind, f, word)
	}
	f.VisitAll(func(x *flag.Flag) {
		name := x.Name
		_ = to.RegisterFlagCompletionFunc(name, // it fails for a flag that the command has not, or has already
			func(x *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
				if values := f.choices[name]; len(values) > 0 {
					return values, cobra.ShellCompDirectiveNoFileComp
				}
				return e.offer(x.Context(), f.kinds[name], f, word)
			})
	})
}

// offer is what there is of a kind; of a list with commas what may come next.
func (e *env) offer(ctx context.Context, kind string, f *flags, word string) ([]string, cobra.ShellCompDirective) {
	if kind == "FILE" {
		return nil, cobra.ShellCompDirectiveDefault
	}
	after := cobra.ShellCompDirectiveNoFileComp
	if kind == "POLICY" && strings.ContainsAny(word, `/\.`) {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ask := completers[kind]
	if ask == nil {
		return nil, after
	}
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	names, err := ask(ctx, e, f)
	if err != nil {
		return nil, after
	}
	if i := strings.LastIndexByte(word, ','); kind == "PHASES" && i >= 0 {
		for j := range names {
			names[j] = word[:i+1] + names[j]
		}
	}
	return names, after
}

// completeIDs are the newest rollouts: for an order those that have not ended.
func completeIDs(ctx context.Context, e *env, f *flags) ([]string, error) {
	filter := view.Filter{Limit: completeMost}
	if f.reads == nil && !f.ended {
		filter.Phases = []string{view.PhaseOpen}
	}
	r, done, err := f.reader().open(e)
	if err != nil {
		return nil, err
	}
	defer func() { _ = done() }() // a store that was only read
	var out []string
	for x, err := range r.Rollouts(ctx, filter) {
		if err != nil {
			return out, err
		}
		out = append(out, x.ID+"\t"+safe(x.Endpoint.Name+" "+x.Candidate+" "+x.Version+", "+string(x.Phase)))
	}
	return out, nil
}

func completeEndpoints(ctx context.Context, e *env, f *flags) ([]string, error) {
	return completed(ctx, e, f, (*api.Client).Endpoints, func(l api.EndpointList) (out []string) {
		for _, x := range l.Endpoints {
			out = append(out, safe(x.Router+"/"+x.Name))
		}
		return out
	})
}

func completePolicies(ctx context.Context, e *env, f *flags) ([]string, error) {
	return completed(ctx, e, f, (*api.Client).Policies, func(l api.PolicyList) (out []string) {
		for _, x := range l.Policies {
			out = append(out, safe(x.Name)+"\t"+safe(x.Endpoint.Name+", "+x.Owner))
		}
		return out
	})
}

func completeTriggers(ctx context.Context, e *env, f *flags) ([]string, error) {
	return completed(ctx, e, f, (*api.Client).Triggers, func(l api.TriggerList) (out []string) {
		for _, x := range l.Triggers {
			out = append(out, safe(x.Name))
		}
		return out
	})
}

// completed asks belayd for a list and takes the names out of it.
func completed[L any](
	ctx context.Context, e *env, f *flags, ask func(*api.Client, context.Context) (L, error), names func(L) []string,
) ([]string, error) {
	c, err := f.conn.client(e)
	if err != nil {
		return nil, err
	}
	l, err := ask(c, ctx)
	if err != nil {
		return nil, err
	}
	return names(l), nil
}

func completePhases(context.Context, *env, *flags) ([]string, error) {
	out := []string{"open"}
	for _, p := range rollout.Phases {
		out = append(out, string(p))
	}
	return out, nil
}

func completeContexts(_ context.Context, e *env, _ *flags) ([]string, error) {
	all, err := e.readContexts()
	return slices.Sorted(maps.Keys(all.Contexts)), err
}
