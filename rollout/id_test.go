package rollout

import (
	"regexp"
	"strings"
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

// The names of a notifier in the ways that policies write them.
func TestShortNames(t *testing.T) {
	for said, want := range map[string]string{
		"slack:T1/U2": "slack:U2 T1/U2 U2", "slack:U2": "U2", "U2": "", "": "",
	} {
		if got := strings.Join(ShortNames(said), " "); got != want {
			t.Errorf("ShortNames(%q): got %q, want %q", said, got, want)
		}
	}
}

// People read names; records keep ids.
func TestPersonString(t *testing.T) {
	for p, want := range map[*Person]string{
		{ID: "slack:T1/U2", Name: "Ann"}: "Ann (slack:T1/U2)", {ID: "ann", Name: "ann"}: "ann", {ID: "ci"}: "ci", {}: "nobody named",
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v: got %q, want %q", *p, got, want)
		}
	}
}
