package bolt

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/belayd/belay/store"
)

// Processes that append as fast as they can are killed at any instant, one
// after the other, on one file. Whatever was acknowledged is there, nothing is
// there twice, and the file is sound.
func TestKill(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	path := newPath(t)
	counts := make(map[string]int)
	total, unanswered := 0, 0
	for round := range rounds {
		cmd := child(t, "append", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		line, err := lines.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "error:") {
			t.Fatalf("round %d: the child printed %q, %v", round, line, err)
		}
		kill := time.AfterFunc(rand.N(60*time.Millisecond), func() { _ = cmd.Process.Kill() }) //nolint:gosec // Any instant will do.
		for err == nil {
			if strings.HasPrefix(line, "error:") {
				t.Fatalf("round %d: the child printed %q", round, line)
			}
			acknowledged(t, line, counts)
			total++
			line, err = lines.ReadString('\n')
		}
		_ = cmd.Wait() // It was killed.
		kill.Stop()

		s := opened(t, path, testOptions())
		unanswered += checkChains(t, s, counts)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if total < 100 {
		t.Errorf("got %d acknowledged appends, want at least 100 to prove anything", total)
	}
	t.Logf("%d kills, %d acknowledged appends, 0 lost, %d written whose answer was lost", rounds, total, unanswered)
}

// checkChains checks that each key counts from 0 without a gap and has at least
// what was acknowledged. It returns how many it has beyond that, and counts
// them as known.
func checkChains(t *testing.T, s *Store, counts map[string]int) int {
	t.Helper()
	beyond := 0
	for key, known := range counts {
		n := 0
		var previous store.Revision
		for r, err := range s.History(t.Context(), key) {
			if err != nil {
				t.Fatalf("History(%s): %v", key, err)
			}
			if string(r.Entry) != fmt.Sprint(n) || r.Revision <= previous {
				t.Fatalf("%s: got entry %s at %d after %d, want %d later", key, r.Entry, r.Revision, previous, n)
			}
			previous = r.Revision
			n++
		}
		if n < known {
			t.Errorf("%s: got %d records, want the %d that were acknowledged", key, n, known)
		}
		beyond += n - known
		counts[key] = n
	}
	return beyond
}

// fdatasync fails with EIO, in the kernel's own words: strace puts the error in
// its place. The first of a commit's two leaves the old value, the second the
// new one; nobody can tell before a new process has read the file.
func TestSyncFails(t *testing.T) {
	strace := realProgram(t, "strace")
	for _, test := range []struct {
		sync int
		want string // the last entry, to a new process
	}{{3, "0"}, {4, "1"}} {
		t.Run(fmt.Sprintf("sync %d of 4", test.sync), func(t *testing.T) {
			path := newPath(t)
			if err := opened(t, path, testOptions()).Close(); err != nil {
				t.Fatal(err)
			}
			cmd := child(t, "sync", path, strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=fdatasync", "-e", fmt.Sprintf("inject=fdatasync:error=EIO:when=%d", test.sync))
			out, err := cmd.Output()
			if err != nil {
				if strings.Contains(string(out), "append") {
					t.Fatalf("the child: %v\n%s", err, out)
				}
				skipReal(t, fmt.Sprintf("the real strace may not trace here: %v", err))
			}
			for _, want := range []string{
				"append 0: unknown false broken false", "head 0: broken false",
				"append 1: unknown true broken true eio true", "head 1: broken true",
				"append 2: unknown false broken true", "head 2: broken true",
			} {
				if !strings.Contains(string(out), want) {
					t.Errorf("the child printed\n%swant %q in it", out, want)
				}
			}
			r, err := opened(t, path, testOptions()).Head(t.Context(), "a")
			if err != nil || string(r.Entry) != test.want {
				t.Errorf("Head in a new process: got %q, %v; want %q", r.Entry, err, test.want)
			}
		})
	}
}

// A limit on the size of files is a full disk: said, survived, and over when
// something is deleted.
func TestFileSizeLimit(t *testing.T) {
	path := newPath(t)
	out, err := child(t, "limited", path).Output()
	if err != nil {
		t.Fatalf("the child: %v\n%s", err, out)
	}
	if !regexp.MustCompile(`stopped after \d+ appends: append k/\d+: store: full: .*; make room on the disk of `).Match(out) {
		t.Errorf("the child printed %q, want that it was stopped, why and what helps", out)
	}
	if _, err := opened(t, path, testOptions()).Head(t.Context(), "after"); err != nil {
		t.Errorf("Head after it was full: %v", err)
	}
}
