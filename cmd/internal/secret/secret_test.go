package secret

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/belayd/belay/policies/document"
)

const canary = "CANARYc4n4ry"

// raw is what a section http: is kept as.
type raw = document.Raw

// A value never shows, however it is printed.
func TestValue(t *testing.T) {
	v := Value(canary)
	b, err := json.Marshal(map[string]any{"v": v})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
	for _, text := range []string{fmt.Sprint(v), fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, v), string(b), log.String()} {
		if strings.Contains(text, canary) {
			t.Errorf("the secret shows: %s", text)
		}
	}
	if v.Reveal() != canary {
		t.Errorf("Reveal: got %q", v.Reveal())
	}
}

// A secret comes out of a file that its owner and group alone read, or out of the
// environment; whatever is wrong is said without it.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	file("good", " "+canary+"\n", 0o600)
	file("group", canary, 0o440)
	file("world", canary, 0o644)
	file("writable", canary, 0o620)
	file("empty", " \n", 0o600)
	file("large", strings.Repeat("x", fileMax+1), 0o600)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BELAY_TEST_SECRET", canary)
	for _, c := range []struct{ ref, says string }{
		{"good", ""}, {"group", ""}, {"${env:BELAY_TEST_SECRET}", ""}, {filepath.Join(dir, "good"), ""},
		{"", "is missing"}, {"world", "chmod 600 " + filepath.Join(dir, "world")}, {"writable", "mode 0620"}, {"empty", "is empty"},
		{"large", "larger than"}, {"pipe", "no regular file"}, {".", "no regular file"}, {"${env:BELAY_TEST_NOT_SET}", "BELAY_TEST_NOT_SET is not set"},
		{canary, "its name is not shown"}, {"xoxb-" + canary + "/" + canary, "its name is not shown"}, {canary + "\x00", "its name is not shown"},
		{strings.Repeat(canary, 400), "its name is not shown"}, {"gone/file", "its name is not shown"}, {dir + "/gone", dir + "/gone: no such file"},
	} {
		v, err := Read(dir, c.ref)
		switch {
		case c.says == "" && (err != nil || v.Reveal() != canary):
			t.Errorf("%.40q: got %q, %v; want the secret", c.ref, v.Reveal(), err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%.40q: got %v, want an error with %q", c.ref, err, c.says)
		case err != nil && strings.Contains(err.Error(), canary):
			t.Errorf("%.40q: the secret shows: %v", c.ref, err)
		}
	}
}

type adapter struct {
	URL       string              `yaml:"url"`
	TokenFile string              `yaml:"tokenFile"`
	CAFile    string              `yaml:"caFile"`
	StateFile string              `yaml:"stateFile"`
	Targets   map[string][]string `yaml:"targets"`
	HTTP      raw                 `yaml:"http"`
	Count     int                 `yaml:"count"`
	hidden    string
}

type settings struct {
	Adapters map[string]*adapter `yaml:"adapters"`
	List     []adapter           `yaml:"list"`
	None     *adapter            `yaml:"none"`
}

// Files are found wherever they are named, in sections http: too, and a secret that
// stands in the config is refused wherever it stands.
func TestSurvey(t *testing.T) {
	good := settings{
		Adapters: map[string]*adapter{"a": {URL: "https://example.test/x@y", TokenFile: "token", CAFile: "ca", StateFile: "state", HTTP: `
basic_auth: {username: me, password_file: pw}
tls_config: {ca_file: roots, cert_file: cert, key_file: key}
http_headers: {X-Scope-OrgID: {values: [tenant]}, X-Api-Key: {files: [apikey]}}
`}},
		List: []adapter{{TokenFile: "${env:TOKEN}", URL: "${env:URL}", HTTP: "authorization: {credentials: '${env:TOKEN}'}", hidden: "file"}},
	}
	mentions, err := Survey(&good)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range mentions {
		got = append(got, fmt.Sprintf("%s %s %v", m.Field, m.File, m.Public))
	}
	want := []string{
		"adapters.a.tokenFile token false", "adapters.a.caFile ca true", "adapters.a.http.basic_auth.password_file pw false",
		"adapters.a.http.tls_config.ca_file roots true", "adapters.a.http.tls_config.cert_file cert true",
		"adapters.a.http.tls_config.key_file key false", "adapters.a.http.http_headers.X-Api-Key.files[0] apikey false",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got the files\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	for section, field := range map[string]string{
		"basic_auth: {username: u, password: " + canary + "}":                                "basic_auth.password",
		"authorization: {type: Bearer, credentials: " + canary + "}":                         "authorization.credentials",
		"bearer_token: " + canary:                                                            "bearer_token",
		"oauth2: {client_id: i, client_secret: " + canary + ", token_url: 'https://t.test'}": "oauth2.client_secret",
		"oauth2: {client_id: i, client_certificate_key: " + canary + "}":                     "oauth2.client_certificate_key",
		"oauth2: {client_id: i, endpoint_params: {client_assertion: " + canary + "}}":        "oauth2.endpoint_params.client_assertion",
		"oauth2: {client_id: i, token_url: 'https://u:" + canary + "@t.test'}":               "oauth2.token_url",
		"oauth2: {proxy_url: 'http://" + canary + "@p.test'}":                                "oauth2.proxy_url",
		"tls_config: {key: " + canary + "}":                                                  "tls_config.key",
		"oauth2: {tls_config: {key: " + canary + "}}":                                        "oauth2.tls_config.key",
		"proxy_url: 'http://u:" + canary + "%zz@p.test'":                                     "proxy_url",
		"proxy_connect_header: {Proxy-Authorization: [" + canary + "]}":                      "proxy_connect_header.Proxy-Authorization[0]",
		"http_headers: {X-Any: {secrets: [" + canary + "]}}":                                 "http_headers.X-Any.secrets[0]",
		"http_headers: {X-Api-Key: {values: [" + canary + "]}}":                              "http_headers.X-Api-Key.values[0]",
	} {
		_, err := Survey(&settings{List: []adapter{{HTTP: raw(section)}}})
		if err == nil || !strings.HasPrefix(err.Error(), "list[0].http."+field+": ") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v, want it refused at %s without the secret", section, err, field)
		}
	}
	for _, address := range []string{
		"https://user:" + canary + "@h.test", "https://" + canary + "@h.test/p", "nats://a:1,nats://u:" + canary + "@b:2", canary + "@h:4222",
		"https://u:" + canary + "%zz@h.test",
	} {
		_, err := Survey(&settings{List: []adapter{{URL: address}}})
		if err == nil || !strings.HasPrefix(err.Error(), "list[0].url: ") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v, want it refused without the secret", address, err)
		}
	}
	if _, err := Survey(&settings{List: []adapter{{Targets: map[string][]string{"blue": {"http://u:" + canary + "@h.test"}}}}}); err == nil ||
		!strings.HasPrefix(err.Error(), "list[0].targets.blue[0]: ") {
		t.Errorf("a target: got %v, want it refused", err)
	}
}

// What ${env:NAME} stands for is put into sections and addresses, as text whatever
// it looks like.
func TestEnvironment(t *testing.T) {
	t.Setenv("BELAY_TEST_SECRET", `12: "x" # `+canary)
	text, err := Section("x.http", "basic_auth:\n  username: me\n  password: ${env:BELAY_TEST_SECRET}\n")
	if want := `password: "12: \"x\" # ` + canary + `"`; err != nil || !strings.Contains(text, want) {
		t.Errorf("got %q, %v; want %s in it", text, err, want)
	}
	if _, err := Section("x.http", "bearer_token: ${env:BELAY_TEST_NOT_SET}"); err == nil || !strings.HasPrefix(err.Error(), "x.http.bearer_token: ") {
		t.Errorf("a variable that is not set: got %v", err)
	}
	if text, err := Section("x.http", ""); text != "" || err != nil {
		t.Errorf("no section: got %q, %v", text, err)
	}
	d := settings{Adapters: map[string]*adapter{"a": {URL: "${env:BELAY_TEST_SECRET}"}}, List: []adapter{{URL: "${env:BELAY_TEST_NOT_SET}"}, {URL: "http://h"}}}
	if err := Expand(&d); err == nil || err.Error() != "list[0].url: the environment variable BELAY_TEST_NOT_SET is not set" {
		t.Errorf("Expand: got %v, want what is not set", err)
	}
	if !strings.Contains(d.Adapters["a"].URL, canary) || d.List[1].URL != "http://h" {
		t.Errorf("Expand: got %+v", d)
	}
}

// A file whose content is believed may be read by all, and written by its own.
func TestCheckPublic(t *testing.T) {
	dir := t.TempDir()
	for mode, good := range map[fs.FileMode]bool{0o644: true, 0o664: true, 0o666: false, 0o602: false} {
		name := fmt.Sprintf("%o", mode)
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
		err := Mention{Field: "x.caFile", File: name, Public: true}.Check(dir)
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "chmod o-w") {
			t.Errorf("mode %04o: got %v, want good=%v", mode, err, good)
		}
	}
}
