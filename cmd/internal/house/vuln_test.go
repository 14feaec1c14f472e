package house

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A vulnerability database that cannot be reached is no clean bill: make vuln says
// that nothing was checked, and ends otherwise than when something was found.
func TestVulnSaysWhatItCannotReach(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "../../../.ci/vuln")
	cmd.Env = append(os.Environ(), "GOVULNDB=http://127.0.0.1:1")
	out, err := cmd.CombinedOutput()
	ended, ok := errors.AsType[*exec.ExitError](err)
	if !ok || ended.ExitCode() != 75 || !strings.Contains(string(out), "http://127.0.0.1:1 cannot be reached: nothing was checked") {
		t.Errorf("got %v, want exit code 75 and that nothing was checked: %s", err, out)
	}
}
