package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// read decodes a body strictly: one JSON object, no field that is not known, none
// twice.
func read(r *http.Request, into any, limit int64) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err == nil {
		err = d.Decode(into)
	}
	if err == nil {
		err = once(body)
	}
	if err != nil {
		return badRequest("body: " + clip(strings.TrimPrefix(err.Error(), "json: "), 200))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("body: something follows the JSON object")
	}
	return nil
}

// once refuses an object with a field that stands there twice. A field is found
// in capitals too, so that of "policy" and "Policy" the last would count, and
// whoever else reads the request might take the first.
func once(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return err // unreachable: the body was decoded
	}
	var seen []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		field, _ := name.(string)
		if slices.ContainsFunc(seen, func(s string) bool { return strings.EqualFold(s, field) }) {
			return fmt.Errorf("field %q stands there twice", field)
		}
		seen = append(seen, field)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
	}
	return nil
}
