package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Contexts name servers and token files; a token goes only to the server that it
// was named for, and never onto the screen.
func TestContexts(t *testing.T) {
	prod, other := newFakeDaemon(t, promoted()), newFakeDaemon(t, promoted())
	s := newShell(t)
	id := promoted().ID
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.want(exitUsage, "context", "set", "prod")
	s.want(exitOK, "context", "set", "prod", "--server", prod.URL, "--token-file", token)
	s.want(exitOK, "context", "set", "other", "--server", other.URL)
	s.want(exitOK, "status", id)
	if got := prod.last("GET").token; got != "s3cret-token" {
		t.Errorf("the current context's token: got %q", got)
	}
	s.want(exitOK, "status", id, "--context", "other")
	s.want(exitOK, "status", id, "--server", other.URL)
	if got := other.last("GET").token; got != "" || len(other.asked) != 2 {
		t.Errorf("another server: got token %q in %d requests, want none in 2", got, len(other.asked))
	}
	s.vars["BELAY_SERVER"], s.vars["BELAY_TOKEN_FILE"] = other.URL, token
	s.want(exitOK, "status", id)
	if got := other.last("GET").token; got != "s3cret-token" {
		t.Errorf("a token named with the server: got %q", got)
	}
	delete(s.vars, "BELAY_SERVER")
	delete(s.vars, "BELAY_TOKEN_FILE")
	s.want(exitOK, "context", "use", "other")
	s.vars["BELAY_CONTEXT"] = "prod"
	s.want(exitOK, "status", id)
	if got := prod.last("GET").token; got != "s3cret-token" {
		t.Errorf("BELAY_CONTEXT: got token %q at prod", got)
	}
	list := s.want(exitOK, "context", "list")
	if !strings.Contains(list, "*  other") || strings.Contains(list, "s3cret") {
		t.Errorf("list: got %s", list)
	}
	for output, want := range map[string]string{"json": `"schemaVersion": 1`, "yaml": "schemaVersion: 1"} {
		if got := s.want(exitOK, "context", "list", "--output", output); !strings.Contains(got, want) || !strings.Contains(got, other.URL) {
			t.Errorf("list as %s: got %s, want %s and the servers", output, got, want)
		}
	}
	s.want(exitOK, "context", "delete", "other")
	s.want(exitError, "context", "use", "other")
	s.want(exitError, "status", id, "--context", "other")
	if info, err := os.Stat(filepath.Join(s.vars["HOME"], ".config", "belay", "contexts.yaml")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: got %v, %v", info, err)
	}
}

// A token file that is not one is named, and what is in it is not.
func TestTokenFiles(t *testing.T) {
	d := newFakeDaemon(t, promoted())
	s := newShell(t)
	for content, want := range map[string]string{"": "one token", "two s3cret": "one token", strings.Repeat("s3cret", 20000): "larger"} {
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s.want(exitError, "status", "x", "--server", d.URL, "--token-file", file)
		if got := s.err.String(); !strings.Contains(got, want) || strings.Contains(got, "s3cret") {
			t.Errorf("%.20q: got %q, want %q and no content", content, got, want)
		}
	}
	s.want(exitError, "status", "x", "--server", d.URL, "--token-file", "/nowhere")
}

// A broken contexts file is an error; no home is none.
func TestNoHome(t *testing.T) {
	d := newFakeDaemon(t, promoted())
	s := newShell(t)
	s.vars["HOME"] = ""
	s.want(exitOK, "status", promoted().ID, "--server", d.URL)
	s.want(exitError, "context", "list")
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("contextz: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.vars["BELAY_CONTEXTS"] = file
	s.want(exitError, "status", promoted().ID, "--server", d.URL)
	if !strings.Contains(s.err.String(), "contextz") {
		t.Errorf("got %q, want the misspelt key", s.err.String())
	}
}
