package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/api"
	"github.com/belayd/belay/rollout/decision"
	"github.com/belayd/belay/rollout/journal"
	"github.com/belayd/belay/rollout/view"
)

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":          "plain\ttext\n",
		"\x1b[31mred\x1b[0m":     "\x1b[31mred\x1b[0m",
		"\x1b[2Jcleared\a\r":     "<U+001B>[2Jcleared<U+0007><U+000D>",
		"\x1b[8mhidden":          "<U+001B>[8mhidden",
		"\x1b]0;title\x07":       "<U+001B>]0;title<U+0007>",
		"\u009b2J eight bits":    "<U+009B>2J eight bits",
		"txt\u202egpj.exe":       "txt<U+202E>gpj.exe",
		"\u2066isolated\u2069":   "<U+2066>isolated<U+2069>",
		"raw \x9b byte":          "raw \ufffd byte",
		"–, ü, 日本, 👍🏽 and an … ": "–, ü, 日本, 👍🏽 and an … ",
	} {
		if got := visible(in); got != want {
			t.Errorf("visible(%q): got %q, want %q", in, got, want)
		}
	}
}

// A server that wants to write on the terminal, whatever it is asked and however
// it is printed: in texts, ids, names, errors. Nothing of it gets through, and
// JSON holds the same texts nevertheless.
func TestHostileServer(t *testing.T) {
	const evil = "a\x1b[2J\x07\u009bK\u202eb\r\x7f"
	r := baking()
	r.ID, r.Policy, r.Owner, r.Version, r.Candidate, r.Sentence, r.Requester = evil, evil, evil, evil, evil, evil, evil
	r.OnBehalfOf, r.WaitingFor, r.RollbackCommand, r.Endpoint = evil, evil, evil, rollout.EndpointRef{Router: evil, Name: evil}
	r.Weights.Asked, r.Step.Name, r.Guardrails[0].Name, r.Guardrails[0].Sentence = map[string]int{evil: 100}, evil, evil, evil
	r.Reason, r.Phase = decision.Reason(evil), rollout.Phase(evil)
	refuses := false
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var out any = r
		switch {
		case refuses:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			out = api.ProblemDetails{Type: evil, Title: evil, Detail: evil, Instance: evil}
		case req.URL.Path == "/v1/rollouts":
			out = api.List{SchemaVersion: 1, Rollouts: []view.Rollout{r}}
		case strings.HasSuffix(req.URL.Path, "/history"):
			out = api.History{SchemaVersion: 1, Rollout: evil, Entries: []journal.Entry{{Seq: 1, Owner: evil, Version: evil,
				Decisions: []decision.Decision{{Kind: decision.Kind(evil), Sentence: evil}}}}}
		case req.URL.Path == "/v1/endpoints":
			out = api.EndpointList{SchemaVersion: 1, Endpoints: []api.Endpoint{{Router: evil, Name: evil, Error: evil, Weights: map[string]int{evil: 1}}}}
		case req.URL.Path == "/v1/triggers":
			out = api.TriggerList{SchemaVersion: 1, Triggers: []api.Trigger{{Name: evil, Error: evil, Subjects: []string{evil}}}}
		}
		_ = json.NewEncoder(w).Encode(out)
	}))
	defer h.Close()
	for _, refuses = range []bool{false, true} {
		for _, command := range [][]string{
			{"status", "x"}, {"list"}, {"history", "x"}, {"explain", "x"}, {"report", "x"}, {"endpoint", "list"}, {"trigger", "list"},
			{"rollback", "x", "--reason", "y"}, {"pause", "x", "--reason", "y"},
		} {
			for _, output := range []string{"table", "json", "yaml", "name"} {
				s := newShell(t)
				s.vars["BELAY_SERVER"] = h.URL
				if code := s.run(append(command, "--output", output)...); code == exitUsage {
					continue // not each has each
				}
				said := s.out.String() + s.err.String()
				if said == "" {
					t.Errorf("%v as %s: got nothing", command, output)
				}
				for _, r := range said {
					if hostile(r) && r != '\n' && r != '\t' {
						t.Errorf("%v as %s: got %U raw in %q", command, output, r, said)
						break
					}
				}
				if output == "json" && !refuses && command[0] == "status" {
					var same view.Rollout
					if err := json.Unmarshal(s.out.Bytes(), &same); err != nil || same.Sentence != evil {
						t.Errorf("the JSON: got %q, %v, want the text as it was sent", same.Sentence, err)
					}
				}
			}
		}
	}
}
