package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/belayd/belay/analysis"
	"github.com/belayd/belay/analysis/prometheus"
	"github.com/belayd/belay/cmd/internal/config"
	"github.com/belayd/belay/cmd/internal/probe"
	"github.com/belayd/belay/policies/forecast"
	"github.com/belayd/belay/policies/policytest"
)

func planCommand() *command {
	return &command{
		name: "plan", args: "FILE", short: "Say what a rollout would be: steps, times, gates, and what can be " +
			"detected by when. Changes nothing.", min: 1, max: 1,
		long: "With --config the policy's own router and sources are asked: who serves, the candidate's capacity, " +
			"the command\n" +
			"that rolls back by hand, the load of the last minutes, and stable's failure rates and latencies of the last\n" +
			"hour. What they do not tell is assumed, and said; --offline asks nobody. --rps then scales what was " +
			"read. The\n" +
			"preflight checks are made as they would turn out now, but for those that send the candidate a request.\n" +
			"--source names another Prometheus to ask instead, and needs --stable where no router says who serves.",
		examples: []string{
			"belay plan recs.yaml --candidate green --config belayd.yaml",
			"belay plan recs.yaml --candidate green --rps 200",
			"belay plan recs.yaml --candidate green --source http://127.0.0.1:9090 --stable blue",
		},
		setup: func(f *flags) run {
			config := f.policyConfig()
			candidate := f.String("candidate", "candidate", "the deployment `NAME` that would be released")
			rps := f.Float64("rps", 0, "the endpoint's load in requests per second, `N`")
			source := f.String("source", "", "`URL` of a Prometheus to read the load and stable's figures from")
			stable := f.String("stable", "", "the deployment `NAME` that serves now (default: as the router tells)")
			offline := f.Bool("offline", false, "ask no router and no source")
			past := f.Duration("past", time.Hour, "how far back to read, `D`")
			start := f.String("start", "", "when the release would come, `TIME` in RFC 3339 (default: now)")
			instances := f.Int("instances", 0, "the candidate's instances, `N`, to compare its capacity")
			concurrency := f.Int("concurrency", 0, "requests that each instance takes at a time, `N` (default: as "+
				"the router tells, else 1)")
			output := f.choice("output", "how to print", "table", "json", "yaml")
			return func(ctx context.Context, e *env, args []string) error {
				if *rps < 0 || *instances < 0 || *concurrency < 0 || *past <= 0 {
					return usageError("--rps, --instances, --concurrency and --past: want more than 0")
				}
				p, plan, err := e.compiled(args[0], *config, *candidate)
				if err != nil {
					return err
				}
				facts := forecast.Inputs{Start: e.now().Truncate(time.Second), PerSecond: *rps, Instances: *instances,
					Concurrency: *concurrency, Rollback: rollbackHint}
				if *start != "" {
					if facts.Start, err = time.Parse(time.RFC3339, *start); err != nil {
						return usageError("--start: want a time like 2026-11-24T10:00:00Z (got %q)", *start)
					}
				}
				look := &planner{plan: plan, facts: &facts, stable: *stable, past: *past}
				if *source != "" {
					if look.source, err = recorder(*source); err != nil {
						return err
					}
				}
				switch {
				case *offline:
				case *config != "":
					e.fromConfig(ctx, look, *config)
				case *source != "":
					if err := e.fromSource(ctx, look); err != nil {
						return err
					}
				}
				return e.printForecast(forecast.New(p, plan, facts), *output)
			}
		},
	}
}

// rollbackHint is how a rollout is taken back; the router's own command needs
// the router and stands in what belayd shows of a rollout.
const rollbackHint = "belay rollback ID --reason WHY      (without belayd: the command that `belay status ID` and " +
	"every page show)"

func (e *env) printForecast(o forecast.Forecast, output string) error {
	v := struct {
		SchemaVersion int `json:"schemaVersion"`
		forecast.Forecast
	}{1, o}
	switch output {
	case "json":
		return printJSON(e.stdout, v)
	case "yaml":
		return printYAML(e.stdout, v)
	}
	return o.Text(e.stdout)
}

// recorder opens the Prometheus that stands for every source of a policy.
func recorder(url string) (func(string) (config.Source, bool), error) {
	s, err := prometheus.New(prometheus.Config{URL: url, Client: &http.Client{Timeout: time.Minute}})
	if err != nil {
		return nil, usageError("--source: %v", err)
	}
	return func(string) (config.Source, bool) { return config.OfPrometheus(s), true }, nil
}

// fromSource asks one Prometheus for everything.
func (e *env) fromSource(ctx context.Context, p *planner) error {
	if p.stable == "" && p.plan.Stable != "auto" {
		p.stable = p.plan.Stable
	}
	if p.stable == "" {
		return usageError("--source needs --stable: whose figures to read")
	}
	return p.askSources(ctx, e)
}

func backtestCommand() *command {
	return &command{
		name: "backtest", args: "FILE", short: "Play a policy against metrics that a Prometheus recorded.", min: 1,
		max: 1,
		long: "With --candidate, two deployments that really ran are compared. Without it, each instance of --stable " +
			"plays the\n" +
			"candidate in turn: every such release was healthy, so every rollback is a false one.\n" +
			"With --config the config's sources are asked, with their credentials: those that the policy names, or " +
			"the one\n" +
			"that --source names.",
		examples: []string{
			"belay backtest recs.yaml --source http://127.0.0.1:9090 --stable blue --from 2026-11-20T00:00:00Z --to " +
				"2026-11-21T00:00:00Z",
			"belay backtest recs.yaml --source http://127.0.0.1:9090 --stable blue --candidate green --from … --to …",
			"belay backtest recs.yaml --config belayd.yaml --stable blue --from … --to …",
		},
		setup: func(f *flags) run {
			config := f.policyConfig()
			source := f.String("source", "", "`URL` of the Prometheus, or with --config the name of a source")
			from := f.String("from", "", "the beginning, `TIME` in RFC 3339")
			to := f.String("to", "", "the end, `TIME` in RFC 3339")
			stable := f.String("stable", "", "the deployment `NAME` that was stable")
			candidate := f.String("candidate", "", "the deployment `NAME` that was the candidate")
			every := f.Duration("every", time.Hour, "how far apart the rollouts begin, `D`")
			output := f.choice("output", "how to print", "table", "json", "yaml")
			return func(ctx context.Context, e *env, args []string) error {
				if *source == "" && *config == "" || *stable == "" {
					return usageError("want --source URL or --config FILE, and --stable NAME")
				}
				span, err := parseSpan(*from, *to)
				if err != nil {
					return err
				}
				return e.backtest(ctx, args[0], *config, *source, *stable, *candidate, span, *every, *output)
			}
		},
	}
}

// recorded finds the sources to read the past from: one Prometheus for all, one of
// the config's for all, or those that the policy names.
func recorded(configFile, from string) (func(string) (config.Source, bool), error) {
	if configFile == "" || strings.Contains(from, "://") {
		return recorder(from)
	}
	a, err := probe.OpenAdapters(configFile)
	if err != nil || from == "" {
		return a.Source, err
	}
	s, ok := a.Source(from)
	if !ok {
		return nil, usageError("--source: %s has no source %q; it has %s", configFile, from,
			strings.Join(slices.Sorted(maps.Keys(a.Sources)), ", "))
	}
	return func(string) (config.Source, bool) { return s, true }, nil
}

func parseSpan(from, to string) (span [2]time.Time, err error) {
	for i, text := range []string{from, to} {
		if span[i], err = time.Parse(time.RFC3339, text); err != nil {
			return span, usageError("want --from and --to as times like 2026-11-20T00:00:00Z (got %q)", text)
		}
	}
	return span, nil
}

func (e *env) backtest(ctx context.Context, file, config, from, stable, candidate string, span [2]time.Time,
	every time.Duration, output string) error {
	mode, played := policytest.BacktestDeployments, candidate
	if candidate == "" {
		mode, played = policytest.BacktestInstances, "belay-backtest"
	}
	p, plan, err := e.compiled(file, config, played)
	if err != nil {
		return err
	}
	source, err := recorded(config, from)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "reading %s of %s from %s\n", plural(len(plan.Panel.Metrics), "metric"), stable,
		cmp.Or(from, "the sources of "+config))
	names := analysis.Names{Endpoint: plan.Endpoint.Name, Stable: stable, Candidate: played}
	plain := func(name string) (analysis.Source, bool) {
		s, ok := source(name)
		return s.Source, ok
	}
	rec, err := policytest.Record(ctx, plain, plan, names, span[0], span[1])
	if err != nil {
		return err
	}
	rep, err := policytest.Backtest(p, plan, rec, mode, every)
	if err != nil {
		return err
	}
	v := struct {
		SchemaVersion int `json:"schemaVersion"`
		policytest.BacktestReport
	}{1, rep}
	switch output {
	case "json":
		return printJSON(e.stdout, v)
	case "yaml":
		return printYAML(e.stdout, v)
	}
	_, err = fmt.Fprint(e.stdout, rep.Text())
	return err
}
