package folder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// world is a folder with one file, a ConfigMap's links, and a secret beside it.
func world(t *testing.T) (dir, secret string) {
	t.Helper()
	top := t.TempDir()
	dir, secret = filepath.Join(top, "policies"), filepath.Join(top, "secret")
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(secret, "hunter2")
	write(filepath.Join(dir, "plain.yaml"), "plain")
	write(filepath.Join(dir, "..2026", "mounted.yaml"), "mounted")
	link(t, "..2026", filepath.Join(dir, "..data"))
	link(t, "..data/mounted.yaml", filepath.Join(dir, "mounted.yaml"))
	return dir, secret
}

func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

// A folder is a file system like any other, and the links of a mounted ConfigMap
// are followed.
func TestFolder(t *testing.T) {
	dir, _ := world(t)
	for name, want := range map[string]string{"plain.yaml": "plain", "mounted.yaml": "mounted"} {
		b, err := fs.ReadFile(At(dir), name)
		if err != nil || string(b) != want {
			t.Errorf("%s: got %q, %v; want %q", name, b, err, want)
		}
	}
	if _, err := fs.ReadFile(At(dir), "missing.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: got %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := fs.ReadFile(At(filepath.Join(dir, "gone")), "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: got %v, want %v", err, fs.ErrNotExist)
	}
}

// No link and no name leads out of a folder, whether relative, absolute or by way
// of another folder; a file that is kept back is not read under another name.
func TestNothingOutside(t *testing.T) {
	dir, secret := world(t)
	link(t, "../secret", filepath.Join(dir, "relative"))
	link(t, secret, filepath.Join(dir, "absolute"))
	link(t, "..", filepath.Join(dir, "up"))
	link(t, "relative", filepath.Join(dir, "twice"))
	if err := os.Link(secret, filepath.Join(dir, "hard")); err != nil {
		t.Fatal(err)
	}
	link(t, "plain.yaml", filepath.Join(dir, "own"))
	for name, want := range map[string]error{
		"relative": ErrOutside, "absolute": ErrOutside, "up/secret": ErrOutside, "twice": ErrOutside,
		"../secret": fs.ErrInvalid, "/etc/passwd": fs.ErrInvalid, "hard": ErrKept, "plain.yaml": ErrKept, "own": ErrKept,
	} {
		b, err := fs.ReadFile(At(dir, secret, filepath.Join(dir, "plain.yaml"), "/no/such/file"), name)
		if !errors.Is(err, want) || len(b) > 0 {
			t.Errorf("%s: got %q, %v; want %v", name, b, err, want)
		}
	}
}

// What is no regular file is refused at once, also where a reader would wait for
// somebody to write.
func TestOnlyRegularFiles(t *testing.T) {
	dir, _ := world(t)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	link(t, "pipe", filepath.Join(dir, "to-pipe"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, name := range []string{"pipe", "folder", "to-pipe"} {
			if _, err := At(dir).Open(name); !errors.Is(err, ErrIrregular) {
				t.Errorf("%s in the folder: got %v, want %v", name, err, ErrIrregular)
			}
			if _, _, err := ReadFile(filepath.Join(dir, name), 10); !errors.Is(err, ErrIrregular) {
				t.Errorf("%s by its name: got %v, want %v", name, err, ErrIrregular)
			}
		}
		if _, _, err := ReadFile("/dev/zero", 10); !errors.Is(err, ErrIrregular) {
			t.Errorf("/dev/zero: got %v, want %v", err, ErrIrregular)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("a named pipe is waited for")
	}
}

// A file of the operator's is read up to a bound, through links too.
func TestReadFile(t *testing.T) {
	dir, secret := world(t)
	link(t, secret, filepath.Join(dir, "linked"))
	b, info, err := ReadFile(filepath.Join(dir, "linked"), 7)
	if err != nil || string(b) != "hunter2" || info.Mode().Perm() != 0o600 {
		t.Errorf("got %q, %v; want what stands there", b, err)
	}
	if _, _, err := ReadFile(secret, 6); err == nil || !strings.Contains(err.Error(), "larger than 6 bytes") {
		t.Errorf("got %v, want that it is too large", err)
	}
}
