package config

import (
	"cmp"
	"strings"

	"github.com/belayd/belay/cmd/internal/aws"
	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/chat"
	"github.com/belayd/belay/policies/document"
)

// ChannelNotifier posts plain messages to a channel whose address is a secret.
type ChannelNotifier struct {
	URLFile   string            `yaml:"urlFile" required:"true" doc:"File with the channel's address: whoever has it may post."`
	Templates map[string]string `yaml:"templates" doc:"Texts instead of the built-in ones; their names are those of mail."`
	HTTP      document.Raw      `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

// SNSNotifier publishes plain messages to a topic.
type SNSNotifier struct {
	Topic           string            `yaml:"topic" required:"true" doc:"The topic's ARN; it names the region."`
	CredentialsFile string            `yaml:"credentialsFile" doc:"A file in which somebody else keeps valid credentials, as credential_process prints them; without it those of ECS or EKS Pod Identity, or of the environment."`
	URL             string            `yaml:"url" doc:"The region's endpoint, where it is another than the ARN tells."`
	Templates       map[string]string `yaml:"templates" doc:"Texts instead of the built-in ones; their names are those of mail."`
	HTTP            document.Raw      `yaml:"http" doc:"prometheus/common's HTTPClientConfig."`
}

func buildTeams(b *Builder, field string, c NotifierConfig) (notifier.Notifier, error) {
	return b.channel(field, chat.Teams, c.Teams)
}

func buildDiscord(b *Builder, field string, c NotifierConfig) (notifier.Notifier, error) {
	return b.channel(field, chat.Discord, c.Discord)
}

func (b *Builder) channel(field string, s chat.Service, c *ChannelNotifier) (notifier.Notifier, error) {
	url, err := b.secret(field+".urlFile", c.URLFile)
	if err != nil {
		return nil, err
	}
	cl, err := b.client(field+".http", c.HTTP)
	if err != nil {
		return nil, err
	}
	return chat.New(chat.Config{Service: s, URL: strings.TrimSpace(url.Reveal()), Templates: c.Templates, Client: cl})
}

func buildSNS(b *Builder, field string, c NotifierConfig) (notifier.Notifier, error) {
	n := c.SNS
	cl, err := b.client(field+".http", n.HTTP)
	if err != nil {
		return nil, err
	}
	region := ""
	if parts := strings.Split(n.Topic, ":"); len(parts) == 6 {
		region = parts[3]
	}
	if err := b.sign(field, cl, &aws.Login{Region: region, Service: "sns",
		CredentialsFile: n.CredentialsFile}); err != nil {
		return nil, err
	}
	domain := "amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		domain += ".cn"
	}
	return chat.New(chat.Config{
		Service: chat.SNS, URL: cmp.Or(n.URL,
			"https://sns."+region+"."+domain+"/"), Topic: n.Topic, Templates: n.Templates, Client: cl,
	})
}
