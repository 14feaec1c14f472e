package notifier_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/notifier"
)

// TestStatusError is the retry table: what each answer means for the outbox.
func TestStatusError(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, test := range []struct {
		status     int
		retryAfter string
		want       string
	}{
		{200, "", "ok"}, {202, "", "ok"}, {204, "", "ok"},
		{301, "", "permanent"}, {308, "", "permanent"},
		{400, "", "permanent"}, {401, "", "permanent"}, {403, "", "permanent"}, {404, "", "permanent"}, {410, "", "permanent"}, {413, "", "permanent"},
		{408, "", "passing"}, {425, "", "passing"}, {429, "", "passing"},
		{429, "30", "after 30s"}, {429, " 30 ", "after 30s"}, {429, "0", "after 0s"}, {429, "-1", "passing"}, {429, "soon", "passing"},
		{429, "3601", "after 1h0m0s"}, {429, "18446744073709551615", "passing"},
		{429, date(2 * time.Minute), "after 2m0s"}, {429, date(-time.Minute), "after 0s"}, {429, date(48 * time.Hour), "after 1h0m0s"},
		{500, "", "passing"}, {500, "30", "passing"}, {501, "", "permanent"}, {502, "", "passing"}, {503, "", "passing"}, {503, "5", "after 5s"},
		{504, "", "passing"}, {505, "", "permanent"}, {599, "", "passing"},
	} {
		h := http.Header{}
		if test.retryAfter != "" {
			h.Set("Retry-After", test.retryAfter)
		}
		err := notifier.StatusError(test.status, h, now)
		got := "passing"
		var retry *notifier.RetryError
		switch {
		case err == nil:
			got = "ok"
		case errors.Is(err, notifier.ErrPermanent):
			got = "permanent"
		case errors.As(err, &retry):
			got = fmt.Sprintf("after %s", retry.After)
		}
		if got != test.want {
			t.Errorf("StatusError(%d, Retry-After %q): got %s (%v), want %s", test.status, test.retryAfter, got, err, test.want)
		}
	}
}

// TestRedact tells of a library that puts a token into its errors: the text goes,
// what the error means stays.
func TestRedact(t *testing.T) {
	const secret = "xoxb-canary/1"
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"nothing", nil, "<nil>"},
		{"no secret", errors.New("dial: refused"), "dial: refused"},
		{"in the text", fmt.Errorf("post %s: %w", secret, notifier.ErrPermanent), "post [redacted]: notifier: permanent"},
		{"escaped", errors.New("GET /x?token=xoxb-canary%2F1"), "GET /x?token=[redacted]"},
		{"deep", fmt.Errorf("a: %w", fmt.Errorf("b %s: %w", secret, context.Canceled)), "a: b [redacted]: context canceled"},
	} {
		got := notifier.Redact(test.err, secret, "", "abc")
		if text := fmt.Sprint(got); text != test.want {
			t.Errorf("Redact(%s): got %q, want %q", test.name, text, test.want)
		}
		for _, sentinel := range []error{notifier.ErrPermanent, context.Canceled} {
			if errors.Is(got, sentinel) != errors.Is(test.err, sentinel) {
				t.Errorf("Redact(%s): got Is(%v) = %t, want it unchanged", test.name, sentinel, errors.Is(got, sentinel))
			}
		}
	}
	err := notifier.Redact(fmt.Errorf("post: %w", &notifier.RetryError{After: time.Minute, Err: errors.New("slow down, " + secret)}), secret)
	var retry *notifier.RetryError
	if !errors.As(err, &retry) || retry.After != time.Minute || strings.Contains(retry.Error(), secret) {
		t.Errorf("Redact(RetryError): got %v, want one of 1m without the secret", err)
	}
}
