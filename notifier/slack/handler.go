package slack

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/slack-go/slack"
)

// ServeHTTP is POST /hooks/slack: interactions and slash commands over HTTP, signed
// by Slack, for where Socket Mode is not used. It answers 401 to what is not signed
// with the signing secret within five minutes, 404 where there is none, and 503
// while Run does not run or too much is under way. What is replayed within five minutes is the same act.
func (c *Client) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.config.SigningSecret == "" {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the body cannot be read", status)
		return
	}
	// The signature is over the raw body; nothing is parsed before it holds.
	verifier, err := slack.NewSecretsVerifier(r.Header, c.config.SigningSecret)
	if err == nil {
		_, _ = verifier.Write(body) // a hash takes everything
		err = verifier.Ensure()
	}
	if err != nil {
		http.Error(w, "not signed by Slack", http.StatusUnauthorized)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	c.serve(w, r)
}

// serve handles a request that is Slack's.
func (c *Client) serve(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "not a form", http.StatusBadRequest)
		return
	}
	var a *act
	switch {
	case r.PostForm.Has("payload"):
		ic, err := slack.InteractionCallbackParse(r)
		if err != nil {
			http.Error(w, "not an interaction", http.StatusBadRequest)
			return
		}
		a = c.interaction(ic)
	case r.PostForm.Has("command"):
		sc, err := slack.SlashCommandParse(r)
		if err != nil {
			// Unreachable: the form has been parsed.
			http.Error(w, "not a command", http.StatusBadRequest)
			return
		}
		a = c.command(sc)
	case r.PostForm.Has("ssl_check"):
	default:
		http.Error(w, "neither an interaction nor a command", http.StatusBadRequest)
		return
	}
	if a == nil {
		return
	}
	answer := make(chan any, 1)
	if !c.begin(*a, func(ack any) { answer <- ack }) {
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	payload := <-answer
	if payload == nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(payload)
}
