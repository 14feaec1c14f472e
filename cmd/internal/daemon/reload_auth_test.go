package daemon

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// The issuer is away when somebody is given a name: its keys are known already, so
// that everybody still gets in, as who they are by now. What the keys are worth
// follows the config too, and those of another issuer are not taken for its own.
func TestReloadKeepsIssuerKeys(t *testing.T) {
	is, other := newIssuer(t), newIssuer(t)
	s := at(newEstate().place(t), "ann")
	with := func(issuer *issuer, roles, more string) settings {
		s.people = "  oidc: {issuer: '" + issuer.URL + "', audience: belay, algorithms: [ES256], grants: [{subject: eve, roles: [" + roles + "]}]}\n" + more
		return s
	}
	b := run(t, with(is, "view", ""))
	const cooldown = "/v1/endpoints/edge/recs/cooldown"
	ask := func(method, path string, issuer *issuer) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+b.address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+issuer.token(t, "eve", "belay"))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if code, body := ask("DELETE", cooldown, is); code != http.StatusForbidden || !strings.Contains(body, "oidc:eve has none") {
		t.Fatalf("before: got %d %s", code, body)
	}
	is.Close()
	b.take(with(is, "view", "people: [{id: eve.smith, oidc: eve}]\n"))
	if code, body := ask("DELETE", cooldown, is); code != http.StatusForbidden || !strings.Contains(body, "eve.smith has none") {
		t.Errorf("with a name: got %d %s, want 403 to eve.smith", code, body)
	}
	b.take(with(is, "admin", ""))
	if code, body := ask("GET", "/v1/rollouts", is); code != http.StatusOK {
		t.Errorf("with another grant: got %d %s, want 200", code, body)
	}
	b.take(with(other, "admin", ""))
	if code, body := ask("GET", "/v1/rollouts", is); code != http.StatusUnauthorized {
		t.Errorf("a token of the issuer before: got %d %s, want 401", code, body)
	}
	if code, body := ask("GET", "/v1/rollouts", other); code != http.StatusOK {
		t.Errorf("a token of the new issuer: got %d %s, want 200", code, body)
	}
}
