package config

import (
	"crypto/tls"
	"strings"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/alertmanager"
	"github.com/belayd/belay/notifier/email"
	"github.com/belayd/belay/notifier/pagerduty"
	"github.com/belayd/belay/notifier/slack"
	"github.com/belayd/belay/notifier/webhook"
	"github.com/belayd/belay/policies/document"
)

// NotifierConfig is a notifier; exactly one kind.
type NotifierConfig struct {
	Slack        *SlackNotifier        `yaml:"slack" oneof:"notifier" doc:"A Slack app: messages, approvals, commands."`
	PagerDuty    *PagerDutyNotifier    `yaml:"pagerduty" oneof:"notifier" doc:"PagerDuty Events v2."`
	Alertmanager *AlertmanagerNotifier `yaml:"alertmanager" oneof:"notifier" doc:"Prometheus Alertmanager."`
	Email        *EmailNotifier        `yaml:"email" oneof:"notifier" doc:"Mail over SMTP."`
	Webhook      *WebhookNotifier      `yaml:"webhook" oneof:"notifier" doc:"Signed CloudEvents over HTTP."`
	Teams        *ChannelNotifier      `yaml:"teams" oneof:"notifier" doc:"A Microsoft Teams channel, by the address of a workflow or an incoming webhook."`
	Discord      *ChannelNotifier      `yaml:"discord" oneof:"notifier" doc:"A Discord channel, by the address of its webhook."`
	SNS          *SNSNotifier          `yaml:"sns" oneof:"notifier" doc:"An Amazon SNS topic."`
}

// Hook is the path at which the notifier hears answers over HTTP; "" when it
// hears none there.
func (c NotifierConfig) Hook() string {
	if c.Slack != nil && c.Slack.SigningSecretFile != "" {
		return "/hooks/slack"
	}
	if c.PagerDuty != nil && c.PagerDuty.WebhookSecretFile != "" {
		return "/hooks/pagerduty"
	}
	return ""
}

// roles are what everybody may do whom the notifier hears and vouches for.
func (c NotifierConfig) roles() []string {
	switch {
	case c.Slack != nil:
		return c.Slack.Roles
	case c.PagerDuty != nil:
		return c.PagerDuty.Roles
	}
	return nil
}

// TestShows says where somebody who sent a test looks for it.
func (c NotifierConfig) TestShows() string {
	switch {
	case c.Slack != nil && c.Slack.PageMention == "":
		return "a message [Test] in the channel of pages; it mentions nobody, as a page does: set pageMention to call people"
	case c.Slack != nil:
		return "a message [Test] in the channel of pages that mentions whom a page mentions"
	case c.PagerDuty != nil:
		return "an incident [TEST] of severity critical on the phone of whoever is on call"
	case c.Alertmanager != nil:
		return "a notification of the alert BelayPage with severity=critical and test=true, where its route sends " +
			"pages; it comes after the route's group_wait"
	case c.Email != nil:
		return "a mail [Belay TEST] of high importance in every receiver's inbox"
	case c.Webhook != nil:
		return "an event of type belay.notice.test at the receiver, and what it makes of it"
	case c.Teams != nil, c.Discord != nil:
		return "a message [Belay TEST] in the channel"
	case c.SNS != nil:
		return "a message [Belay TEST] at the topic's subscribers"
	}
	return ""
}

// SlackNotifier is a Slack app in one workspace.
type SlackNotifier struct {
	slack.Config

	BotTokenFile      string       `yaml:"botTokenFile" required:"true" doc:"File with the bot token (xoxb-)."`
	AppTokenFile      string       `yaml:"appTokenFile" doc:"File with the app token (xapp-) for Socket Mode."`
	SigningSecretFile string       `yaml:"signingSecretFile" doc:"File with the signing secret, for POST /hooks/slack where Socket Mode is not used."`
	Roles             []string     `yaml:"roles" default:"[view]" doc:"What every full member of the workspace may do by /belay and buttons: view by default, [] nothing, start also rolling back. More comes from people and from an approval's from."`
	HTTP              document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// PagerDutyNotifier pages.
type PagerDutyNotifier struct {
	pagerduty.Config

	RoutingKeyFile    string       `yaml:"routingKeyFile" required:"true" doc:"File with the integration key."`
	WebhookSecretFile string       `yaml:"webhookSecretFile" doc:"File with the secret of a V3 webhook subscription to POST /hooks/pagerduty: whoever acknowledges an incident acknowledges the page."`
	Roles             []string     `yaml:"roles" default:"[operate]" doc:"What everybody may do who acknowledges an incident there; nothing but acknowledging is heard. [] leaves it to people and to an approval's from."`
	HTTP              document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// AlertmanagerNotifier raises alerts.
type AlertmanagerNotifier struct {
	alertmanager.Config

	HTTP document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// EmailNotifier mails.
type EmailNotifier struct {
	email.Config

	PasswordFile string `yaml:"passwordFile" doc:"File with the user's password."`
	CAFile       string `yaml:"caFile" doc:"Certificates that the server's must be signed by, PEM; those of the system when missing."`
}

// WebhookNotifier posts signed events.
type WebhookNotifier struct {
	webhook.Config

	SecretFile string       `yaml:"secretFile" required:"true" doc:"File with the signing secret."`
	HTTP       document.Raw `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// notifiers is the list of the notifiers there are.
var notifiers = []adapter[NotifierConfig, Notifier]{
	{"slack", func(c NotifierConfig) bool { return c.Slack != nil }, buildSlack},
	{"pagerduty", func(c NotifierConfig) bool { return c.PagerDuty != nil }, buildPagerDuty},
	{"alertmanager", func(c NotifierConfig) bool { return c.Alertmanager != nil }, buildAlertmanager},
	{"email", func(c NotifierConfig) bool { return c.Email != nil }, onlyNotifier(buildEmail)},
	{"webhook", func(c NotifierConfig) bool { return c.Webhook != nil }, onlyNotifier(buildWebhookNotifier)},
	{"teams", func(c NotifierConfig) bool { return c.Teams != nil }, onlyNotifier(buildTeams)},
	{"discord", func(c NotifierConfig) bool { return c.Discord != nil }, onlyNotifier(buildDiscord)},
	{"sns", func(c NotifierConfig) bool { return c.SNS != nil }, onlyNotifier(buildSNS)},
}

func buildSlack(b *Builder, field string, c NotifierConfig) (Notifier, error) {
	s := c.Slack
	bot, err := b.secret(field+".botTokenFile", s.BotTokenFile)
	if err != nil {
		return Notifier{}, err
	}
	app, err := b.optional(field+".appTokenFile", s.AppTokenFile)
	if err != nil {
		return Notifier{}, err
	}
	signing, err := b.optional(field+".signingSecretFile", s.SigningSecretFile)
	if err != nil {
		return Notifier{}, err
	}
	cl, err := b.client(field+".http", s.HTTP)
	if err != nil {
		return Notifier{}, err
	}
	server := strings.TrimRight(b.config.ExternalURL, "/")
	b.read["externalURL"] = server // one made for another is another
	own := s.Config
	own.BotToken, own.AppToken, own.SigningSecret = bot.Reveal(), app.Reveal(), signing.Reveal()
	own.Server, own.Client, own.Log = server, cl, b.log
	n, err := slack.New(own)
	if err != nil {
		return Notifier{}, err
	}
	return Notifier{Notifier: n, Inbox: n, Hook: n}, nil
}

func buildPagerDuty(b *Builder, field string, c NotifierConfig) (Notifier, error) {
	key, err := b.secret(field+".routingKeyFile", c.PagerDuty.RoutingKeyFile)
	if err != nil {
		return Notifier{}, err
	}
	secret, err := b.optional(field+".webhookSecretFile", c.PagerDuty.WebhookSecretFile)
	if err != nil {
		return Notifier{}, err
	}
	cl, err := b.client(field+".http", c.PagerDuty.HTTP)
	if err != nil {
		return Notifier{}, err
	}
	own := c.PagerDuty.Config
	own.RoutingKey, own.WebhookSecret, own.Client, own.Log = key.Reveal(), secret.Reveal(), cl, b.log
	n, err := pagerduty.New(own)
	if err != nil {
		return Notifier{}, err
	}
	return Notifier{Notifier: n, Inbox: n, Hook: n}, nil
}

func buildAlertmanager(b *Builder, field string, c NotifierConfig) (Notifier, error) {
	cl, err := b.client(field+".http", c.Alertmanager.HTTP)
	if err != nil {
		return Notifier{}, err
	}
	own := c.Alertmanager.Config
	own.Client, own.Log = cl, b.log
	n, err := alertmanager.New(own)
	if err != nil {
		return Notifier{}, err
	}
	return Notifier{Notifier: n, Refresh: n.Run}, nil
}

func buildEmail(b *Builder, field string, c NotifierConfig) (notifier.Notifier, error) {
	e := c.Email
	password, err := b.optional(field+".passwordFile", e.PasswordFile)
	if err != nil {
		return nil, err
	}
	own := e.Config
	own.Password = password.Reveal()
	if e.CAFile != "" {
		roots, err := b.roots(field+".caFile", e.CAFile)
		if err != nil {
			return nil, err
		}
		own.TLSConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return email.New(own)
}

func buildWebhookNotifier(b *Builder, field string, c NotifierConfig) (notifier.Notifier, error) {
	secret, err := b.secret(field+".secretFile", c.Webhook.SecretFile)
	if err != nil {
		return nil, err
	}
	cl, err := b.client(field+".http", c.Webhook.HTTP)
	if err != nil {
		return nil, err
	}
	own := c.Webhook.Config
	own.Secret, own.Client = secret.Reveal(), cl
	return webhook.New(own)
}

// Notifiers makes the notifiers.
func (b *Builder) Notifiers() (map[string]Notifier, error) {
	return build(b, "notifiers", notifiers, b.config.Notifiers)
}
