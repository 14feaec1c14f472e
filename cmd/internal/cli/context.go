package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/belayd/belay/rollout/api"
)

// contexts is the file of contexts: named servers with how to reach them.
type contexts struct {
	Current  string             `yaml:"current,omitempty" json:"current,omitempty"`
	Contexts map[string]aServer `yaml:"contexts" json:"contexts"`
}

// An aServer is one context. It names the files of the token and of the key, never
// what is in them.
type aServer struct {
	Server    string `yaml:"server" json:"server"`
	TokenFile string `yaml:"tokenFile,omitempty" json:"tokenFile,omitempty"`
	CertFile  string `yaml:"certFile,omitempty" json:"certFile,omitempty"`
	KeyFile   string `yaml:"keyFile,omitempty" json:"keyFile,omitempty"`
	CAFile    string `yaml:"caFile,omitempty" json:"caFile,omitempty"`
}

// contextsFile is where the contexts stand.
func (e *env) contextsFile() (string, error) {
	if f := e.getenv("BELAY_CONTEXTS"); f != "" {
		return f, nil
	}
	dir := e.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := e.getenv("HOME")
		if home == "" {
			return "", errors.New("find contexts: neither XDG_CONFIG_HOME nor HOME is set; name the file in " +
				"BELAY_CONTEXTS")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "belay", "contexts.yaml"), nil
}

// readContexts reads the file; one that does not exist holds none.
func (e *env) readContexts() (contexts, error) {
	out := contexts{Contexts: map[string]aServer{}}
	file, err := e.contextsFile()
	if err != nil {
		return out, err
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("read contexts: %w", err)
	}
	defer f.Close()
	d := yaml.NewDecoder(io.LimitReader(f, 1<<20))
	d.KnownFields(true)
	if err := d.Decode(&out); err != nil && !errors.Is(err, io.EOF) {
		return out, fmt.Errorf("read contexts %s: %w", file, err)
	}
	if out.Contexts == nil {
		out.Contexts = map[string]aServer{}
	}
	return out, nil
}

// writeContexts replaces the file whole.
func (e *env) writeContexts(c contexts) error {
	file, err := e.contextsFile()
	if err != nil {
		return err
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".contexts-*")
	if err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	_, err = tmp.Write(b)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("write contexts: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	return nil
}

// chosenContext is the context that a flag or the environment names, else the
// current one, else none. Without either a broken home is no error.
func (e *env) chosenContext(name string) (aServer, error) {
	name = cmp.Or(name, e.getenv("BELAY_CONTEXT"))
	all, err := e.readContexts()
	if err != nil {
		if _, noFile := e.contextsFile(); noFile != nil && name == "" {
			return aServer{}, nil
		}
		return aServer{}, err
	}
	if name == "" {
		name = all.Current
	}
	if name == "" {
		return aServer{}, nil
	}
	c, ok := all.Contexts[name]
	if !ok {
		return aServer{}, fmt.Errorf("context %q: there is none of that name (belay context list)", name)
	}
	return c, nil
}

func contextCommand() *command {
	return &command{
		name: "context", short: "Name servers, so that --server can be left out.",
		sub: []*command{contextList(), contextSet(), contextUse(), contextDelete()},
	}
}

func contextList() *command {
	return &command{
		name: "list", short: "List the contexts; * marks the current one.", examples: []string{"belay context list"},
		setup: func(f *flags) run {
			output := f.choice("output", "how to print", "table", "json", "yaml", "name")
			return func(_ context.Context, e *env, _ []string) error {
				all, err := e.readContexts()
				if err != nil {
					return err
				}
				names := slices.Sorted(maps.Keys(all.Contexts))
				shown := struct {
					SchemaVersion int `json:"schemaVersion"`
					contexts
				}{api.SchemaVersion, all}
				return e.print(*output, shown, func(w io.Writer) error {
					t := &table{}
					t.add("", "NAME", "SERVER", "TOKEN FILE", "CERTIFICATE")
					for _, n := range names {
						mark := ""
						if n == all.Current {
							mark = "*"
						}
						t.add(mark, n, all.Contexts[n].Server, orDash(all.Contexts[n].TokenFile),
							orDash(all.Contexts[n].CertFile))
					}
					return t.print(w)
				}, func(w io.Writer) error {
					for _, n := range names {
						fmt.Fprintln(w, n)
					}
					return nil
				})
			}
		},
	}
}

func contextSet() *command {
	return &command{
		name: "set", args: "NAME", short: "Add a context, or change one.", min: 1, max: 1,
		long: "The first context becomes the current one. Files are kept by their full name.",
		examples: []string{
			"belay context set prod --server https://belay.example --token-file ~/.belay-prod",
			"belay context set prod --server https://belay.example --ca-file ca.pem --cert-file ann.crt --key-file " +
				"ann.key",
		},
		setup: func(f *flags) run {
			server := f.String("server", "", "`URL` of belayd")
			tokenFile := f.file("token-file", "`FILE` that holds a token")
			certFile := f.file("cert-file", "`FILE` of a client certificate, for a belayd with auth.mtls")
			keyFile := f.file("key-file", "`FILE` of its private key, if that is not in --cert-file")
			caFile := f.file("ca-file", "`FILE` of certificates that the server's must be signed by")
			return func(_ context.Context, e *env, args []string) error {
				all, err := e.readContexts()
				if err != nil {
					return err
				}
				c := all.Contexts[args[0]]
				c.Server = cmp.Or(*server, c.Server)
				if c.Server == "" {
					return usageError("--server: a new context needs one")
				}
				if *certFile != "" {
					c.KeyFile = "" // the key of another certificate
				}
				for _, x := range []struct {
					given string
					to    *string
				}{{*tokenFile, &c.TokenFile}, {*certFile, &c.CertFile}, {*keyFile, &c.KeyFile}, {*caFile, &c.CAFile}} {
					if x.given == "" {
						continue
					}
					if *x.to, err = filepath.Abs(x.given); err != nil {
						return err
					}
				}
				if err := (tlsFiles{cert: c.CertFile, key: c.KeyFile}).check(c.Server); err != nil {
					return err
				}
				all.Contexts[args[0]] = c
				all.Current = cmp.Or(all.Current, args[0])
				return e.writeContexts(all)
			}
		},
	}
}

// contextsWith are the contexts, among which there must be one of the name.
func (e *env) contextsWith(name string) (contexts, error) {
	all, err := e.readContexts()
	if _, ok := all.Contexts[name]; err == nil && !ok {
		err = fmt.Errorf("context %q: there is none of that name (belay context list)", name)
	}
	return all, err
}

func contextUse() *command {
	return &command{
		name: "use", args: "CONTEXT", short: "Make a context the current one.", min: 1, max: 1,
		examples: []string{"belay context use prod"},
		setup: func(*flags) run {
			return func(_ context.Context, e *env, args []string) error {
				all, err := e.contextsWith(args[0])
				if err != nil {
					return err
				}
				all.Current = args[0]
				return e.writeContexts(all)
			}
		},
	}
}

func contextDelete() *command {
	return &command{
		name: "delete", args: "CONTEXT", short: "Forget a context.", min: 1, max: 1,
		examples: []string{"belay context delete staging"},
		setup: func(*flags) run {
			return func(_ context.Context, e *env, args []string) error {
				all, err := e.contextsWith(args[0])
				if err != nil {
					return err
				}
				delete(all.Contexts, args[0])
				if all.Current == args[0] {
					all.Current = ""
				}
				return e.writeContexts(all)
			}
		},
	}
}
