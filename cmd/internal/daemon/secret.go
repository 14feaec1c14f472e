package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
)

// secretMax bounds a file that holds a secret.
const secretMax = 64 << 10

// A Secret is a value that is never shown: however it is printed, marshalled or
// logged, only stars appear.
type Secret string

// String shows stars.
func (Secret) String() string { return "***" }

// GoString shows stars.
func (Secret) GoString() string { return "***" }

// MarshalText shows stars.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// LogValue shows stars.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// Reveal is the value itself, for the one call that needs it.
func (s Secret) Reveal() string { return string(s) }

var envRef = regexp.MustCompile(`^\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}$`)

// secret reads the file that a …File field names, or the environment variable
// of ${env:NAME}. Space around the value is no part of it.
func (c *Config) secret(field, ref string) (Secret, error) {
	if ref == "" {
		return "", fmt.Errorf("%s: is missing", field)
	}
	if m := envRef.FindStringSubmatch(ref); m != nil {
		v, ok := os.LookupEnv(m[1])
		if !ok || strings.TrimSpace(v) == "" {
			return "", fmt.Errorf("%s: the environment variable %s is not set", field, m[1])
		}
		return Secret(strings.TrimSpace(v)), nil
	}
	name := c.path(ref)
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("%s: read secret: %w", field, err)
	}
	// Its group may read it: that is how Kubernetes hands a secret to a process
	// that is not root.
	if info.Mode().Perm()&0o037 != 0 {
		return "", fmt.Errorf("%s: %s can be read by others (mode %04o); run chmod 600 %s", field, name, info.Mode().Perm(), name)
	}
	if info.Size() > secretMax {
		return "", fmt.Errorf("%s: %s has %d bytes; a secret has at most %d", field, name, info.Size(), secretMax)
	}
	b, err := os.ReadFile(name) //nolint:gosec // the operator names the file
	if err != nil {
		return "", fmt.Errorf("%s: read secret: %w", field, err)
	}
	v := strings.TrimSpace(string(b))
	if v == "" {
		return "", fmt.Errorf("%s: %s is empty", field, name)
	}
	return Secret(v), nil
}
