package armtest_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belayd/belay/rollout/traffic/azureml/armtest"
)

const path = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws/onlineEndpoints"

func newServer(t *testing.T) *armtest.Server {
	t.Helper()
	s := &armtest.Server{Subscription: "s", ResourceGroup: "rg", Workspace: "ws", Token: "t"}
	if err := s.SetEndpoint("recs", `{"tags":{"a":"b"},"properties":{"traffic":{"blue":100},"future":{"x":1}}}`); err != nil {
		t.Fatal(err)
	}
	s.SetDeployment("recs", "blue", "ranker/versions/1", 2, 4)
	s.SetDeployment("recs", "green", "ranker/versions/2", 2, 4)
	return s
}

func call(s *armtest.Server, method, target, body string) (int, http.Header, string) {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer t")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Header(), w.Body.String()
}

func put(traffic string) string {
	return `{"location":"westeurope","properties":{"authMode":"Key",` + traffic + `}}`
}

// A write is accepted, refuses all others while it is under way, comes into
// effect after the delay, and loses what its body lacks.
func TestPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.Delay = time.Minute
		const endpoint = path + "/recs?api-version=2024-04-01"
		code, header, body := call(s, "PUT", endpoint, put(`"traffic":{"Blue":95,"green":5}`))
		if code != 200 || !strings.Contains(body, `"provisioningState":"Updating"`) {
			t.Fatalf("PUT: got %d %s, want 200 and Updating", code, body)
		}
		operation := header.Get("Azure-AsyncOperation")
		if !strings.HasPrefix(operation, "http://example.com/subscriptions/s/providers/") {
			t.Errorf("Azure-AsyncOperation: got %q, want an absolute address", operation)
		}
		if _, _, body := call(s, "GET", operation, ""); !strings.Contains(body, "InProgress") {
			t.Errorf("operation: got %s, want InProgress", body)
		}
		for _, method := range []string{"PUT", "PATCH"} {
			if code, _, _ := call(s, method, endpoint, put(`"traffic":{"blue":100}`)); code != 409 {
				t.Errorf("%s while updating: got %d, want 409", method, code)
			}
		}
		if live, _ := s.Traffic("recs"); !maps.Equal(live, map[string]int{"blue": 100}) {
			t.Errorf("in effect while updating: got %v, want blue 100", live)
		}
		time.Sleep(time.Minute)
		if live, _ := s.Traffic("recs"); !maps.Equal(live, map[string]int{"blue": 95, "green": 5}) {
			t.Errorf("in effect: got %v, want blue 95, green 5", live)
		}
		if _, _, body := call(s, "GET", operation, ""); !strings.Contains(body, "Succeeded") {
			t.Errorf("operation: got %s, want Succeeded", body)
		}
		_, _, body = call(s, "GET", endpoint, "")
		if strings.Contains(body, "future") || strings.Contains(body, `"a":"b"`) || !strings.Contains(body, `"keys":null`) {
			t.Errorf("GET: got %s, want what the body lacked to be lost, and no keys", body)
		}
	})
}

// What the service refuses.
func TestRefusals(t *testing.T) {
	s := newServer(t)
	if err := s.SetEndpoint("k8s", `{"properties":{"traffic":{"blue":100},"compute":"/c"}}`); err != nil {
		t.Fatal(err)
	}
	s.SetDeployment("k8s", "blue", "ranker/versions/1", 2, 4)
	s.SetDeployment("k8s", "green", "ranker/versions/1", 2, 4)
	tests := []struct {
		name, method, target, body string
		status                     int
	}{
		{"sum 99", "PUT", "/recs", put(`"traffic":{"blue":99}`), 400},
		{"unknown deployment", "PUT", "/recs", put(`"traffic":{"pink":100}`), 400},
		{"halves", "PUT", "/recs", put(`"traffic":{"blue":99.5,"green":0.5}`), 400},
		{"negative", "PUT", "/recs", put(`"traffic":{"blue":105,"green":-5}`), 400},
		{"mirror of 51%", "PUT", "/recs", put(`"traffic":{"blue":100},"mirrorTraffic":{"green":51}`), 400},
		{"mirror of a live one", "PUT", "/recs", put(`"traffic":{"blue":95,"green":5},"mirrorTraffic":{"green":10}`), 400},
		{"mirror on Kubernetes", "PUT", "/k8s", `{"location":"x","properties":{"authMode":"Key","compute":"/c","traffic":{"blue":100},"mirrorTraffic":{"green":10}}}`, 400},
		{"no location", "PUT", "/recs", `{"properties":{"authMode":"Key"}}`, 400},
		{"no authMode", "PUT", "/recs", `{"location":"x","properties":{}}`, 400},
		{"no JSON", "PUT", "/recs", `{`, 400},
		{"unknown endpoint", "PUT", "/nope", put(`"traffic":{}`), 404},
		{"unknown endpoint", "GET", "/nope", "", 404},
		{"delete", "DELETE", "/recs", "", 405},
		{"traffic off", "PUT", "/recs", put(`"traffic":{"blue":0}`), 200},
		{"tags", "PATCH", "/recs", `{"tags":{"owner":"x"},"properties":{"traffic":{"green":100}}}`, 200},
	}
	for _, tt := range tests {
		if code, _, body := call(s, tt.method, path+tt.target+"?api-version=2024-04-01", tt.body); code != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.name, code, body, tt.status)
		}
	}
	if live, _ := s.Traffic("recs"); len(live) != 0 {
		t.Errorf("after all: got %v, want no traffic: PATCH changes tags alone", live)
	}
	if code, _, _ := call(s, "GET", path+"/recs", ""); code != 400 {
		t.Errorf("GET without api-version: got %d, want 400", code)
	}
	r := httptest.NewRequest("GET", path+"/recs?api-version=1", http.NoBody)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("GET without a token: got %d, want 401", w.Code)
	}
}

// Lists come in pages that lead to each other.
func TestPages(t *testing.T) {
	s := newServer(t)
	s.PageSize = 1
	next, names := path+"/recs/deployments?api-version=1", ""
	for next != "" {
		_, _, body := call(s, "GET", next, "")
		var page struct {
			Value    []struct{ Name string }
			NextLink string
		}
		if err := json.NewDecoder(strings.NewReader(body)).Decode(&page); err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Value {
			names += v.Name + " "
		}
		next = page.NextLink
	}
	if names != "blue green " {
		t.Errorf("names: got %q, want blue green", names)
	}
}
