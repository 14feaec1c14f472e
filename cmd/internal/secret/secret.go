// Package secret keeps what a config must not tell: it reads secrets, refuses those
// that stand in the config itself or that others can read, and takes them out of
// what the token endpoints of others say.
//
// The rules of the package:
//   - A secret is named by a file or by ${env:NAME}; it never stands in the config.
//   - A file with a secret is read by its owner and its group alone; a file whose
//     content is believed, such as an authority's certificates, is written by them
//     alone.
//   - No error holds a secret, nor text that may be one: where a secret stands in
//     the place of a file's name, that name is not shown.
//
// It does not encrypt, and does not watch files.
package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/belayd/belay/cmd/internal/folder"
)

// fileMax bounds a file that holds a secret.
const fileMax = 64 << 10

// A Value is a secret. However it is printed, marshalled or logged, only stars
// appear.
type Value string

// String shows stars.
func (Value) String() string { return "***" }

// GoString shows stars.
func (Value) GoString() string { return "***" }

// MarshalText shows stars.
func (Value) MarshalText() ([]byte, error) { return []byte("***"), nil }

// LogValue shows stars.
func (Value) LogValue() slog.Value { return slog.StringValue("***") }

// Reveal is the value itself, for the one call that needs it.
func (v Value) Reveal() string { return string(v) }

var envRef = regexp.MustCompile(`^\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}$`)

// IsEnv reports whether a value of the config is ${env:NAME}.
func IsEnv(ref string) bool { return envRef.MatchString(ref) }

// Env is the value of the environment variable that ${env:NAME} names. Space around
// it is no part of it.
func Env(ref string) (Value, error) {
	m := envRef.FindStringSubmatch(ref)
	if m == nil {
		return "", errors.New("want ${env:NAME}")
	}
	v := strings.TrimSpace(os.Getenv(m[1]))
	if v == "" {
		return "", fmt.Errorf("the environment variable %s is not set", m[1])
	}
	return Value(v), nil
}

// Read reads what a …File setting says: a file, which is relative to dir, or
// ${env:NAME}. Space around the secret is no part of it.
func Read(dir, ref string) (Value, error) {
	if ref == "" {
		return "", errors.New("is missing")
	}
	if IsEnv(ref) {
		return Env(ref)
	}
	name := within(dir, ref)
	if err := checkMode(dir, ref, false); err != nil {
		return "", err
	}
	b, _, err := folder.ReadFile(name, fileMax)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	v := strings.TrimSpace(string(b))
	if v == "" {
		return "", fmt.Errorf("%s is empty", name)
	}
	return Value(v), nil
}

// within makes a name of a file relative to a folder.
func within(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// checkMode looks at who may read the file, or, where its content is no secret,
// who may write it. Its group may read a secret: that is how Kubernetes hands one to
// a process that is not root.
func checkMode(dir, ref string, public bool) error {
	name := within(dir, ref)
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("read secret: %w", err)
	case err != nil: // none, or a text that cannot be a name
		if public {
			return fmt.Errorf("%s: no such file", name)
		}
		return missing(name, ref)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: %w", name, folder.ErrIrregular)
	}
	switch mode := info.Mode().Perm(); {
	case public && mode&0o002 != 0:
		return fmt.Errorf("%s can be written by everybody (mode %04o); run chmod o-w %s", name, mode, name)
	case !public && mode&0o037 != 0:
		return fmt.Errorf("%s can be read by others (mode %04o); run chmod 600 %s", name, mode, name)
	}
	return nil
}

// missing says that there is no such file, and names it where that cannot be the
// secret itself, written in the place of the name of its file: where the name has a
// folder, and that is there.
func missing(name, ref string) error {
	if info, err := os.Stat(filepath.Dir(name)); strings.ContainsRune(ref, filepath.Separator) && err == nil &&
		info.IsDir() {
		return fmt.Errorf("%s: no such file", name)
	}
	return errors.New("no such file; its name is not shown, for it might be the secret itself; want the name of a " +
		"file, or ${env:NAME}")
}
