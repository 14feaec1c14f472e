package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/belayd/belay/rollout/traffic"
)

// A Host is what a Handler serves. Implementations are safe for concurrent use.
type Host interface {
	// Endpoints lists the names of the endpoints.
	Endpoints(ctx context.Context) ([]string, error)
	// Endpoint returns an endpoint's state; an error that wraps traffic.ErrNotFound
	// when there is none.
	Endpoint(ctx context.Context, name string) (EndpointState, error)
	// Shift puts weights and mirror into effect if the endpoint's version is still
	// the given one, as one indivisible act, and returns the new state. to is
	// valid by traffic.Validate. The error wraps traffic.ErrForeignChange when the
	// version is another, traffic.ErrNotFound when there is no such endpoint,
	// traffic.ErrPermanent when the endpoint cannot do it (an unknown deployment, a
	// mirror), and is a *traffic.BusyError when it cannot do it now.
	Shift(ctx context.Context, name, version string, to traffic.Split) (EndpointState, error)
}

// A Handler serves the contract of this package over a Host. Mount it where the
// router's url points, with http.StripPrefix below a path; put authentication
// around it. It is safe for concurrent use.
type Handler struct {
	host Host
	log  *slog.Logger
	mux  *http.ServeMux
}

// NewHandler returns a Handler over host. What the host could not do, beyond
// what the contract has an answer for, goes to log and not to the client; a nil
// log discards it.
func NewHandler(host Host, log *slog.Logger) *Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{host: host, log: log, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET /endpoints", h.list)
	h.mux.HandleFunc("GET /endpoints/{name}", h.get)
	h.mux.HandleFunc("PUT /endpoints/{name}", h.put)
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

func (h *Handler) list(w http.ResponseWriter, r *http.Request) {
	names, err := h.host.Endpoints(r.Context())
	if err != nil {
		h.fail(w, r, err)
		return
	}
	if names == nil {
		names = []string{}
	}
	writeJSON(w, http.StatusOK, map[string][]string{"endpoints": names})
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request) {
	state, err := h.host.Endpoint(r.Context(), r.PathValue("name"))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.answer(w, r, state)
}

func (h *Handler) put(w http.ResponseWriter, r *http.Request) {
	version, ok := entityTag(r.Header)
	if !ok {
		refuse(w, http.StatusPreconditionRequired, `the request has no If-Match with one quoted version, such as "7"`)
		return
	}
	var body struct {
		Weights map[string]int `json:"weights"`
		Mirror  map[string]int `json:"mirror"`
	}
	if err := decode(r.Header, http.MaxBytesReader(w, r.Body, maxBody), &body); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	to := traffic.Split{Weights: body.Weights, Mirror: body.Mirror}
	if err := traffic.Validate(to); err != nil {
		refuse(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	to = traffic.Split{Weights: traffic.Positive(to.Weights), Mirror: traffic.Positive(to.Mirror)}
	state, err := h.host.Shift(r.Context(), r.PathValue("name"), version, to)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.answer(w, r, state)
}

// entityTag reads the one strong entity tag of If-Match.
func entityTag(header http.Header) (string, bool) {
	values := header.Values("If-Match")
	if len(values) != 1 {
		return "", false
	}
	tag, ok := strings.CutPrefix(strings.TrimSpace(values[0]), `"`)
	if !ok {
		return "", false
	}
	version, ok := strings.CutSuffix(tag, `"`)
	return version, ok && checkVersion(version) == nil
}

// answer writes a state, or 500 where the host's state breaks the contract.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, state EndpointState) {
	if err := state.check(); err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("ETag", `"`+state.Version+`"`)
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, state)
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var busy *traffic.BusyError
	switch {
	case errors.As(err, &busy):
		if seconds := int((busy.RetryAfter + time.Second - 1) / time.Second); seconds > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(seconds))
		}
		refuse(w, http.StatusConflict, "another operation is in progress")
	case errors.Is(err, traffic.ErrForeignChange):
		refuse(w, http.StatusPreconditionFailed, "the version is not the one in If-Match; read the endpoint again")
	case errors.Is(err, traffic.ErrNotFound):
		refuse(w, http.StatusNotFound, "there is no such endpoint")
	case errors.Is(err, traffic.ErrPermanent):
		refuse(w, http.StatusUnprocessableEntity, "the endpoint cannot take this split; are its deployments spelt as "+
			"it tells them?")
	case r.Context().Err() != nil:
		// Nobody is there to hear an answer.
	default:
		h.log.ErrorContext(r.Context(), "endpoint request failed", "endpoint", r.PathValue("name"), "method", r.Method,
			"error", err)
		refuse(w, http.StatusInternalServerError, "the endpoint's host failed; see its log")
	}
}

// refuse writes a problem document (RFC 9457).
func refuse(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail,
	})
}

// writeJSON writes an answer; an error means that the client has gone.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
