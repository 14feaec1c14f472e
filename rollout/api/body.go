package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/belayd/belay/analysis/unique"
)

// read decodes a body strictly: one JSON object, no field that is not known, none
// twice.
func read(r *http.Request, into any, limit int64) error {
	body, err := receive(r, limit)
	if err != nil {
		return err
	}
	return decode(body, into)
}

// receive takes a body, however long it takes to come, and makes nothing of it.
func receive(r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, err
	}
	if err != nil {
		return nil, badBody(err)
	}
	return body, nil
}

// decode is read of a body that has come.
func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		err = unique.Fields(body, true) // of "policy" and "Policy" the last would count
	}
	if err != nil {
		return badBody(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("body: something follows the JSON object")
	}
	return nil
}

// badBody says what is wrong with a body.
func badBody(err error) *ProblemDetails {
	return badRequest("body: " + clip(strings.TrimPrefix(err.Error(), "json: "), 200))
}
