package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/belayd/belay/notifier"
	"github.com/belayd/belay/notifier/webhook"
)

// A receiver checks the signature over the body as it came, then reads the event.
func ExampleVerify() {
	const secret = "at least sixteen bytes"
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "body", http.StatusBadRequest)
			return
		}
		if err := webhook.Verify(r.Header, body, secret, time.Now()); err != nil {
			http.Error(w, "signature", http.StatusUnauthorized)
			return
		}
		var event struct {
			Type string          `json:"type"`
			Data notifier.Notice `json:"data"`
		}
		if err := json.Unmarshal(body, &event); err != nil {
			http.Error(w, "event", http.StatusBadRequest)
			return
		}
		fmt.Println(event.Type, event.Data.Summary)
	}))
	defer receiver.Close()

	hook, err := webhook.New(webhook.Config{URL: receiver.URL, Secret: secret, Client: receiver.Client()})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = hook.Notify(context.Background(), notifier.Notice{
		Key: "rollout/recs/r-7f3a", Delivery: "r-7f3a/12/1", Topic: notifier.TopicPage, Severity: notifier.SeverityCritical,
		Summary: "recs: failures broke its limit on green; rolling back to blue", At: time.Now(),
	})
	fmt.Println(err)
	// Output:
	// belay.notice.page recs: failures broke its limit on green; rolling back to blue
	// <nil>
}
