package rollout

import (
	"regexp"
	"testing"
)

// An id depends on both parts and on where one ends and the other begins.
func TestNewID(t *testing.T) {
	seen := map[string][2]string{}
	for _, in := range [][2]string{{"a", "b"}, {"", "ab"}, {"ab", ""}, {"a", "c"}, {"b", "a"}} {
		id := NewID(in[0], in[1])
		if !regexp.MustCompile(`^[a-z2-7]{20}$`).MatchString(id) {
			t.Errorf("NewID(%q, %q): got %q", in[0], in[1], id)
		}
		if before, ok := seen[id]; ok {
			t.Errorf("NewID(%q, %q) and NewID(%q, %q): both %s", in[0], in[1], before[0], before[1], id)
		}
		seen[id] = in
	}
	if got, want := NewID("api", "key-1"), NewID("api", "key-1"); got != want {
		t.Errorf("NewID twice: got %s, then %s", want, got)
	}
}
