package blackbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/belayd/belay/rollout"
	"github.com/belayd/belay/rollout/realtest"
	"github.com/belayd/belay/rollout/view"
)

// What deploy/ci gives to pipelines does what it says when its script runs: a release
// that is promoted ends well, one that is not fails the job, each leaves the id and the
// way back in the log and the outcome where the pipeline finds it.
func TestPipelines(t *testing.T) {
	t.Parallel()
	e := newEndpoints(t, "recs")
	w := newWorld(t, e, tokens(map[string]string{"ci": "start", "sre": "operate", "viewer": "view"}),
		policy("recs", "recs", "", "[{weight: 50%, bake: 1s}, {weight: 100%, bake: 1s}]"),
		policy("slow", "recs", "", "[{weight: 50%, bake: 1h}, {weight: 100%, bake: 1s}]"))
	for _, actor := range []string{"ci", "sre", "viewer"} {
		w.write("token-"+actor, tokenOf(actor)+"\n")
	}
	token := filepath.Join(w.dir, "token-ci")
	pipelines := []struct {
		name, script, outcome string
		env                   []string
	}{
		{"github", pipeline(t, "github/action.yml", "runs", "steps", "0", "run"), "rollout.json", []string{
			"RUNNER_TEMP=.", "GITHUB_OUTPUT=output", "GITHUB_REPOSITORY=a/b", "GITHUB_RUN_ID=7", "FOLLOW=5m", "TOKEN=" + tokenOf("ci"),
		}},
		{"gitlab", pipeline(t, "gitlab.yml", "release", "script", "0"), "rollout.json", []string{
			"CI_PROJECT_PATH=a/b", "BELAY_TOKEN_FILE=" + token,
		}},
		{"azure", pipeline(t, "azure-pipelines.yml", "steps", "0", "bash"), "rollout.json", []string{
			"AGENT_TEMPDIRECTORY=.", "BUILD_BUILDID=7", "TOKEN=" + tokenOf("ci"),
		}},
	}
	candidate := map[bool]string{true: "green", false: "blue"}
	for i, p := range pipelines {
		t.Run(p.name, func(t *testing.T) {
			job := func(policy, to, attempt string) *exec.Cmd {
				cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", p.script)
				cmd.Dir = t.TempDir()
				cmd.Env = append(os.Environ(), append(p.env, "PATH="+filepath.Dir(w.belay)+":"+os.Getenv("PATH"), "BELAY_SERVER=http://"+w.address,
					"POLICY="+policy, "CANDIDATE="+to, "VERSION="+p.name+attempt, "GITHUB_RUN_ATTEMPT="+attempt, "SYSTEM_JOBATTEMPT="+attempt, "CI_JOB_ID="+attempt, "HOME="+cmd.Dir)...)
				return cmd
			}
			to, back := candidate[i%2 == 0], candidate[i%2 != 0]
			good := job("recs", to, "1")
			out, err := good.CombinedOutput()
			if err != nil || !strings.Contains(string(out), " started: "+to) || !strings.Contains(string(out), "roll back  belay rollback ") {
				t.Fatalf("a good release: %v: %s", err, out)
			}
			if x := outcomeOf(t, filepath.Join(good.Dir, p.outcome)); x.Phase != rollout.PhasePromoted || x.Exit != 0 {
				t.Errorf("a good release: got %s with exit %d", x.Phase, x.Exit)
			}
			bad := job("slow", back, "2")
			var log bytes.Buffer
			bad.Stdout, bad.Stderr = &log, &log
			if err := bad.Start(); err != nil {
				t.Fatal(err)
			}
			realtest.Eventually(t, "the candidate to have 50%", func() bool { return e.green("recs") == 50 })
			id := openID(t, w)
			w.want(0, "sre", "rollback", id, "--reason", "a hunch")
			err = bad.Wait()
			if x, ok := errors.AsType[*exec.ExitError](err); !ok || x.ExitCode() != 6 {
				t.Errorf("a release that a person put back: got %v, want exit code 6: %s", err, &log)
			}
			if x := outcomeOf(t, filepath.Join(bad.Dir, p.outcome)); x.Phase != rollout.PhaseStopped || x.Exit != 6 || x.ID != id {
				t.Errorf("a release that a person put back: got %s %s with exit %d", x.ID, x.Phase, x.Exit)
			}
			if _, err := os.Stat(filepath.Join(bad.Dir, "belay-token")); err == nil || strings.Contains(log.String(), tokenOf("ci")) {
				t.Error("the token was left behind")
			}
			if p.name == "github" {
				got, err := os.ReadFile(filepath.Join(bad.Dir, "output"))
				if want := "id=" + id + "\nphase=stopped\n"; err != nil || string(got) != want {
					t.Errorf("outputs of the action: got %q, %v, want %q", got, err, want)
				}
			}
		})
	}
	t.Run("curl", func(t *testing.T) { curlTwice(t, w, token) })
}

// curlTwice starts a rollout without belay, and again with the same key.
func curlTwice(t *testing.T, w *world, token string) {
	var ids []string
	for range 2 {
		cmd := exec.CommandContext(t.Context(), "sh", filepath.Join("..", "..", "..", "deploy", "ci", "curl.sh"))
		cmd.Env = append(os.Environ(), "BELAY_SERVER=http://"+w.address, "BELAY_TOKEN_FILE="+token, "POLICY=slow", "CANDIDATE=blue", "VERSION=c1", "KEY=build 12")
		out, err := cmd.Output()
		var r view.Rollout
		if err = errors.Join(err, json.Unmarshal(out, &r)); err != nil {
			t.Fatalf("curl.sh: %v: %s", err, out)
		}
		ids = append(ids, r.ID)
	}
	if ids[0] == "" || ids[0] != ids[1] {
		t.Errorf("the same key twice: got %q, want one rollout", ids)
	}
}

// pipeline is a script of a file of deploy/ci: where the path leads.
func pipeline(t *testing.T, file string, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "ci", file))
	if err != nil {
		t.Fatal(err)
	}
	var at any
	if err := yaml.Unmarshal(b, &at); err != nil {
		t.Fatal(err)
	}
	for _, word := range path {
		switch x := at.(type) {
		case map[string]any:
			at = x[word]
		case []any:
			at = x[int(word[0]-'0')]
		}
	}
	script, ok := at.(string)
	if !ok || strings.Contains(script, "${{") {
		t.Fatalf("%s: got %v at %v, want a script that takes its values from the environment", file, at, path)
	}
	return script
}

// outcomeOf is the one document that a pipeline keeps.
func outcomeOf(t *testing.T, file string) (x struct {
	view.Rollout
	Exit int `json:"exit"`
}) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err = errors.Join(err, json.Unmarshal(b, &x)); err != nil {
		t.Fatalf("%s: %v: %s", file, err, b)
	}
	return x
}

// openID is the id of the only rollout that has not ended.
func openID(t *testing.T, w *world) string {
	t.Helper()
	open := strings.Fields(w.want(0, "viewer", "list", "--phase", "open", "--output", "name"))
	if len(open) != 1 {
		t.Fatalf("open rollouts: got %q, want one", open)
	}
	return open[0]
}
