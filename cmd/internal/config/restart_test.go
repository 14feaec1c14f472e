package config

import (
	"strings"
	"testing"
)

// What stays as it was must not make what changes dangerous: an address beyond
// this machine does not stay open to everybody because the new config, at an
// address of its own, needs no auth.
func TestRunningConfig(t *testing.T) {
	token := TokenConfig{Name: "ci", Roles: []string{"start"}, SHA256: strings.Repeat("0", 64)}
	wide := Config{File: "belayd.yaml", Listen: "0.0.0.0:7070", Queue: 100,
		Store: StoreConfig{Bolt: &BoltConfig{Path: "a"}}, Auth: AuthConfig{Tokens: []TokenConfig{token}}}
	local := wide
	local.Listen, local.Auth = "127.0.0.1:7070", AuthConfig{}
	if _, _, err := local.Running(&wide); err == nil || !strings.Contains(err.Error(), "listen needs a restart") ||
		!strings.Contains(err.Error(), "no auth is configured") {
		t.Errorf("auth away and listen with it: got %v, want it refused", err)
	}
	now, waiting, err := wide.Running(&local)
	if err != nil || len(waiting) != 1 || now.Listen != local.Listen || len(now.Auth.Tokens) != 1 {
		t.Errorf("auth and a wide address: got %+v, %v, %v, want auth at the old address", now, waiting, err)
	}
	cards := wide
	cards.Auth = AuthConfig{TLS: &TLSConfig{}, MTLS: &MTLSConfig{}}
	if _, _, err := cards.Running(&wide); err == nil || !strings.Contains(err.Error(), "auth.tls needs a restart") ||
		!strings.Contains(err.Error(), "add auth.tls") {
		t.Errorf("client certificates where there is no TLS: got %v, want it refused", err)
	}
	plain := cards
	plain.Auth = AuthConfig{Tokens: []TokenConfig{token}}
	if now, waiting, err := plain.Running(&cards); err != nil || len(waiting) != 1 || now.Auth.TLS == nil || now.Auth.MTLS != nil {
		t.Errorf("TLS away: got %+v, %v, %v, want TLS until a restart and the certificates' rights gone", now, waiting, err)
	}
}
