package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

func completionCommand() *command {
	return &command{
		name: "completion", args: "bash|zsh|fish", short: "Print a completion script for a shell.", min: 1, max: 1,
		examples: []string{
			"source <(belay completion bash)",
			"belay completion zsh > \"${fpath[1]}/_belay\"",
			"belay completion fish > ~/.config/fish/completions/belay.fish",
		},
		setup: func(*flags) run {
			return func(_ context.Context, e *env, args []string) error {
				script, ok := map[string]func(io.Writer, []*command) error{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[args[0]]
				if !ok {
					return usageError("want bash, zsh or fish (got %q)", args[0])
				}
				return script(e.stdout, commands())
			}
		},
	}
}

// A completed is a command as completion scripts need it.
type completed struct {
	path  string // "audit verify"
	short string
	words []string // of commands below it, or of its only argument
	flags []completedFlag
}

type completedFlag struct {
	name, usage string
	values      []string
	file, bare  bool
}

// completions lists every command, the table's own first.
func completions(path string, table []*command) []completed {
	top := completed{path: path}
	out := []completed{}
	for _, c := range table {
		top.words = append(top.words, c.name)
		at := strings.TrimSpace(path + " " + c.name)
		if c.sub != nil {
			below := completions(at, c.sub)
			below[0].short = c.short
			out = append(out, below...)
			continue
		}
		one := completed{path: at, short: c.short}
		if strings.Contains(c.args, "|") {
			one.words = strings.Split(c.args, "|")
		}
		f := newFlags("belay " + at)
		c.setup(f)
		f.VisitAll(func(x *flag.Flag) {
			_, usage := flag.UnquoteUsage(x)
			one.flags = append(one.flags, completedFlag{name: x.Name, usage: usage, values: f.choices[x.Name], file: f.files[x.Name], bare: isBool(x)})
		})
		out = append(out, one)
	}
	return append([]completed{top}, out...)
}

// bashScript prints a completion for bash 4 and later.
func bashScript(w io.Writer, table []*command) error {
	var b strings.Builder
	b.WriteString("# bash completion for belay\n_belay() {\n  local cur prev at w\n  cur=${COMP_WORDS[COMP_CWORD]}\n  prev=${COMP_WORDS[COMP_CWORD-1]}\n  at=\n")
	all := completions("", table)
	b.WriteString("  for w in \"${COMP_WORDS[@]:1:$((COMP_CWORD-1))}\"; do\n    case \"${at:+$at }$w\" in\n")
	var paths []string
	for _, c := range all[1:] {
		paths = append(paths, "\""+c.path+"\"")
	}
	fmt.Fprintf(&b, "      %s) at=\"${at:+$at }$w\" ;;\n    esac\n  done\n", strings.Join(paths, "|"))
	b.WriteString("  case \"$at:$prev\" in\n")
	for _, c := range all {
		for _, f := range c.flags {
			switch {
			case f.file:
				fmt.Fprintf(&b, "    %q) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", c.path+":--"+f.name)
			case len(f.values) > 0:
				fmt.Fprintf(&b, "    %q) COMPREPLY=($(compgen -W %q -- \"$cur\")); return ;;\n", c.path+":--"+f.name, strings.Join(f.values, " "))
			case !f.bare:
				fmt.Fprintf(&b, "    %q) return ;;\n", c.path+":--"+f.name)
			}
		}
	}
	b.WriteString("  esac\n  case \"$at\" in\n")
	for _, c := range all {
		words := slices.Clone(c.words)
		for _, f := range c.flags {
			words = append(words, "--"+f.name)
		}
		fmt.Fprintf(&b, "    %q) COMPREPLY=($(compgen -W %q -- \"$cur\")) ;;\n", c.path, strings.Join(words, " "))
	}
	b.WriteString("  esac\n}\ncomplete -F _belay belay\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// zshScript prints a completion for zsh: that of bash, by zsh's own adapter, so
// that both are one. It is sourced, or found in fpath as _belay; then its first
// run is a completion itself.
func zshScript(w io.Writer, table []*command) error {
	if _, err := io.WriteString(w, "#compdef belay\nautoload -U +X bashcompinit && bashcompinit\n"); err != nil {
		return err
	}
	if err := bashScript(w, table); err != nil {
		return err
	}
	_, err := io.WriteString(w, "[[ $funcstack[1] = _belay ]] && _bash_complete -F _belay\ntrue\n")
	return err
}

// fishScript prints a completion for fish.
func fishScript(w io.Writer, table []*command) error {
	var b strings.Builder
	all := completions("", table)
	short := map[string]string{}
	var paths []string
	for _, c := range all {
		short[c.path] = c.short
		if c.path != "" {
			paths = append(paths, quoted(c.path))
		}
	}
	// The words before the cursor that are a command, as the command line finds it.
	fmt.Fprintf(&b, `# fish completion for belay
complete -c belay -f
function __belay_at
  set -l path
  for w in (commandline -opc)[2..-1]
    set -l longer (string trim -- "$path $w")
    contains -- "$longer" %s
    and set path "$longer"
  end
  test "$path" = "$argv"
end
`, strings.Join(paths, " "))
	for _, c := range all {
		seen := strings.TrimSpace("__belay_at " + c.path)
		for _, word := range c.words {
			at := strings.TrimSpace(c.path + " " + word)
			fmt.Fprintf(&b, "complete -c belay -n %s -a %s -d %s\n", quoted(seen), word, quoted(short[at]))
		}
		for _, f := range c.flags {
			line := fmt.Sprintf("complete -c belay -n %s -l %s -d %s", quoted(seen), f.name, quoted(f.usage))
			switch {
			case f.file:
				line += " -r -F"
			case len(f.values) > 0:
				line += " -x -a " + quoted(strings.Join(f.values, " "))
			case !f.bare:
				line += " -x"
			}
			b.WriteString(line + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// quoted is s in single quotes, as shells read it.
func quoted(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`) + "'"
}
