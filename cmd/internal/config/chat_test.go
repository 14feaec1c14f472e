package config

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belayd/belay/notifier"
)

// TestChannels builds the notifiers of channels as belayd does, from a file, and sends a
// message through each: to the address in its file, or signed as Amazon wants it.
func TestChannels(t *testing.T) {
	got := map[string]*http.Request{}
	body := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got[r.URL.Path], body[r.URL.Path] = r, string(b)
	}))
	defer server.Close()

	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("teams", server.URL+"/teams?sig=cAnAry\n")
	write("discord", server.URL+"/discord\n")
	write("aws", `{"Version": 1, "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "cAnAry-aws-secret"}`)
	file := write("belayd.yaml", fmt.Sprintf(`policies: ["*.policy.yaml"]
store: {bolt: {path: belay.db}}
notifiers:
  team: {teams: {urlFile: teams}}
  fun: {discord: {urlFile: discord, templates: {page-subject: "P1 {{.Rollout.Endpoint}}"}}}
  topic: {sns: {topic: "arn:aws:sns:eu-west-1:123456789012:releases", credentialsFile: aws, url: %q}}
`, server.URL+"/sns"))
	c, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	all, err := NewBuilder(c, slog.New(slog.DiscardHandler)).Notifiers()
	if err != nil {
		t.Fatal(err)
	}

	for name, n := range all {
		notice := notifier.Notice{Key: "k", Delivery: "k/1", Topic: notifier.TopicPage, Summary: "recs is rolled back", Rollout: notifier.Rollout{Endpoint: "recs"}}
		if _, err := n.Notify(t.Context(), notice); err != nil {
			t.Errorf("%s: got %v, want no error", name, err)
		}
	}
	for path, want := range map[string]string{
		"/teams": `"text":"[Belay PAGE] recs is rolled back"`, "/discord": `"title":"P1 recs"`, "/sns": "Action=Publish",
	} {
		if !strings.Contains(body[path], want) {
			t.Errorf("%s: got %q, want %q in it", path, body[path], want)
		}
	}
	if r := got["/sns"]; r == nil || !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/sns/aws4_request") {
		t.Errorf("sns: got %+v, want a request that is signed for sns in eu-west-1", r)
	}
}
