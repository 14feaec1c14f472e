package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belayd/belay/rollout/realtest"
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
		kill := time.AfterFunc(rand.N(60*time.Millisecond), func() { _ = cmd.Process.Kill() })
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

// A process that makes a store, or compacts one, is killed at any instant. The
// next one finds no file or a whole one, old or new, with everything in it.
func TestKillWhileOpening(t *testing.T) {
	sparse := newPath(t)
	dump := makeSparse(t, sparse)
	data, err := os.ReadFile(sparse)
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for round := range 30 {
		path, want := newPath(t), ""
		if round%2 == 0 {
			want = dump
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := child(t, "open", path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(25 * time.Millisecond))
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err != nil {
			killed++
		}
		s, err := Open(path, testOptions())
		if err != nil {
			t.Fatalf("round %d: Open after a kill: %v", round, err)
		}
		if got := dumped(t, s); got != want {
			t.Errorf("round %d: got %d bytes of content after a kill, want %d", round, len(got), len(want))
		}
		if err := s.Close(); err != nil {
			t.Errorf("round %d: Close: %v", round, err)
		}
	}
	t.Logf("%d of 30 were killed before they had ended", killed)
}

// The power goes: what the disk has at that instant is all there is. The disk is
// the image of a file system; the process is stopped, so that the copy of the
// image is that of one instant, and never gets to sync anything again.
// Everything acknowledged must be in the copy. A store that does not sync is
// caught.
func TestPowerCut(t *testing.T) {
	mkfs, mount, umount := realtest.Program(t, "mkfs.ext4"), realtest.Program(t, "mount"), realtest.Program(t, "umount")
	for _, test := range []struct {
		story, child string
		lost         bool
	}{{"the store as it is", "append", false}, {"a store that does not sync", "no sync", true}} {
		t.Run(test.story, func(t *testing.T) {
			dir := t.TempDir()
			image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
			if err := errors.Join(os.Mkdir(mnt, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20)); err != nil {
				t.Fatal(err)
			}
			run(t, mkfs, "-q", "-F", image)
			if out, err := exec.CommandContext(t.Context(), mount, "-o", "loop", image, mnt).CombinedOutput(); err != nil {
				realtest.Missing(t, "no real disk to cut off: mount: %v: %s (it takes root)", err, out)
			}
			defer run(t, umount, mnt)
			// The store itself is older than the last sync of the file system.
			if err := opened(t, filepath.Join(mnt, "belay.db"), testOptions()).Close(); err != nil {
				t.Fatal(err)
			}
			counts := make(map[string]int)
			cmd := child(t, test.child, filepath.Join(mnt, "belay.db"))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			for range 200 {
				line, err := lines.ReadString('\n')
				if err != nil {
					t.Fatalf("the child printed %q, %v", line, err)
				}
				acknowledged(t, line, counts)
			}
			if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			after := filepath.Join(dir, "after")
			data, err := os.ReadFile(image)
			if err == nil {
				err = os.WriteFile(after, data, 0o600)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // It was killed.
			if err != nil {
				t.Fatal(err)
			}
			run(t, umount, mnt)
			run(t, mount, "-o", "loop", after, mnt)
			s, err := Open(filepath.Join(mnt, "belay.db"), testOptions())
			if err != nil && !test.lost {
				t.Fatalf("Open after the power cut: %v", err)
			}
			missing := -1 // The file does not even open.
			if err == nil {
				missing = missingRecords(t, s, counts)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if lost := missing != 0; lost != test.lost {
				t.Errorf("got %d of 200 acknowledged appends lost, want some lost: %t", missing, test.lost)
			}
		})
	}
}

// missingRecords is how many of the acknowledged appends the store has not.
func missingRecords(t *testing.T, s *Store, counts map[string]int) int {
	t.Helper()
	missing := 0
	for key, known := range counts {
		n := 0
		for _, err := range s.History(t.Context(), key) {
			if err == nil {
				n++
			} else if !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("History(%s): %v", key, err)
			}
		}
		missing += max(0, known-n)
	}
	return missing
}

// run runs a program that must succeed.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// fdatasync fails with EIO, in the kernel's own words: strace puts the error in
// its place. The first of a commit's two leaves the old value, the second the
// new one; nobody can tell before a new process has read the file.
func TestSyncFails(t *testing.T) {
	strace := realtest.Program(t, "strace")
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
				realtest.Missing(t, "the real strace may not trace here: %v", err)
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
