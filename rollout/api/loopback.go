package api

import "net/http"

// Loopback is the Authenticator of a server that only its own machine reaches:
// whoever asks is one person called local, who may do everything. A Config
// without Auth has it.
type Loopback struct{}

// Authenticate implements Authenticator. It refuses a Host that is not this
// machine: a page of a foreign name that resolves to loopback does not get in.
func (Loopback) Authenticate(r *http.Request) (Actor, error) {
	if !loopbackHost(r.Host) {
		return Actor{}, problem(http.StatusMisdirectedRequest, TypeMisdirected, "Not this host",
			"without authentication belayd answers to a loopback address only")
	}
	return local, nil
}
