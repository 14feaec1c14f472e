package slack

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/slack-go/slack"

	"github.com/belayd/belay/notifier"
)

// maxAnswer bounds what is read of one of Slack's answers.
const maxAnswer = 8 << 20

// A doer makes the library's HTTP calls, keeps to the retry table of package
// notifier, which the library does only in part, and bounds the answers.
type doer struct{ client *http.Client }

// Do makes one call.
func (d doer) Do(req *http.Request) (*http.Response, error) {
	// The address is an operator's, and the given client guards where it leads.
	resp, err := d.client.Do(req) //nolint:gosec // see above
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return nil, err
	}
	if err := notifier.StatusError(resp.StatusCode, resp.Header, time.Now()); err != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
		_ = resp.Body.Close()
		return nil, err
	}
	resp.Body = body{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

type body struct {
	io.Reader
	io.Closer
}

// passing are the refusals of Slack that time may mend; all others will not pass.
var passing = []string{
	"accesslimited", "fatal_error", "internal_error", "ratelimited", "rate_limited", "request_timeout",
	"service_unavailable", "team_added_to_org",
}

// classify says what an error means for the outbox and takes the tokens out of it.
func (c *Client) classify(err error) error {
	if err == nil {
		return nil
	}
	if limited, ok := errors.AsType[*slack.RateLimitedError](err); ok {
		err = &notifier.RetryError{After: min(max(limited.RetryAfter, 0), notifier.MaxRetryAfter), Err: err}
	} else if code, ok := refusal(err); ok && !slices.Contains(passing, code) {
		err = fmt.Errorf("%w: %w%s", notifier.ErrPermanent, err, remedy(code))
	}
	return notifier.Redact(err, c.config.BotToken, c.config.AppToken, c.config.SigningSecret)
}

// refusal is the code of an answer that says no.
func refusal(err error) (string, bool) {
	if r, ok := errors.AsType[slack.SlackErrorResponse](err); ok {
		return r.Err, true
	}
	return "", false
}

// isRefusal reports whether Slack has answered and would answer the same again.
func isRefusal(err error) bool {
	code, ok := refusal(err)
	return ok && !slices.Contains(passing, code)
}

// gone reports whether a message is no longer there to be updated.
func gone(err error) bool {
	code, _ := refusal(err)
	return slices.Contains([]string{"message_not_found", "cant_update_message", "edit_window_closed",
		"thread_not_found"}, code)
}

// remedy tells an operator what to do about a refusal.
func remedy(code string) string {
	switch code {
	case "not_in_channel":
		return "; invite the app to the channel, or give it the scope chat:write.public"
	case "channel_not_found":
		return "; check the channel's name, and invite the app if the channel is private"
	case "missing_scope", "no_permission":
		return "; give the app the missing scope and install it again"
	case "invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive":
		return "; put a valid bot token into the configuration"
	case "is_archived":
		return "; the channel is archived"
	}
	return ""
}
