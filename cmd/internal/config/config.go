// Package config is belayd's config file: what it says, what is wrong with it, and the
// adapters that it leads to.
//
// The rules of the package:
//   - table.go is the list of adapters, a table a kind; nothing else names them.
//   - What adapters share (HTTP clients, secrets) is built here and handed in.
//   - A config that was read is never changed; nothing here runs or connects.
//   - No secret stands in an error, nor does what a file that may hold one says.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belayd/belay/cmd/internal/folder"
	"github.com/belayd/belay/cmd/internal/secret"
	"github.com/belayd/belay/policies"
	"github.com/belayd/belay/policies/document"
	"github.com/belayd/belay/rollout/trigger"
)

// Config is belayd's config file (YAML, read as strictly as policies). Secrets
// stand in it only as the names of files or of environment variables.
type Config struct {
	Listen      string                     `yaml:"listen" default:"127.0.0.1:7070" doc:"Address of the HTTP API. Without auth it must be loopback."`
	Socket      string                     `yaml:"socket" doc:"Unix socket of the same API for this machine's administrator (mode 0600), and of backups; the store's name with .ctl when missing."`
	ExternalURL string                     `yaml:"externalURL" doc:"Where people reach this belayd, for links in messages."`
	Store       StoreConfig                `yaml:"store" required:"true" doc:"Where the records are kept."`
	Policies    []string                   `yaml:"policies" required:"true" doc:"Policy files, with * in file names; relative to the config file."`
	Sources     map[string]SourceConfig    `yaml:"sources" doc:"Sources of metrics, by name."`
	Routers     map[string]RouterConfig    `yaml:"routers" doc:"Routers that move traffic, by name."`
	Notifiers   map[string]NotifierConfig  `yaml:"notifiers" doc:"Notifiers that reach people, by name."`
	Triggers    []TriggerConfig            `yaml:"triggers" doc:"What starts rollouts besides the API."`
	Events      *EventsConfig              `yaml:"events" doc:"Where lifecycle events go."`
	Auth        AuthConfig                 `yaml:"auth" doc:"Who may do what. Without it belayd listens on loopback only and everybody there is one person called local."`
	People      []PersonConfig             `yaml:"people" doc:"Which names are one person."`
	Tell        []string                   `yaml:"tell" doc:"Notifiers that are told what belongs to no rollout: a release event that was refused."`
	Metrics     map[string]policies.Metric `yaml:"metrics" doc:"Metric definitions that all policies share."`
	Retention   time.Duration              `yaml:"retention" default:"2160h" doc:"How long finished rollouts are kept."`
	Queue       int                        `yaml:"queue" default:"100" doc:"How many releases may wait for one endpoint; one more is refused."`
	Replica     string                     `yaml:"replica" doc:"This replica's name in the journal; the host's name when missing."`

	// File is the file, look what it looked like before it was read; dir is its
	// folder: relative names are relative to it.
	File, look, dir string
	// text is what the file says.
	text []byte
}

// SchemaID is the identity of the JSON Schema of the config.
const SchemaID = "https://belay.example/schemas/belayd.schema.json"

// Schema returns the JSON Schema (2020-12) of the config, for completion and hover
// text in editors.
func Schema() []byte {
	return document.SchemaOf(reflect.TypeFor[Config](), SchemaID, "belayd's config")
}

// PersonConfig says which names are one person.
type PersonConfig struct {
	ID        string   `yaml:"id" required:"true" doc:"The person's name in the journal."`
	Slack     string   `yaml:"slack" doc:"Slack user id."`
	PagerDuty string   `yaml:"pagerduty" doc:"PagerDuty user id (P…)."`
	OIDC      string   `yaml:"oidc" doc:"OIDC subject."`
	Token     string   `yaml:"token" doc:"Name of the person's token."`
	MTLS      string   `yaml:"mtls" doc:"Name of the person's client certificate."`
	Groups    []string `yaml:"groups" doc:"Groups that approvals may name."`
	// Roles and Labels are for those who come without a credential that has roles.
	Roles  []string          `yaml:"roles" doc:"What the person may do through a notifier, besides what their credentials give: view, start, approve, operate, admin. Whom an approval names may answer it there without a role."`
	Labels map[string]string `yaml:"labels" doc:"The roles hold only for policies with these labels."`
}

// TriggerConfig is one thing that starts rollouts; exactly one kind.
type TriggerConfig struct {
	Name string            `yaml:"name" doc:"Its name in records, which keys of plain JSON events begin with; nats:STREAM when missing."`
	NATS *NATSTrigger      `yaml:"nats" oneof:"trigger" doc:"Messages on a JetStream stream."`
	Map  map[string]string `yaml:"map" doc:"Where the fields of a release stand in the message: policy, candidate, version, requestedBy, artifact, environment, labels (an object)."`
}

// NATSTrigger is a JetStream consumer.
type NATSTrigger struct {
	trigger.Config
	NATSConfig

	Subject  string   `yaml:"subject" required:"true" doc:"The subject, with wildcards."`
	Subjects []string `yaml:"subjects" doc:"Further subjects."`
}

// NATSConfig is how a NATS server is reached.
type NATSConfig struct {
	URL             string `yaml:"url" required:"true" doc:"Address of the server, or several with commas."`
	CredentialsFile string `yaml:"credentialsFile" doc:"File with a user's JWT and seed."`
	CAFile          string `yaml:"caFile" doc:"Certificates that the server's must be signed by."`
}

// Read reads and checks the config file. The error lists every problem as
// file:line:col.
func Read(file string) (*Config, error) {
	c, fs, err := Load(file)
	if err == nil {
		err = fs.Err()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// An UnusableError is a config with which nothing can be done: it cannot be read,
// is no YAML, or does not say where the store is.
type UnusableError struct{ Err error }

// Error says why.
func (e *UnusableError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UnusableError) Unwrap() error { return e.Err }

// Load reads the config file and what is wrong with it. The error, an
// *UnusableError, says that it cannot be used at all.
func Load(file string) (*Config, Faults, error) {
	look := Fingerprint(file)
	data, _, err := folder.ReadFile(file, document.MaxBytes+1)
	if err != nil {
		return nil, nil, &UnusableError{fmt.Errorf("read config: %w", err)}
	}
	c := &Config{File: file, look: look, dir: filepath.Dir(file), text: data}
	var fs Faults
	if ps := document.Decode(file, data, c); ps.HasErrors() {
		fs.Add(c, &ProblemsError{Problems: ps})
		if len(ps) >= document.MaxProblems {
			// What comes after so many was not read: nobody knows who may do what.
			fs = append(fs, Fault{Err: fmt.Errorf("%s: there are %d problems or more, and what comes after them was not read",
				file, document.MaxProblems)})
		}
	}
	if !c.Store.given() {
		return nil, fs, &UnusableError{fs.Err()}
	}
	fs.Add(c, c.check())
	return c, fs, nil
}

// Located says of every error that begins with the name of a field where that
// stands, as file:line:col, and of any other in which file it is.
func (c *Config) Located(err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // errors.Join's own
		var out []error
		for _, e := range all.Unwrap() {
			out = append(out, c.Located(e))
		}
		return errors.Join(out...)
	}
	field, _, _ := strings.Cut(err.Error(), ": ")
	if line, col, ok := document.Locate(c.text, field); ok {
		return fmt.Errorf("%s:%d:%d: %w", c.File, line, col, err)
	}
	return fmt.Errorf("%s: %w", c.File, err)
}

// A ProblemsError is a file with problems.
type ProblemsError struct{ Problems document.Problems }

// Error lists the problems.
func (e *ProblemsError) Error() string { return strings.TrimRight(e.Problems.Text(), "\n") }

// queueMax bounds the queue of an endpoint: its record holds all of it.
const queueMax = 5000

// check looks at what no single field shows.
func (c *Config) check() error {
	_, err := secret.Survey(c)
	errs := []error{err}
	errs = append(errs, c.checkAuth()...)
	errs = append(errs, c.checkTriggers()...)
	errs = append(errs, c.checkMetrics()...)
	errs = append(errs, c.checkPeople()...)
	if c.Events != nil && c.Events.NATS != nil {
		errs = append(errs, checkNATSAddress("events.nats.url", c.Events.NATS.NATSConfig.URL))
	}
	if c.Queue < 1 || c.Queue > queueMax {
		errs = append(errs, fmt.Errorf("queue: want 1 to %d (got %d)", queueMax, c.Queue))
	}
	for i, name := range c.Tell {
		if _, ok := c.Notifiers[name]; !ok {
			errs = append(errs, fmt.Errorf("tell[%d]: there is no notifier %q", i, name))
		}
	}
	hooked := map[string]string{}
	for _, name := range sortedKeys(c.Notifiers) {
		n := c.Notifiers[name]
		switch first := hooked[n.Hook()]; {
		case n.Hook() == "":
			continue
		case first != "" && n.Slack != nil:
			errs = append(errs, fmt.Errorf("notifiers.%s.slack.signingSecretFile: %s hears /hooks/slack already; use "+
				"Socket Mode (appTokenFile) for one of them", name, first))
		case first != "":
			errs = append(errs, fmt.Errorf("notifiers.%s.pagerduty.webhookSecretFile: %s hears /hooks/pagerduty already; "+
				"one subscription can be for all services that Belay pages", name, first))
		}
		hooked[n.Hook()] = name
	}
	return errors.Join(errs...)
}

var slackID = regexp.MustCompile(`^[UW][A-Z0-9]+$`)

// checkPeople looks for ids that nobody can have.
func (c *Config) checkPeople() []error {
	var errs []error
	for i, p := range c.People {
		if p.Slack != "" && !slackID.MatchString(p.Slack) {
			errs = append(errs, fmt.Errorf("people[%d].slack: no Slack user has the id %q: it begins with U or W, has "+
				"capital letters and digits only, and stands in the profile's menu under Copy member ID", i, p.Slack))
		}
	}
	return errs
}

// checkMetrics looks at the queries of the shared metrics.
func (c *Config) checkMetrics() []error {
	var errs []error
	env := c.Environment()
	for _, name := range sortedKeys(c.Metrics) {
		m := c.Metrics[name]
		kind, known := env.Sources[m.Source]
		if !known {
			errs = append(errs, fmt.Errorf("metrics.%s.source: there is no source %q", name, m.Source))
			continue
		}
		for _, f := range m.QueryFaults(kind, env.Dialects[m.Source]) {
			if !f.Warning {
				errs = append(errs, fmt.Errorf("metrics.%s.%s: %w", name, f.Field, f.Err))
			}
		}
	}
	return errs
}

// checkTriggers looks at what would make two triggers one.
func (c *Config) checkTriggers() []error {
	var errs []error
	names, consumers := map[string]int{}, map[[3]string]int{}
	for i, t := range c.Triggers {
		if t.NATS == nil {
			continue
		}
		errs = append(errs, checkNATSAddress(fmt.Sprintf("triggers[%d].nats.url", i), t.NATS.NATSConfig.URL))
		if first, ok := names[t.RecordName()]; ok {
			errs = append(errs, fmt.Errorf("triggers[%d].name: triggers[%d] is called %s already; give this one a name of "+
				"its own", i, first, t.RecordName()))
			continue
		}
		names[t.RecordName()] = i
		if t.NATS.MaxAge < 0 {
			errs = append(errs, fmt.Errorf("triggers[%d].nats.maxAge: want a duration that is not negative (got %s)", i,
				t.NATS.MaxAge))
		}
		consumer := [3]string{t.NATS.NATSConfig.URL, t.NATS.Stream, t.NATS.Durable}
		if first, ok := consumers[consumer]; ok {
			errs = append(errs, fmt.Errorf("triggers[%d].nats.durable: triggers[%d] consumes %s as %s already; give this "+
				"one a durable name of its own", i, first, t.NATS.Stream, t.NATS.Durable))
			continue
		}
		consumers[consumer] = i
	}
	return errs
}

// RecordName is the trigger's name in records.
func (t TriggerConfig) RecordName() string {
	if t.Name == "" && t.NATS != nil {
		return "nats:" + t.NATS.Stream
	}
	return t.Name
}

// secret reads a secret for a …File field.
func (c *Config) secret(field, ref string) (secret.Value, error) {
	v, err := secret.Read(c.dir, ref)
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	return v, nil
}

// Expand puts the addresses in that the environment holds.
func (c *Config) Expand() error {
	errs := []error{secret.Expand(c)}
	for i, t := range c.Triggers {
		if t.NATS != nil {
			errs = append(errs, checkNATSAddress(fmt.Sprintf("triggers[%d].nats.url", i), t.NATS.NATSConfig.URL))
		}
	}
	if c.Events != nil && c.Events.NATS != nil {
		errs = append(errs, checkNATSAddress("events.nats.url", c.Events.NATS.NATSConfig.URL))
	}
	return errors.Join(errs...)
}

// CheckFiles looks at who may read or write the files that nobody checks who reads
// them: those of sections http: and of NATS, and certificates.
func (c *Config) CheckFiles() error {
	mentions, _ := secret.Survey(c) // what is wrong besides was said when it was read
	var errs []error
	for _, m := range mentions {
		if !m.Section && !strings.Contains(m.Field, ".nats.") {
			if _, err := os.Stat(m.Within(c.dir)); err != nil || !m.Public {
				continue // who reads it says what is wrong
			}
		}
		errs = append(errs, m.Check(c.dir))
	}
	return errors.Join(errs...)
}

// own are the files that are the config's own business: a policy reads none of them.
func (c *Config) own() []string {
	mentions, _ := secret.Survey(c)
	files := []string{c.File, c.StoreFile()}
	for _, m := range mentions {
		files = append(files, m.Within(c.dir))
	}
	return files
}

// Path makes a name of a file relative to the config's folder.
func (c *Config) Path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

// SocketPath is the socket on which a running belayd answers its own machine's
// administrator: its own user, and root. It lies beside the store where the config
// does not say.
func (c *Config) SocketPath() string {
	if c.Socket != "" {
		return c.Path(c.Socket)
	}
	return c.StoreFile() + ".ctl"
}

// NATSOptions are how a NATS server is reached.
func NATSOptions(c *Config, n NATSConfig) []nats.Option {
	var os []nats.Option
	if n.CredentialsFile != "" {
		os = append(os, nats.UserCredentials(c.Path(n.CredentialsFile)))
	}
	if n.CAFile != "" {
		os = append(os, nats.RootCAs(c.Path(n.CAFile)))
	}
	return os
}
