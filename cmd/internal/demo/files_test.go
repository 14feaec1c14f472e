package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// Speed divides every duration and latency of the policy but the interval and what
// the machine needs for evidence: how long readings may be missing or undecided.
func TestPolicyScales(t *testing.T) {
	one, err := policyText(Options{Speed: 1})
	if err != nil {
		t.Fatal(err)
	}
	four, err := policyText(Options{Speed: 4})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ at1, at4 string }{
		{"interval: 1s", "interval: 1s"},
		{"settle: 2s", "settle: 500ms"},
		{"maxExtend: 30s", "maxExtend: 30s"},
		{"weight: 5%, bake: 20s", "weight: 5%, bake: 5s"},
		{"after: 4s, then: hold, rollbackAfter: 10s", "after: 4s, then: hold, rollbackAfter: 2500ms"},
		{"onSourceError: {after: 10s", "onSourceError: {after: 10s"},
		{`"<= 450ms"`, `"<= 112.5ms"`},
	} {
		if !strings.Contains(one, c.at1) {
			t.Errorf("policy at speed 1 lacks %q", c.at1)
		}
		if !strings.Contains(four, c.at4) {
			t.Errorf("policy at speed 4 lacks %q", c.at4)
		}
	}
}

// The files are YAML whatever the addresses, and only this user may read them.
func TestFilesAreYAML(t *testing.T) {
	dir := t.TempDir()
	w, err := Open(Options{Dir: dir, Speed: 3, Fault: FaultNone})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	for _, path := range []string{w.Policy, w.Config} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := yaml.Unmarshal(b, &v); err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got mode %v, %v", filepath.Base(path), info.Mode(), err)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		in   time.Duration
		want string
	}{
		{20 * time.Second, "20s"}, {300 * time.Millisecond, "300ms"}, {6666667 * time.Microsecond, "6666.667ms"},
		{2500 * time.Millisecond, "2500ms"}, {10 * time.Minute, "600s"},
	} {
		if got := duration(c.in); got != c.want {
			t.Errorf("duration(%v): got %s, want %s", c.in, got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, s := range []float64{0, 0.05, -1, 11, nan()} {
		if got, err := ParseSpeed(s); err == nil {
			t.Errorf("ParseSpeed(%v): got %v, want an error", s, got)
		}
	}
	if _, err := ParseFault("fire"); err == nil || !strings.Contains(err.Error(), "foreign-change") {
		t.Errorf("ParseFault(fire): got %v, want an error that lists the faults", err)
	}
	for _, line := range []string{"", "a\tb", "2026-11-23T00:00:00Z\tblue\tx\t1\tnone", "2026-11-23T00:00:00Z\tblue\t200\tx\tnone"} {
		if got, err := parseRequest(line); err == nil {
			t.Errorf("parseRequest(%q): got %v, want an error", line, got)
		}
	}
}

func nan() float64 { zero := 0.0; return zero / zero }
