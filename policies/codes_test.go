package policies

import (
	"strings"
	"testing"
)

// Every code that can be reported is described, for SARIF and for people.
func TestCodesAreDescribed(t *testing.T) {
	for code, text := range descriptions {
		if !strings.HasSuffix(text, ".") || code[0] != 'E' && code[0] != 'W' {
			t.Errorf("%s: got %q, want a sentence", code, text)
		}
	}
}
